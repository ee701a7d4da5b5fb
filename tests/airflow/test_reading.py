"""With Airflow's default settings, what a swap changes is read at once, and nothing else before its interval.

The tests of a major share one site and run in this order. All of it runs with ``PYTHONPYCACHEPREFIX`` set, where
Python takes a module that has the size and mtime of the one before for the one before.
"""

import time

import pytest

from airflows import dag_file
from harness import eventually

pytestmark = pytest.mark.airflow

INTERVAL_SECONDS = 30
"""The default of ``min_file_process_interval``."""
READ_SECONDS = 3
IMPORTED_SECONDS = 5
TOUCHED_AGAIN_SECONDS = 10
OTHERS = [f"other{number:02}" for number in range(10)]
USERS = ["direct", "indirect", "plain"]

FIRST = {
    **{f"{name}.py": dag_file(name, "1") for name in OTHERS},
    "changing.py": dag_file("changing", "1"),
    "slow.py": dag_file("slow", "1", code="time.sleep(4)"),
    "lib/__init__.py": b"",
    "lib/rate.py": b"VALUE = 1\n",
    "lib/shop.py": b"from lib.rate import VALUE\n",
    "direct.py": dag_file("direct", "VALUE", imports="from lib.rate import VALUE"),
    "indirect.py": dag_file("indirect", "lib.shop.VALUE", imports="import lib.shop"),
    "plain.py": dag_file("plain", "1", imports="import lib"),
    "tools/__init__.py": b"WHAT = 'folder'\n",
    "tools/sql/load.sql": b"select 1\n",
    "user.py": dag_file("user", "tools.WHAT", imports="import tools"),
}


@pytest.fixture(scope="module", params=[3, 2])
def site(request, make_site, tmp_path_factory):
    cache = tmp_path_factory.mktemp("pycache")
    site = make_site(request.param, PYTHONPYCACHEPREFIX=str(cache))
    site.deploy(FIRST)
    site.airflow.start("dag-processor")
    eventually(
        "all DAGs to be listed", lambda: site.airflow.dags() >= {*OTHERS, *USERS, "changing", "slow", "user"}, 90
    )
    return site


def read_early(site, since: float, but: set[str]) -> list[str]:
    """The DAGs, other than those, whose file was read twice within its interval, the second time after ``since``."""
    last: dict[str, float] = {}
    early = []
    for at, name, _ in site.airflow.parsed():
        if name not in but and at > since and at - last.get(name, 0) < INTERVAL_SECONDS - 0.5:
            early.append(name)
        last[name] = at
    return early


def test_a_changed_dag_is_read_and_nothing_else(site, measured) -> None:
    swap = site.deploy({"changing.py": dag_file("changing", "2")})
    measured("changed DAG read", site.parsed_after(swap, "changing", "2", READ_SECONDS))
    measured("changed DAG known", site.known_after(swap, "v2", lambda: site.airflow.tags("changing") == {"v2"}, 5))
    time.sleep(TOUCHED_AGAIN_SECONDS + 3)
    assert not read_early(site, swap, {"changing"})


def test_a_changed_helper_makes_exactly_its_importers_be_read(site, measured) -> None:
    swap = site.deploy({"lib/rate.py": b"VALUE = 2\n"})
    measured("importer read", site.parsed_after(swap, "direct", "2", IMPORTED_SECONDS))
    measured("importer of the importer read", site.parsed_after(swap, "indirect", "2", IMPORTED_SECONDS))
    time.sleep(IMPORTED_SECONDS)
    assert not read_early(site, swap, {"direct", "indirect", "changing"})


def test_a_deploy_33_seconds_after_another(site, measured) -> None:
    # By then the interval is over: a file that was extracted before looks older than its last parse.
    first = site.deploy({"changing.py": dag_file("changing", "3")})
    site.parsed_after(first, "changing", "3", READ_SECONDS)
    time.sleep(max(0, first + 33 - time.time()))
    swap = site.deploy({"changing.py": dag_file("changing", "4")})
    measured("deploy after 33 s read", site.parsed_after(swap, "changing", "4", READ_SECONDS))


def test_a_rollback_is_read(site, measured) -> None:
    # The old content, which is what a rollback brings, must look newer than all before it.
    swap = site.deploy({"changing.py": dag_file("changing", "3")})
    measured("rollback read", site.parsed_after(swap, "changing", "3", READ_SECONDS))


def test_a_module_that_is_new_can_be_imported(site, measured) -> None:
    change = {
        "lib/fresh.py": b"VALUE = 5\n",
        "changing.py": dag_file("changing", "VALUE", "from lib.fresh import VALUE"),
    }
    swap = site.deploy(change)
    measured("new module read", site.parsed_after(swap, "changing", "5", READ_SECONDS))
    assert site.airflow.import_errors() == []


def test_a_folder_that_became_a_file(site, measured) -> None:
    swap = site.deploy({"tools/__init__.py": None, "tools/sql/load.sql": None, "tools.py": b"WHAT = 'module'\n"})
    measured("folder became module, read", site.parsed_after(swap, "user", "module", IMPORTED_SECONDS))
    swap = site.deploy({"tools.py": None, "tools": b"a file without a suffix\n", "user.py": dag_file("user", "7")})
    measured("folder became file, read", site.parsed_after(swap, "user", "7", READ_SECONDS))


def test_the_serialized_dag_stays_behind_when_two_deploys_come_within_30_seconds(site) -> None:
    # The trap of min_serialized_dag_update_interval: known is the one, what the scheduler works with is the other.
    for version in ("9", "10"):
        swap = site.deploy({"changing.py": dag_file("changing", version)})
        site.known_after(swap, f"v{version}", lambda v=version: site.airflow.tags("changing") == {f"v{v}"}, 5)
    assert not site.airflow.serialized_as("changing", "10")


def test_no_import_error_outlives_the_next_parse(site, measured) -> None:
    swap = site.deploy({"changing.py": b"# airflow DAG\nimport nowhere_to_be_found\n"})
    measured("import error known", site.known_after(swap, "an import error", site.airflow.import_errors, 10))
    swap = site.deploy({"changing.py": dag_file("changing", "8")})
    site.parsed_after(swap, "changing", "8", READ_SECONDS)
    measured("import error gone", site.known_after(swap, "no error", lambda: not site.airflow.import_errors(), 10))


def test_a_parse_that_was_under_way_does_not_hide_the_change(site, measured) -> None:
    site.parsed_after(site.deploy({"slow.py": dag_file("slow", "2", code="time.sleep(4)")}), "slow", "2", READ_SECONDS)
    swap = site.deploy({"slow.py": dag_file("slow", "3", code="time.sleep(4)")}, quiet=False)
    measured("change under a parse read", site.parsed_after(swap, "slow", "3", TOUCHED_AGAIN_SECONDS + 5))
    measured("and known", site.known_after(swap, "v3", lambda: site.airflow.tags("slow") == {"v3"}, 20))


def test_the_dag_processor_has_survived_all_of_it(site) -> None:
    site.airflow.check_alive()
    assert site.airflow.import_errors() == []
    assert "Traceback" not in site.airflow.log("dag-processor")
