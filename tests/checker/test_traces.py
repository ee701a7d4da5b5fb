"""What Airflow says about a file that it cannot import is read: the line, the message, the kind of problem."""

import pytest

from dagferry_checker.problems import MAX_MESSAGE_CHARACTERS, MAX_TRACE_BYTES, Kind
from dagferry_checker.traces import needs_network, read_fault_log, read_trace

TREE = "/w/current"


def trace(*frames: tuple[str, int], last: str) -> str:
    lines = [f'  File "{file}", line {line}, in <module>\n    code()\n    ^^^^^^' for file, line in frames]
    return "\n".join(["Traceback (most recent call last):", *lines, last, ""])


def test_a_missing_module_is_in_the_line_that_imports_it() -> None:
    text = trace((f"{TREE}/etl/a.py", 7), last="ModuleNotFoundError: No module named 'snowflake'")
    fault = read_trace(text, "etl/a.py", TREE)
    assert fault.message == "ModuleNotFoundError: No module named 'snowflake'"
    assert (fault.line, fault.kind, fault.soft) == (7, Kind.IMPORT, False)
    assert 'File "etl/a.py", line 7' in fault.trace
    assert TREE not in fault.trace


def test_the_line_is_the_one_of_the_dag_file_also_if_a_helper_fails() -> None:
    text = trace((f"{TREE}/a.py", 3), ("/usr/lib/x.py", 9), (f"{TREE}/shop.py", 5), last="KeyError: 'rate'")
    fault = read_trace(text, "a.py", TREE)
    assert (fault.line, fault.message) == (3, "KeyError: 'rate'")
    assert fault.soft, "a value may be the cause"


def test_a_syntax_error_has_the_line_that_does_not_parse() -> None:
    text = f'  File "{TREE}/a.py", line 4\n    with DAG("x" schedule=None): pass\n         ^^^\n'
    text += "SyntaxError: invalid syntax\n"
    fault = read_trace(text, "a.py", TREE)
    assert (fault.line, fault.kind, fault.message) == (4, Kind.SYNTAX, "SyntaxError: invalid syntax")
    assert not fault.soft


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("AirflowDagCycleException: Cycle detected in Dag: a. Faulty task: b", Kind.CYCLE),
        ("Cycle detected in DAG. Faulty task: b", Kind.CYCLE),
        ("airflow.exceptions.AirflowDagDuplicatedIdException: Ignoring DAG x", Kind.DUPLICATE),
        ("airflow.exceptions.AirflowTaskTimeout: DagBag import timeout for a.py after 30.0s.\nPlease", Kind.TIMEOUT),
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open database file", Kind.DATABASE),
        ("RuntimeError: Direct database access via the ORM is not allowed in Airflow 3", Kind.DATABASE),
        ("MemoryError", Kind.MEMORY),
        ("SystemExit: 1", Kind.EXIT),
        ("SystemExit", Kind.EXIT),
        ("TabError: inconsistent use of tabs", Kind.SYNTAX),
        ("ValueError: no", Kind.IMPORT),
    ],
)
def test_the_kind_follows_from_the_exception(last, kind) -> None:
    assert read_trace(trace((f"{TREE}/a.py", 1), last=last), "a.py", TREE).kind is kind
    assert read_trace(last, "a.py", TREE).kind is kind, "Airflow 2 gives only the last line of some"


def test_a_dag_that_cannot_be_stored_is_of_its_own_kind() -> None:
    text = trace(("/airflow/serialization.py", 1), last="TypeError: no")
    fault = read_trace(text, "a.py", TREE, serialize=True)
    assert (fault.kind, fault.line, fault.soft) == (Kind.SERIALIZE, 0, True)


def test_a_message_of_several_lines_is_one() -> None:
    assert read_trace(trace((f"{TREE}/a.py", 1), last="ValueError: one\ntwo"), "a.py", TREE).message == (
        "ValueError: one two"
    )


def test_texts_are_bounded_whatever_is_raised() -> None:
    fault = read_trace(trace((f"{TREE}/a.py", 1), last="ValueError: " + "ä" * 100_000), "a.py", TREE)
    assert len(fault.message) == MAX_MESSAGE_CHARACTERS
    assert len(fault.trace.encode()) <= MAX_TRACE_BYTES
    assert read_trace("", "a.py", TREE).message == "The import failed."
    assert read_trace("\x00 ((", "a.py", TREE).kind is Kind.IMPORT


@pytest.mark.parametrize(
    ("last", "network"),
    [
        ("requests.exceptions.ConnectionError: HTTPConnectionPool(host='x')", True),
        ("socket.gaierror: [Errno -2] Name or service not known", True),
        ("ConnectionRefusedError: [Errno 111] Connection refused", True),
        ('sqlalchemy.exc.OperationalError: could not translate host name "db" to address', True),
        ("ValueError: no", False),
        ("ModuleNotFoundError: No module named 'ConnectionError'", False),
    ],
)
def test_what_only_a_network_can_give_is_recognized(last, network) -> None:
    assert needs_network(read_trace(trace((f"{TREE}/a.py", 1), last=last), "a.py", TREE)) is network


def test_where_a_process_was_when_it_ended_is_read_from_the_fault_log() -> None:
    text = f"""Fatal Python error: Segmentation fault

Current thread 0x1 (most recent call first):
  File "/usr/lib/ctypes.py", line 519 in string_at
  File "{TREE}/a.py", line 5 in crash
  File "{TREE}/a.py", line 9 in <module>
"""
    line, shown = read_fault_log(text, "a.py", TREE)
    assert line == 5
    assert TREE not in shown
    assert read_fault_log("", "a.py", TREE) == (0, "")
