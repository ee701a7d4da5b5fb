r"""Which data files (YAML, SQL, JSON, CSV, …) a Python source may read, guessed from its text.

A text cannot show for certain what a program opens, so the rules find too many files rather than too few: a DAG file
that is parsed once more than needed costs one parse, one that is missed is out of date for minutes. A source may read

- the files that a name anywhere in its text, even in a comment, can mean: ``orders.sql``, ``sql/orders.sql``,
  ``f"{team}_config.yml"``, ``*.yml`` or just ``.yaml``. Only names with one of the endings in ``_MARK`` are found;
- if it lists folders (``glob``, ``os.walk``, …) or names a library that does (``_LISTING_IMPORTS``): all data below its
  own folder, and below every folder of the bundle that a string in it names.

What is found is kept as hints: ``orders.sql`` is a file of that name in any folder, ``sql/orders.sql`` one in a folder
``sql``, ``a*_b.sql`` one whose name starts with ``a`` and ends with ``_b.sql``, ``sql/`` all below any folder ``sql``,
``./`` all below the source's own folder, ``/`` all of the bundle. ``readers.py`` finds the hints that fit a path.
"""

import re
from collections.abc import Iterable, Iterator

from dagferry_core.source.scan import ANYTHING

MAX_HINT_BYTES = 64 * 1024
"""How much text of hints is kept of one file; a file with more counts as reading everything."""
MAX_STRINGS = 20_000
"""How many strings are looked at in a file that lists folders; one that has more counts as reading everything."""
MAX_START = 8
"""How many characters before a wildcard count: enough to tell names apart, and few to look up."""
MAX_PARTS = 3
"""How many parts after a wildcard count. Each starts with one of ``PART_STARTS``."""
PART_STARTS = "._-"
OWN_FOLDER = "./"
EVERYTHING = "/"

_MAX_NAME_BYTES = 200
_PART_STARTS = PART_STARTS.encode()
_COST_BYTES = 8
"""The minimum cost of one name, so that a million short ones end the search too."""

# As in scan.py, the time is linear whatever the text. One pass finds all that starts with a dot: calls that list,
# and the endings of files' names. To look at the next letter first, and to have one branch for each letter, makes it
# twice as fast. Endings that are as often attributes (cfg.env) count at the end of a string only.
_LISTING = frozenset({b".glob", b".rglob", b".iglob", b".iterdir", b".listdir", b".walk", b".scandir"})
_END = rb"(?=[\"'])"
_MARK = re.compile(
    rb"\.(?=[a-z])(?:avsc|c(?:sv|fg|onf"
    + _END
    + rb")|d(?:dl|ml|at"
    + _END
    + rb")|env"
    + _END
    + rb"|g(?:lob|ql|raphql|z)|"
    rb"h(?:ql|tml?)|i(?:glob|ni|terdir)|j(?:son[lc5]?|2|inja2?)|key"
    + _END
    + rb"|l(?:istdir|ock"
    + _END
    + rb")|md|ndjson|"
    rb"p(?:arquet|kl|roperties" + _END + rb")|r(?:glob|st)|s(?:h|ql|candir)|t(?:oml|sv|xt|mpl|pl)|walk|x(?:ml|lsx?)|"
    rb"y(?:a?ml|[a*?\[\]]{1,5}ml)|zip)(?!\w)"
)
_NAME_BACKWARDS = re.compile(
    rb"(?:\}{1,2}[^{}\n]{0,80}\{{1,2}|s\)\w{1,40}\(%%|[sd]%%|[\w\-.*?\[\]/~@+$\x80-\xff]){0,%d}" % _MAX_NAME_BYTES
)
_FIELD = re.compile(rb"\{+[^{}]*\}+|%\(\w+\)s|%[sd]")
_SPECIAL = re.compile(rb"[{%]")
_WILDCARD = re.compile(rb"[*?\[\]]+")
_YAML = re.compile(rb"\.y[a*?\[\]]*ml\Z")
# The last part of a path that is neither a field nor a wildcard, at the end of a string.
_FOLDER = re.compile(rb"[\"'/}]([\w\-.~@+$\x80-\xff]{1,80})(?:/[\w\-.]{0,40}[*?\[{][^/\"'\n]{0,80}){0,3}/?(?=[\"'])")

_LISTING_IMPORTS = frozenset(
    {
        *(ANYTHING, "glob.glob", "glob.iglob", "os.listdir", "os.scandir", "os.walk"),
        *("cosmos", "cosmos.ProjectConfig", "cosmos.config", "cosmos.config.ProjectConfig"),
        *("dagfactory", "dagfactory.DagFactory", "dagfactory.load_yaml_dags"),
        *("gusty", "gusty.create_dag", "gusty.create_dags"),
    }
)
_SEARCH_PATH = b"template_searchpath"
_DAGS_FOLDER = (b"DAGS_FOLDER", b"dags_folder")
_BARE_ENDINGS = frozenset({b"csv", b"json", b"sql", b"toml", b"yaml", b"yml"})


def read_hints(source: bytes, imports: Iterable[str]) -> tuple[str, ...]:
    """Return hints to the data files that ``source`` may read, each once; or ``(ANYTHING,)``.

    ``imports`` are its ``imported_names``.
    """
    hints: dict[bytes, None] = {}
    names: set[bytes] = set()
    looked_at = 0
    lists = not _LISTING_IMPORTS.isdisjoint(imports)
    for mark in _MARK.finditer(source):
        start, end = mark.span()
        if mark[0] in _LISTING:
            lists = True
        elif source[end : end + 1] != b"(":  # as in answer.json()
            before = _NAME_BACKWARDS.match(source[max(start - _MAX_NAME_BYTES, 0) : start][::-1])
            name = (before[0][::-1] if before else b"") + mark[0]
            looked_at += len(name) + _COST_BYTES
            if looked_at > MAX_HINT_BYTES:
                return (ANYTHING,)
            if name not in names:
                names.add(name)
                hints.update(dict.fromkeys(_hints_of(name)))
    # Who sets where templates are looked for names some, too. So the others need no second pass.
    lists = lists or (bool(hints) and _SEARCH_PATH in source)
    for hint in _folders(source) if lists else ():
        looked_at += 0 if hint in hints else len(hint) + _COST_BYTES
        if looked_at > MAX_HINT_BYTES or hint == ANYTHING.encode():
            return (ANYTHING,)
        hints[hint] = None
    return tuple(hint.decode("utf-8", "replace") for hint in hints)


def _hints_of(name: bytes) -> Iterator[bytes]:
    """Yield the hints that a name with a known ending makes, which may have fields (``{x}``) and wildcards."""
    if _SPECIAL.search(name):
        name = _FIELD.sub(b"*", name)
    folder, _, base = name.rpartition(b"/")
    folder = folder.rpartition(b"/")[2]
    where = folder + b"/" if folder.strip(b".") and not _WILDCARD.search(folder) else b""
    if (ending := _YAML.search(base)) and ending[0] not in (b".yml", b".yaml"):
        bases = [base[: ending.start()] + b".yml", base[: ending.start()] + b".yaml"]  # of *.y*ml and its like
    else:
        bases = [base]
    for base in bases:
        parts = _WILDCARD.split(base)
        if len(parts) > 1 or len(base) >= _MAX_NAME_BYTES:
            yield where + parts[0][:MAX_START] + b"*" + _last_parts(parts[-1])
        elif base[0] in _PART_STARTS:  # more of an ending than a name
            yield where + b"*" + _last_parts(base)
        else:
            yield where + base


def _last_parts(text: bytes) -> bytes:
    starts = [at for at, character in enumerate(text) if character in _PART_STARTS]
    return text[starts[-MAX_PARTS:][0] :]


def _folders(source: bytes) -> Iterator[bytes]:
    """Yield the hints to folders, of a source that lists some; ``ANYTHING`` if there are too many."""
    yield OWN_FOLDER.encode()
    if any(word in source for word in _DAGS_FOLDER):
        yield EVERYTHING.encode()
    seen = {b".", b".."}
    for number, match in enumerate(_FOLDER.finditer(source)):
        if number > MAX_STRINGS:
            yield ANYTHING.encode()
        if (name := match[1]) not in seen:
            seen.add(name)
            yield name + b"/"
            if name == b"dags":  # that may be the top folder, which has no name here
                yield EVERYTHING.encode()
            elif name in _BARE_ENDINGS:
                yield b"*." + name
