"""A dag processor's bundle tells the server which versions runs need: retention keeps them, and the status shows it."""

import json
import socket

import pytest

from bundle_site import RUN_SECONDS, BundleSite
from harness import eventually

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgres):
    site = BundleSite(tmp_path_factory.mktemp("leases"), postgres, "--keep-deploys", "1", "--keep-days", "0")
    try:
        site.versions = {1: site.deploy(1)}
        site.start()
        site.has_parsed("steps", site.versions[1])
        yield site
    finally:
        site.stop()


def status(site: BundleSite):
    code, body = site.server.get("/default/dags/status")
    assert code == 200, body
    return json.loads(body)


def stored(site: BundleSite, number: int) -> bool:
    """Whether the server still has the bundle of a version."""
    code, body = site.server.get(f"/default/dags/versions/{site.versions[number]}")
    assert code in {200, 410}, body
    return code == 200


def test_the_bundle_is_a_pod_that_has_the_newest_deploy_live(site) -> None:
    """Neither the API server nor the scheduler, which know the bundle too, count."""
    eventually("the fleet to be healthy", lambda: status(site)["state"] == "HEALTHY", RUN_SECONDS)
    [pod] = status(site)["sidecars"]
    assert (pod["instance"], pod["component"], pod["state"]) == (socket.gethostname(), "bundle", "live")
    assert pod["live"] == site.versions[1]
    assert (site.storage / "prod/live.id").read_text().startswith(pod["id"])


def test_a_run_gets_its_version_from_the_server_after_several_deploys_though_only_one_is_kept(site) -> None:
    eventually("a lease before any run", lambda: site.versions[1] in status(site)["leases"]["versions"], RUN_SECONDS)
    site.run_that_waits("across")
    with site.airflow.between_parses():  # the bundle never sees these
        for number in (2, 3):
            site.versions[number] = site.deploy(number)
        eventually("retention", lambda: not stored(site, 2), RUN_SECONDS)
        assert stored(site, 1)
    site.has_parsed("steps", site.versions[3])
    site.versions[4] = site.deploy(4)
    site.has_parsed("steps", site.versions[4])
    eventually("both to be kept", lambda: {*status(site)["leases"]["versions"]} >= needed(site, 1, 4), RUN_SECONDS)
    site.forget(site.versions[1])
    site.forget_trees(site.versions[1])
    site.go_on("across")
    assert site.ended("across") == site.versions[1]
    assert site.saw("across") == ["111"] * 3
    assert len(status(site)["sidecars"]) == 1, "tasks do not count"


def needed(site: BundleSite, *numbers: int) -> set[str]:
    return {site.versions[number] for number in numbers}


STATES = """
import json
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from dagferry_airflow.runs_in_use import versions_in_use

found = {}
with create_session(scoped=False) as session:
    run = session.query(DagRun).filter(DagRun.run_id == "across").one()
    task = session.query(TaskInstance).filter(TaskInstance.run_id == "across", TaskInstance.task_id == "third").one()
    for state, task_state in [
        ("queued", None), ("running", "up_for_retry"), ("success", "success"), ("failed", "failed"), ("failed", None),
        ("failed", "upstream_failed"), ("failed", "up_for_retry"), ("failed", "running"), ("failed", "deferred"),
    ]:
        run.state, task.state = state, task_state
        session.flush()
        found[f"{state} {task_state}"] = run.bundle_version in versions_in_use(session, "prod")
    run.state = "running"
    session.flush()
    found["of another bundle"] = versions_in_use(session, "other") != []
    session.query(DagModel).update({DagModel.is_stale: True})
    session.flush()
    found["only of a DAG that was removed"] = versions_in_use(session, "prod") == [run.bundle_version]
    session.rollback()
print(json.dumps(found))
"""


def test_which_runs_need_their_version(site) -> None:
    found = json.loads(site.python(STATES)[0])
    needed = {name for name, is_needed in found.items() if is_needed}
    assert found.keys() - needed == {
        *("success success", "failed failed", "failed None", "failed upstream_failed", "of another bundle")
    }


def test_a_dag_processor_that_ends_says_so_and_its_leases_stay(site) -> None:
    process = site.airflow.processes["dag-processor"]
    process.terminate()
    eventually("the dag processor to deregister", lambda: status(site)["sidecars"] == [], RUN_SECONDS)
    process.wait(RUN_SECONDS)
    assert status(site)["leases"]["holders"] == 1
    assert site.versions[4] in status(site)["leases"]["versions"]
