"""Reads what Airflow says about a file that it could not import: which line, what, and what kind of problem. Pure.

Both majors of Airflow keep the text of a traceback, or only the last line of one.
"""

import re

from dagferry_checker.problems import MAX_MESSAGE_CHARACTERS, MAX_TRACE_BYTES, Fault, Kind

_FRAME = re.compile(r'^ +File "([^"\n]+)", line (\d+)', re.MULTILINE)
_HEAD = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?\Z", re.DOTALL)

_KINDS = {
    "SyntaxError": Kind.SYNTAX,
    "IndentationError": Kind.SYNTAX,
    "TabError": Kind.SYNTAX,
    "MemoryError": Kind.MEMORY,
    "AirflowTaskTimeout": Kind.TIMEOUT,
    "AirflowDagCycleException": Kind.CYCLE,
    "AirflowDagDuplicatedIdException": Kind.DUPLICATE,
    "SystemExit": Kind.EXIT,
}
_TEXTS = (
    ("Cycle detected in ", Kind.CYCLE),
    ("unable to open database file", Kind.DATABASE),
    ("Direct database access", Kind.DATABASE),
    ("DagBag import timeout", Kind.TIMEOUT),
)
_NETWORK = frozenset(
    {
        *("ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "ConnectTimeout", "ConnectTimeoutError"),
        *("gaierror", "URLError", "MaxRetryError", "NewConnectionError", "NameResolutionError", "ProxyError"),
        *("EndpointConnectionError", "ServiceUnavailable", "ConnectError", "NoBrokersAvailable"),
    }
)
"""The names of exceptions that say that something on the network cannot be reached. The checker may not reach it,
though Airflow can."""
_NETWORK_TEXT = re.compile(
    r"Name or service not known|Temporary failure in name resolution|Network is unreachable|Connection refused"
    r"|could not translate host name|No route to host"
)
_NEVER_A_VALUE = frozenset({"ModuleNotFoundError", "ImportError", "NameError", "UnboundLocalError"})
"""Exceptions that no value of a Variable causes."""


def read_trace(text: str, path: str, tree: str, *, serialize: bool = False) -> Fault:
    """Return what the traceback ``text`` says about the file at ``path`` in the folder ``tree``.

    The paths in it become relative to the tree. ``serialize``: the file was imported, and its DAG cannot be stored.
    """
    text = text.strip("\n").rstrip().replace(f"{tree}/", "")
    frames = list(_FRAME.finditer(text))
    head = text[frames[-1].start() :] if frames else text
    lines = head.splitlines()[1:] if frames else head.splitlines()
    message = "\n".join(_from_first_outside(lines)) or text
    name, said = _split(message)
    kind = Kind.SERIALIZE if serialize else _kind_of(name, message)
    line = next((int(frame[2]) for frame in reversed(frames) if frame[1] == path), 0)
    soft = kind in {Kind.IMPORT, Kind.SERIALIZE} and name not in _NEVER_A_VALUE
    shown = " ".join(message.split())[:MAX_MESSAGE_CHARACTERS]
    if kind is Kind.DATABASE:
        shown = f"The file uses Airflow's database at its top level. {shown}"[:MAX_MESSAGE_CHARACTERS]
    if kind is Kind.EXIT:
        shown = f"The file ended its process with {name}{': ' * bool(said)}{said}"[:MAX_MESSAGE_CHARACTERS]
    return Fault(line, shown or "The import failed.", kind, trace_end(text), soft)


def without_scratch(text: str, scratch: str) -> str:
    """Return a text in which the homes of DAG files, in the folder ``scratch``, are ``~``.

    Each parse has another one, so without that an old error would look new.
    """
    return re.sub(rf"{re.escape(scratch)}/engine-\w{{8}}(?:/home-\w{{8}})?(?!\w)", "~", text) if scratch else text


def needs_network(fault: Fault) -> bool:
    """Return whether an error says that something on the network cannot be reached."""
    name, _ = _split(fault.message)
    return fault.kind is Kind.IMPORT and (name in _NETWORK or _NETWORK_TEXT.search(fault.message) is not None)


def read_fault_log(text: str, path: str, tree: str) -> tuple[int, str]:
    """Return the line of the file in what ``faulthandler`` wrote, innermost frame first, and the text; 0: unknown."""
    text = text.replace(f"{tree}/", "")
    line = next((int(frame[2]) for frame in _FRAME.finditer(text) if frame[1] == path), 0)
    return line, trace_end(text)


def trace_end(text: str) -> str:
    """Return the end of a trace, at most ``MAX_TRACE_BYTES`` in UTF-8: the last lines say what happened."""
    return text.encode(errors="replace")[-MAX_TRACE_BYTES:].decode(errors="ignore")


def _from_first_outside(lines: list[str]) -> list[str]:
    """Return the lines from the first one on that is not indented: what is before belongs to the last frame."""
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            return lines[number:]
    return []


def _split(message: str) -> tuple[str, str]:
    """Return the name of the exception without its module, and what it says."""
    match = _HEAD.match(message)
    if not match or " " in match[1]:
        return "", message
    return match[1].rpartition(".")[2], (match[2] or "").strip()


def _kind_of(name: str, message: str) -> Kind:
    for text, kind in _TEXTS:
        if text in message:
            return kind
    return _KINDS.get(name, Kind.IMPORT)
