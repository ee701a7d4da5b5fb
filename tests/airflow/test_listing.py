"""With the settings of docs/how-to/tune-airflow.md new and removed DAGs show soon, and no deploy of many is missed."""

import concurrent.futures
import time

import pytest

from airflows import RECOMMENDED, dag_file
from harness import eventually

pytestmark = pytest.mark.airflow

START_SECONDS = 180
LISTED_SECONDS = 90
"""Without the settings Airflow lists the folder every 300 s, with them every 10 s."""
SERIALIZED_SECONDS = 25
"""Without the settings the next version is serialized 30 s after the one before at the earliest."""
SEEN_SECONDS = 50
"""What a parse hides is read after the second touch, at 10 s, and not only after the third, at 60 s."""
DEPLOYS = 50
PARSE_SECONDS = 3
PAUSES_SECONDS = (0.0, PARSE_SECONDS + 1.0)
"""From the start of one version's parse to the next deploy, in turn: into the parse, which hides it, and after it."""


@pytest.fixture(scope="module")
def sites(make_site):
    sites = {major: make_site(major, **RECOMMENDED) for major in (3, 2)}
    for site in sites.values():
        site.deploy({"always.py": dag_file("always", "1"), "busy.py": busy(0)})
        site.airflow.start("dag-processor")
    for site in sites.values():
        eventually("the DAGs to be listed", lambda site=site: {"always", "busy"} <= site.airflow.dags(), START_SECONDS)
    return sites


def busy(version: int) -> bytes:
    return dag_file("busy", str(version), code=f"time.sleep({PARSE_SECONDS})")


@pytest.mark.parametrize("major", [3, 2])
def test_a_new_dag_is_listed_and_a_removed_one_gone(sites, major, measured) -> None:
    site = sites[major]
    swap = site.deploy({"new.py": dag_file("new", "1")})
    measured(
        "new DAG listed", site.known_after(swap, "the new DAG", lambda: "new" in site.airflow.dags(), LISTED_SECONDS)
    )
    swap = site.deploy({"new.py": None})
    gone = site.known_after(swap, "no such DAG", lambda: "new" not in site.airflow.dags(), LISTED_SECONDS)
    measured("removed DAG gone", gone)
    assert site.airflow.import_errors() == []


@pytest.mark.parametrize("major", [3, 2])
def test_the_serialized_dag_keeps_up(sites, major) -> None:
    site = sites[major]
    for version in ("2", "3"):
        swap = site.deploy({"always.py": dag_file("always", version)})
        site.known_after(swap, version, lambda v=version: site.airflow.serialized_as("always", v), SERIALIZED_SECONDS)


def test_each_of_many_deploys_is_seen(sites, measured) -> None:
    def deploy_all(site) -> list[float]:
        seen = []
        for version in range(1, DEPLOYS + 1):
            swap = site.deploy({"busy.py": busy(version)}, quiet=False)
            seen.append(site.parsed_after(swap, "busy", str(version), SEEN_SECONDS))
            time.sleep(PAUSES_SECONDS[version % len(PAUSES_SECONDS)])
        last = f"v{DEPLOYS}"
        eventually("the last one to be known", lambda: site.airflow.tags("busy") == {last}, SEEN_SECONDS)
        return seen

    with concurrent.futures.ThreadPoolExecutor(len(sites)) as pool:
        for major, seen in zip(sites, pool.map(deploy_all, sites.values()), strict=True):
            measured(f"slowest of {DEPLOYS} deploys, Airflow {major}", max(seen))
            measured(f"median of {DEPLOYS} deploys, Airflow {major}", sorted(seen)[DEPLOYS // 2])
    for site in sites.values():
        site.airflow.check_alive()
        assert site.airflow.import_errors() == []
