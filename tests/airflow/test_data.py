"""A deploy of data alone is read at once, with ``min_file_process_interval`` of 300 (docs/how-to/tune-airflow.md).

The tests of a major share one site and run in this order.
"""

import pytest

from airflows import RECOMMENDED, dag_file
from harness import eventually

pytestmark = pytest.mark.airflow

LISTED_SECONDS = 180
PARSED_AT_ONCE = 2
"""Airflow's default of ``parsing_processes``."""
USERS = [f"user{number}" for number in range(4)]

VERSION = "open(os.path.join(os.path.dirname(__file__), {!r})).read().strip()"
FIRST = {
    "named.py": dag_file("named", VERSION.format("sql/named.sql")),
    "listing.py": dag_file(
        "listing",
        "''.join(sorted(path.read_text().strip() for path in (pathlib.Path(__file__).parent / 'configs').iterdir()))",
        imports="import pathlib",
    ),
    "helped.py": dag_file("helped", "reader.VERSION", imports="from lib import reader"),
    "lib/__init__.py": b"",
    "lib/reader.py": f"import os\nVERSION = {VERSION.format('../rates.yml')}\n".encode(),
    **{f"{name}.py": dag_file(name, "rates.VALUE", imports="from lib import rates") for name in USERS},
    "lib/rates.py": b"VALUE = 1\n",
    "last.py": dag_file("last", "1"),
    "other.py": dag_file("other", "1"),
    "sql/named.sql": b"1\n",
    "configs/a.yml": b"1\n",
    "rates.yml": b"1\n",
}


@pytest.fixture(scope="module", params=[3, 2])
def site(request, make_site):
    site = make_site(request.param, **RECOMMENDED)
    site.deploy(FIRST)
    site.airflow.start("dag-processor")
    dags = {path.removesuffix(".py") for path in FIRST if path.endswith(".py") and "/" not in path}
    eventually("all DAGs to be listed", lambda: site.airflow.dags() >= dags, LISTED_SECONDS)
    return site


@pytest.mark.parametrize(
    ("change", "dag", "version"),
    [
        ({"sql/named.sql": b"2\n"}, "named", "2"),
        ({"sql/named.sql": b"1\n"}, "named", "1"),  # the old content again, as by a rollback
        ({"configs/b.yml": b"2\n"}, "listing", "12"),
        ({"configs/a.yml": None}, "listing", "2"),
        ({"rates.yml": b"2\n"}, "helped", "2"),
    ],
)
def test_a_dag_whose_data_changed_is_read(site, measured, change, dag, version) -> None:
    with site.swapped(change, dag) as swap:
        took = site.parsed_after(swap.at, dag, version, swap.seconds)
        measured(f"{next(iter(change))} changed, {dag} read", took)
        site.known_after(swap.at, "it", lambda: site.airflow.tags(dag) == {f"v{version}"}, swap.seconds)
    assert site.airflow.import_errors() == []


def test_of_what_is_read_again_what_changed_itself_comes_first_and_the_rest_is_left_alone(site) -> None:
    swap = site.deploy({"lib/rates.py": b"VALUE = 2\n", "last.py": dag_file("last", "2")})
    for name in USERS:
        site.parsed_after(swap, name, "2")
    parsed = [name for at, name, _ in sorted(site.airflow.parsed()) if at >= swap]
    assert "last" in parsed[:PARSED_AT_ONCE]
    assert "other" not in site.read_early(0)
