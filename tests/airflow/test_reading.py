"""With Airflow's default settings, what a swap changes is read because of it, and nothing else before its interval.

That something else was the reason, such as the interval or the second touch, is excluded, on a slow machine too. How
soon Airflow reads is measured.

The tests of a major share one site and run in this order. All of it runs with ``PYTHONPYCACHEPREFIX`` set, where
Python takes a module that has the size and mtime of the one before for the one before.
"""

import os
import time

import pytest

from airflows import dag_file
from dagferry_follow.defaults import TOUCH_AGAIN_SECONDS
from harness import eventually

pytestmark = pytest.mark.airflow

LISTED_SECONDS = 180
ANOTHER_SECONDS = 5
"""In this time Airflow looks at all files several times."""
SERIALIZED_AGAIN_SECONDS = 30
"""The default of ``min_serialized_dag_update_interval``."""
OTHERS = [f"other{number}" for number in range(4)]
USERS = ["direct", "indirect", "plain"]
WAITS = "while not os.path.exists(os.environ['PARSES'] + '-go'):\n    time.sleep(0.05)"
"""What a DAG's file does whose parse is to be under way until the test lets it end."""

FIRST = {
    **{f"{name}.py": dag_file(name, "1") for name in OTHERS},
    "changing.py": dag_file("changing", "1"),
    "slow.py": dag_file("slow", "1"),
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
    dags = {*OTHERS, *USERS, "changing", "slow", "user"}
    eventually("all DAGs to be listed", lambda: site.airflow.dags() >= dags, LISTED_SECONDS)
    return site


def read(site, change, dag: str, version: str) -> float:
    """Deploy, and return how long after the swap the DAG was read; nothing but the swap was a reason to."""
    with site.swapped(change, dag) as swap:
        return site.parsed_after(swap.at, dag, version, swap.seconds)


def test_a_changed_dag_is_read_and_nothing_else(site, measured) -> None:
    with site.swapped({"changing.py": dag_file("changing", "2")}, "changing") as swap:
        measured("changed DAG read", site.parsed_after(swap.at, "changing", "2", swap.seconds))
        known = site.known_after(swap.at, "v2", lambda: site.airflow.tags("changing") == {"v2"}, swap.seconds)
        measured("changed DAG known", known)
    site.parsed_after(swap.at + TOUCH_AGAIN_SECONDS[0], "changing", "2")
    time.sleep(ANOTHER_SECONDS)
    assert not site.read_early(swap.at, {"changing"})


def test_a_changed_helper_makes_exactly_its_importers_be_read(site, measured) -> None:
    with site.swapped({"lib/rate.py": b"VALUE = 2\n"}, "direct", "indirect") as swap:
        measured("importer read", site.parsed_after(swap.at, "direct", "2", swap.seconds))
        measured("importer of the importer read", site.parsed_after(swap.at, "indirect", "2", swap.seconds))
    time.sleep(ANOTHER_SECONDS)
    assert not site.read_early(swap.at, {"direct", "indirect", "changing"})


def test_a_deploy_33_seconds_or_more_after_another(site, measured) -> None:
    # By then the interval is over: a file that was extracted before looks older than its last parse.
    first = site.deploy({"changing.py": dag_file("changing", "3")})
    site.parsed_after(first, "changing", "3")
    time.sleep(max(0, first + 33 - time.time()))
    took = read(site, {"changing.py": dag_file("changing", "4")}, "changing", "4")
    measured("deploy after 33 s or more read", took)


def test_a_rollback_is_read(site, measured) -> None:
    # The old content, which is what a rollback brings, must look newer than all before it.
    measured("rollback read", read(site, {"changing.py": dag_file("changing", "3")}, "changing", "3"))


def test_a_module_that_is_new_can_be_imported(site, measured) -> None:
    change = {
        "lib/fresh.py": b"VALUE = 5\n",
        "changing.py": dag_file("changing", "VALUE", "from lib.fresh import VALUE"),
    }
    measured("new module read", read(site, change, "changing", "5"))
    assert site.airflow.import_errors() == []


def test_a_folder_that_became_a_file(site, measured) -> None:
    change = {"tools/__init__.py": None, "tools/sql/load.sql": None, "tools.py": b"WHAT = 'module'\n"}
    measured("folder became module, read", read(site, change, "user", "module"))
    change = {"tools.py": None, "tools": b"a file without a suffix\n", "user.py": dag_file("user", "7")}
    measured("folder became file, read", read(site, change, "user", "7"))


def test_the_serialized_dag_stays_behind_when_two_deploys_come_within_30_seconds(site) -> None:
    # The trap of min_serialized_dag_update_interval: known is the one, what the scheduler works with is the other.
    swap = site.deploy({"changing.py": dag_file("changing", "9")})
    site.known_after(swap, "v9 in both", lambda: site.airflow.serialized_as("changing", "9"))
    serialized = time.time()
    swap = site.deploy({"changing.py": dag_file("changing", "10")})
    left = serialized + SERIALIZED_AGAIN_SECONDS - time.time()
    site.known_after(swap, "v10", lambda: site.airflow.tags("changing") == {"v10"}, left)
    assert not site.airflow.serialized_as("changing", "10")


def test_no_import_error_outlives_the_next_parse(site, measured) -> None:
    broken = dag_file("changing", "11", code="import nowhere_to_be_found")
    with site.swapped({"changing.py": broken}, "changing") as swap:
        error = site.known_after(swap.at, "an import error", site.airflow.import_errors, swap.seconds)
        measured("import error known", error)
    with site.swapped({"changing.py": dag_file("changing", "8")}, "changing") as swap:
        site.parsed_after(swap.at, "changing", "8", swap.seconds)
        gone = site.known_after(swap.at, "no error", lambda: not site.airflow.import_errors(), swap.seconds)
        measured("import error gone", gone)


def test_a_parse_that_was_under_way_does_not_hide_the_change(site, measured) -> None:
    first = site.deploy({"slow.py": dag_file("slow", "2", code=WAITS)})
    site.parsed_after(first, "slow", "2")
    # After this nothing touches the file before the second touch that belongs to the swap below.
    time.sleep(max(0, first + TOUCH_AGAIN_SECONDS[0] + 1 - time.time()))
    swap = site.deploy({"slow.py": dag_file("slow", "3", code=WAITS)}, quiet=False)
    mtime = os.stat(site.sidecar.root / "current/slow.py").st_mtime
    time.sleep(max(0, mtime + 0.1 - time.time()))
    site.airflow.parses.with_name("parses-go").touch()
    took = site.parsed_after(swap, "slow", "3", site.interval)
    assert took >= TOUCH_AGAIN_SECONDS[0], "it was hidden until then"
    measured("change under a parse read", took)
    measured("and known", site.known_after(swap, "v3", lambda: site.airflow.tags("slow") == {"v3"}))


def test_the_dag_processor_has_survived_all_of_it(site) -> None:
    site.airflow.check_alive()
    assert site.airflow.import_errors() == []
    assert "Traceback" not in site.airflow.log("dag-processor")
