"""The DAG bundle of Airflow 3: a run keeps the version it was made with, also when the server is away."""

import os
import time

import pytest

from airflows import HOME
from bundle_site import RUN_SECONDS, BundleSite, files
from harness import eventually

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgres):
    site = BundleSite(tmp_path_factory.mktemp("bundle"), postgres)
    try:
        site.versions = {1: site.deploy(1)}
        site.start()
        site.has_parsed("steps", site.versions[1])
        yield site
    finally:
        site.stop()


def test_a_run_ends_on_the_version_it_began_with_and_the_next_one_has_the_new(site, measured) -> None:
    site.run_that_waits("across")
    site.versions[2], published = site.deploy(2), time.time()
    site.has_parsed("steps", site.versions[2])
    measured("deployed to new runs", time.time() - published)
    site.go_on("across")
    site.run("after")
    assert site.ended("across") == site.versions[1]
    assert site.saw("across") == ["111"] * 3
    assert site.ended("after") == site.versions[2]
    assert site.saw("after") == ["222"] * 3


def test_without_the_server_runs_go_on_with_what_is_on_the_disk(site) -> None:
    site.server.stop()
    site.run("alone")
    assert site.ended("alone") == site.versions[2]
    assert site.saw("alone") == ["222"] * 3
    assert site.python(site.making("print(version)")) == [site.versions[2]]
    site.restart_server()
    site.airflow.check_alive()


def test_a_task_waits_for_a_version_that_is_not_here_and_gets_it_though_it_is_not_the_newest(site) -> None:
    site.run_that_waits("waiting")
    site.versions[3] = site.deploy(3)
    site.has_parsed("steps", site.versions[3])
    site.server.stop()
    site.forget(site.versions[2])
    site.forget_trees(site.versions[2])
    site.go_on("waiting")
    query = "select state from task_instance where run_id = 'waiting' and task_id = 'second'"
    eventually("a reschedule", lambda: site.airflow.sql(query) == [["up_for_reschedule"]], RUN_SECONDS)
    site.restart_server()
    assert site.ended("waiting") == site.versions[2]
    assert site.saw("waiting") == ["222"] * 3


def test_many_processes_make_a_version_at_once(site) -> None:
    folder = site.storage / "prod/versions" / site.versions[1]
    site.forget(site.versions[1])
    code = "print(open(bundle.path / 'late.py').read().strip(), version)"
    assert site.python(site.making(code, site.versions[1]), count=8) == [f"VERSION = 1 {site.versions[1]}"] * 8
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == sorted(files(1))
    assert not list((site.storage / "prod").glob("building-*"))


def test_a_task_of_a_run_without_a_version_is_pinned_to_what_is_newest_when_it_starts(site) -> None:
    code = "before = bundle.path; pin.note_task(); bundle.initialize(); print(before.name, bundle.path.name)"
    assert site.python(site.making(code)) == [f"current {site.versions[3]}"]


def test_airflows_own_clean_up_finds_every_version_and_what_it_removed_comes_back(site) -> None:
    versions = site.storage / "prod/versions"
    assert {path.name for path in (site.storage / "_tracking/prod").iterdir()} == {
        path.name for path in versions.iterdir()
    }
    code = (
        "from airflow.dag_processing.bundles.base import BundleUsageTrackingManager\n"
        "BundleUsageTrackingManager().remove_stale_bundle_versions(); print('done')"
    )
    variables = site.airflow.variables
    variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS"] = "0"
    variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD"] = "0"
    try:
        assert site.python(code) == ["done"]
        assert list(versions.iterdir()) == []
    finally:
        del variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS"]
        del variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD"]
    site.run("again")
    assert site.ended("again") == site.versions[3]
    assert site.saw("again") == ["333"] * 3


def test_a_parse_that_ends_after_the_swap_is_put_right_by_the_next(site, measured) -> None:
    """Airflow gives a parse's result the version it knows when the parse ends, though the code was the one before."""
    site.versions[4] = site.deploy(4)
    eventually(
        "the slow parse to begin", lambda: [1 for _, _, v in site.airflow.parsed("slow") if v == "4"], RUN_SECONDS
    )
    site.versions[5], published = site.deploy(5), time.time()
    site.has_parsed("slow", site.versions[5])
    eventually("the new code to be parsed", lambda: site.airflow.tags("slow") == {"v5"}, RUN_SECONDS)
    measured("late attribution put right", time.time() - published)


def test_a_run_ends_on_a_version_that_only_its_old_tree_has_any_more(site) -> None:
    """Neither the server nor a folder in versions/ has it."""
    site.run_that_waits("stored")
    site.versions[6] = site.deploy(6)
    site.has_parsed("steps", site.versions[6])
    site.server.stop()
    site.forget(site.versions[5])
    site.go_on("stored")
    assert site.ended("stored") == site.versions[5]
    assert site.saw("stored") == ["555"] * 3
    site.restart_server()


def test_the_dag_processor_reads_a_stable_path(site) -> None:
    [[fileloc]] = site.airflow.sql("select fileloc from dag where dag_id = 'steps'")
    assert fileloc == f"{site.storage}/prod/live/current/steps.py"
    assert os.path.exists(fileloc)
    assert HOME not in site.storage.parents
