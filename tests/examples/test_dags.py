"""The example DAGs, as far as they can be checked without Airflow."""

from hashlib import sha256
from pathlib import Path

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.source.graph import touched
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import imported_names

DAGS = Path(__file__).parents[2] / "examples" / "dags"
FILES = {str(path.relative_to(DAGS)): path.read_bytes() for path in sorted(DAGS.rglob("*.*"))}
TOP = [path for path in FILES if "/" not in path and path.endswith(".py")]


def touched_by(changed):
    def manifest(files):
        return Manifest(Entry(path, len(data), 0o644, sha256(data).hexdigest()) for path, data in files.items())

    imports = {path: imported_names(data) for path, data in FILES.items() if path.endswith(".py")}
    reads = {path: read_hints(FILES[path], names) for path, names in imports.items()}
    return touched(manifest(FILES), manifest(FILES | {changed: b"changed"}), imports, reads)


def test_there_are_half_a_dozen_that_airflow_looks_into():
    dags = [FILES[path] for path in TOP]
    assert len(dags) == 6
    for data in dags:  # Airflow passes over files without these two words
        assert b"airflow" in data
        assert b"dag" in data
        compile(data, "dag.py", "exec")


def test_a_changed_helper_touches_those_that_import_it_and_no_other():
    assert touched_by("shop_common/api.py") == ["orders_hourly.py"]
    assert touched_by("shop_common/quality.py") == ["stock_quality.py"]
    warehouse = touched_by("shop_common/warehouse.py")
    assert warehouse == sorted({*TOP, "shop_common/quality.py"})


def test_a_changed_dag_touches_no_other():
    assert touched_by("sales_daily.py") == []


def test_a_changed_query_touches_those_that_read_it_and_no_other():
    assert touched_by("sales_daily.sql") == ["sales_daily.py"]
    assert set(touched_by("shop_common/schema.sql")) == {
        *touched_by("shop_common/warehouse.py"),
        "shop_common/warehouse.py",
    }
    assert touched_by(".airflowignore") == []
