"""DAG ids in a text: those that Python would see as literals, whatever the text looks like."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_core.source.dag_ids import MAX_CALL_BYTES, MAX_CALLS, MAX_UNENDED, Shared, dag_ids, shared_dag_ids


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        ('DAG("orders")', ("orders",)),
        ("with DAG('orders', schedule=None) as dag:\n  pass", ("orders",)),
        ('dag = models.DAG ( "orders" )', ("orders",)),
        ('airflow.sdk.DAG(\n    # its name\n    "orders",\n)', ("orders",)),
        ('DAG(dag_id="orders")', ("orders",)),
        ('DAG(schedule="@daily", dag_id = "orders")', ("orders",)),
        ('DAG(default_args={"a": f(1, "b"), "dag_id": "no"}, dag_id="orders")', ("orders",)),
        ('DAG(doc="""a ) and ( " in a text""", dag_id="orders")', ("orders",)),
        ("DAG(doc='it\\'s )', dag_id='orders')", ("orders",)),
        ('DAG(doc="#", dag_id="orders")', ("orders",)),
        ('DAG("""orders""")', ("orders",)),
        ('DAG(r"orders.v-1_b")', ("orders.v-1_b",)),
        ('DAG("größe")', ("größe",)),
        ('DAG("a")\nDAG("b")\nDAG("a")', ("a", "b")),
        ('DAG("' + "x" * 250 + '")', ("x" * 250,)),
        ("@dag\ndef orders():\n  pass", ("orders",)),
        ("@dag  # daily\ndef orders():\n  pass", ("orders",)),
        ("@dag()\ndef orders():\n  pass", ("orders",)),
        ("@dag(schedule=None)\n@other(1)\nasync def orders():\n  pass", ("orders",)),
        ('@dag("orders")\ndef f():\n  pass', ("orders",)),
        ('@dag(schedule=None, dag_id="orders")\ndef f():\n  pass', ("orders",)),
        ("if x:\n    @decorators.dag(\n        tags=['a'],\n    )\n    def orders():\n        pass", ("orders",)),
        ("@dag\r\ndef orders():\r\n  pass", ("orders",)),
        ('DAG("a")\n@dag\ndef b():\n  pass', ("a", "b")),
    ],
)
def test_an_id_that_is_a_literal_is_found(source, ids) -> None:
    ast.parse(source)
    assert dag_ids(source.encode()) == ids


@pytest.mark.parametrize(
    "source",
    [
        "",
        "DAG(name)",
        "DAG(dag_id=name)",
        'DAG(f"orders_{team}")',
        'DAG("orders_" + team)',
        'DAG("orders_%s" % team)',
        'DAG("orders".upper())',
        'DAG(("orders"))',
        'DAG(["orders"][0])',
        'DAG(x["orders"])',
        'DAG("orders"[:3])',
        'DAG(*["orders"])',
        'DAG(**{"dag_id": "orders"})',
        'DAG(schedule="orders")',
        'DAG(a == "orders")',
        'DAG("no id")',
        'DAG("a\\x62c")',
        'DAG("")',
        'DAG("' + "x" * 251 + '")',
        'MyDAG("orders")',
        'äDAG("orders")',
        'DAGs("orders")',
        '# DAG("orders")',
        'x = 1  # was DAG("orders")',
        "class DAG(Base):\n  pass",
        "def DAG(x):\n  pass",
        '@dag(("orders"))\ndef f():\n  pass',
        "@dag(name)\ndef f():\n  pass",
        "@dag(**given)\ndef f():\n  pass",
        "@dag(*given)\ndef f():\n  pass",
        "@dag(dag_id=name)\ndef f():\n  pass",
        "@dags\ndef f():\n  pass",
        "@dag.task\ndef f():\n  pass",
        "@mydag\ndef f():\n  pass",
        "# @dag\ndef f():\n  pass",
        "x = y@dag\ndef f():\n  pass",
    ],
)
def test_nothing_else_is_taken_for_one(source) -> None:
    ast.parse(source)
    assert dag_ids(source.encode()) == ()


VALUES = st.sampled_from(
    ['"a"', "'b.c'", '"""d-e"""', "name", 'f("x", [1, ")"])', '{"dag_id": "no"}', "'('", '"#"', '"it\'s"', "1 + (2)"]
)
KEYWORDS = st.lists(st.sampled_from(["dag_id", "schedule", "tags"]), max_size=3, unique=True)
SPACES = st.sampled_from(["", " ", "\n    ", "  # a ) comment (\n "])


@st.composite
def calls(draw) -> str:
    """A call of DAG in all kinds of spelling."""
    keywords = draw(KEYWORDS)
    first = [] if "dag_id" in keywords or draw(st.booleans()) else [draw(VALUES)]
    arguments = first + [f"{name}{draw(st.sampled_from(['=', ' = ']))}{draw(VALUES)}" for name in keywords]
    return "DAG(" + ",".join(f"{draw(SPACES)}{argument}{draw(SPACES)}" for argument in arguments) + ")"


def parsed_ids(source: str) -> tuple[str, ...]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "DAG":
            given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "dag_id")]
            found += [value.value for value in given if isinstance(value, ast.Constant)]
    return tuple(dict.fromkeys(value for value in found if value in {"a", "b.c", "d-e"}))


@given(st.lists(calls(), max_size=4))
def test_the_arguments_of_a_call_are_read_as_python_reads_them(spelled) -> None:
    source = "\n".join(spelled)
    assert dag_ids(source.encode()) == parsed_ids(source)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_any_bytes_are_read_without_an_error() -> None:
    for source in (
        b"\xff\xfeDAG('\xff')",
        b"DAG(\0",
        b"DAG('a",
        b"DAG(\\",
        b'DAG("""a',
        b"@dag",
        b"@dag(",
        b"DAG('\xe4')",
    ):
        assert dag_ids(source) == ()


@given(
    st.lists(st.sampled_from(["DAG(", "@dag", "(", ")", '"', "'", '"""', "\\", "\n", "#", "a", ",", "dag_id=", "def "]))
)
def test_any_text_is_read_without_an_error(parts) -> None:
    for dag_id in dag_ids("".join(parts).encode()):
        assert dag_id


def test_a_call_that_is_too_long_has_no_id_and_hides_no_other() -> None:
    fits = 'DAG(doc="' + "x" * (MAX_CALL_BYTES - 18) + '",dag_id="a")'
    assert len(fits) == MAX_CALL_BYTES + len("DAG(")
    assert dag_ids(fits.encode()) == ("a",)
    assert dag_ids((fits.replace("x", "xx", 1) + '\nDAG("b")').encode()) == ("b",)


def test_after_many_calls_without_an_end_nothing_more_is_looked_at() -> None:
    for start, end in (("DAG(\n", 'DAG("b")'), ("@dag(\n", '@dag("b")\ndef b():')):
        padding = "\n" * MAX_CALL_BYTES
        assert dag_ids((start * (MAX_UNENDED - 1) + padding + end).encode()) == ("b",)
        assert dag_ids((start * MAX_UNENDED + padding + end).encode()) == ()
    assert dag_ids(b"@dag\n" * MAX_UNENDED + b"\n" * MAX_CALL_BYTES + b"@dag\ndef b():") == ()


def test_after_very_many_calls_nothing_more_is_looked_at() -> None:
    for call in ('DAG("a{}")\n', "@dag\ndef a{}():\n"):
        ids = dag_ids("".join(call.format(number) for number in range(MAX_CALLS + 1)).encode())
        assert ids == tuple(f"a{number}" for number in range(MAX_CALLS))


# --- two teams -------------------------------------------------------------------------------------------------------


def test_an_id_below_a_folder_and_beside_it_is_shared() -> None:
    ids = {"a/x.py": ["one", "two"], "b/y.py": ["two", "three"], "b/z.py": ["two", "three"], "a/y.py": ["two"]}
    assert shared_dag_ids(ids, "a/") == [Shared("two", "a/x.py", "b/y.py")]
    assert shared_dag_ids(ids, "b/") == [Shared("two", "b/y.py", "a/x.py")]


def test_an_id_twice_in_one_team_is_its_own_affair() -> None:
    assert shared_dag_ids({"a/x.py": ["one"], "a/y.py": ["one"], "ab/z.py": ["two"]}, "a/") == []
    assert shared_dag_ids({"a/x.py": ["one"], "ab/z.py": ["one"]}, "a/") == [Shared("one", "a/x.py", "ab/z.py")]
