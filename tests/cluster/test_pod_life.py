"""Airflow's pods in a real cluster, with what deploy/airflow ships: killed sidecars, full volumes, new tokens, ends.

Each test has a deployment of its own, so nothing that one deploys reaches the pods of another.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.followers import (
    ONCE,
    SIDECAR,
    becomes,
    container,
    follower,
    installation,
    kill,
    pods_of,
    state_of,
    status_of,
    volume,
    wait_for,
    watched_status,
    workload,
)
from cluster.installed import TIMEOUT, Installed, Service, files
from cluster.outside import Cluster

pytestmark = pytest.mark.slow

DEPLOYMENTS = ("killed", "greedy", "full", "evicted", "tasks", "renewed", "empty", "away")
MANY_BYTES = b"#" * 12_000_000
FILL = "file = open('/dags/filler', 'wb')\nwhile True: file.write(bytes(65536)); file.flush()"
TASK = "print(open('/dags/current/a.py').read())"


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Installed]:
    with installation(cluster, [{"name": name} for name in DEPLOYMENTS]) as installed:
        yield installed


@pytest.fixture(scope="module")
def service(installed: Installed) -> Iterator[Service]:
    with installed.service() as service:
        yield service


def restarts(installed: Installed, name: str, *containers: str) -> list[int]:
    pod = installed.get(f"pod/{name}")
    return [state_of(pod, each)["restartCount"] for each in containers]


def test_a_killed_sidecar_is_started_again_alone_and_takes_the_next_deploy(
    installed: Installed, service: Service
) -> None:
    service.deploy(files("# one"), "killed")
    installed.apply(follower("killed", "killed"))
    wait_for(installed, "killed")
    installed.reads("killed", "# one")
    with watched_status(service, "killed") as seen:
        service.deploy(files("# two"), "killed")
        kill(installed.get("pod/killed"))
        becomes("the sidecar's restart", lambda: restarts(installed, "killed", SIDECAR) == [1])
        service.deploy(files("# three"), "killed")
        lines = installed.reads("killed", "# three")
        becomes("the fleet to be healthy", lambda: seen[-1]["state"] == "HEALTHY" and seen[-1]["sequence"] == 3)
    assert set(lines) <= {"reads # one", "reads # two", "reads # three"}
    assert restarts(installed, "killed", "killed") == [0]
    # It is the same pod to the server, neither lost nor another one.
    assert {(status["counts"]["known"], status["counts"]["lost"]) for status in seen} == {(1, 0)}


def test_a_sidecar_out_of_memory_leaves_the_live_tree_and_takes_a_smaller_deploy(
    installed: Installed, service: Service
) -> None:
    """A volume in memory counts as memory of who writes to it."""
    service.deploy(files("# one"), "greedy")
    pod = follower("greedy", "greedy")
    volume(pod, medium="Memory")
    container(pod)["resources"] = {"limits": {"memory": "64Mi"}}
    installed.apply(pod)
    wait_for(installed, "greedy")
    service.deploy(files("# two", **{f"{number}.py": MANY_BYTES for number in range(5)}), "greedy")

    def killed() -> bool:
        state = state_of(installed.get("pod/greedy"))
        return "OOMKilled" in json.dumps([state["state"], state["lastState"]])

    becomes("the sidecar to be killed", killed)
    service.deploy(files("# three"), "greedy")
    assert installed.reads("greedy", "# three") == ["reads # one", "reads # three"]
    assert restarts(installed, "greedy", "greedy") == [0]


def test_a_full_volume_keeps_its_tree_and_the_pod_says_so_until_there_is_space(
    installed: Installed, service: Service
) -> None:
    service.deploy(files("# one"), "full")
    pod = follower("full", "full")
    volume(pod, medium="Memory", sizeLimit="16Mi")  # a volume on disk is not full at its limit: the pod is evicted
    installed.apply(pod)
    wait_for(installed, "full")
    python = ("exec", "full", f"--container={SIDECAR}", "--", "/opt/dagferry/bin/python", "-c")
    assert "No space left" in installed.kubectl(*python, FILL, fails=True)
    with watched_status(service, "full") as seen:
        service.deploy(files("# two"), "full")
        becomes("the pod to fail", lambda: seen[-1]["counts"]["failing"])
        assert "full reports an error: volume_failed: " in seen[-1]["reason"]
        assert "No space left on device" in seen[-1]["reason"]
        assert '"code": "volume_failed"' in installed.kubectl("logs", "full", f"--container={SIDECAR}")
        assert 'syncs_total{outcome="volume_failed"}' in installed.kubectl(*python, METRICS)
        assert installed.reads("full", "# one") == ["reads # one"]
        installed.kubectl(*python, "import os; os.unlink('/dags/filler')")
        assert installed.reads("full", "# two") == ["reads # one", "reads # two"]
        becomes("the fleet to be healthy", lambda: seen[-1]["state"] == "HEALTHY")
    installed.undisturbed("full")


METRICS = """
import urllib.request
for line in urllib.request.urlopen("http://127.0.0.1:8001/metrics").read().decode().splitlines():
    if not line.startswith("#") and float(line.rpartition(" ")[2]) > 0:
        print(line)
"""


def test_a_pod_whose_trees_pass_the_volume_s_limit_is_evicted_and_replaced_but_not_one_that_bounds_them(
    installed: Installed, service: Service
) -> None:
    def deploy(number: int) -> None:
        service.deploy(files(f"# {number}", **{"large.py": MANY_BYTES + b"%d" % number}), "evicted")

    def reads(component: str, number: int) -> bool:
        name = pods_of(installed, component)[-1]["metadata"]["name"]
        return f"reads # {number}" in installed.kubectl("logs", name, f"--container={component}").splitlines()

    deploy(0)
    for name in ("evicted", "bounded"):
        pod = follower(name, "evicted")
        volume(pod, sizeLimit="40Mi")
        if name == "bounded":
            arguments = container(pod)["args"]
            arguments[arguments.index("--max-tree-bytes=2GiB")] = "--max-tree-bytes=20MiB"
        installed.apply(workload("Deployment", pod, 1))
        installed.kubectl("rollout", "status", f"deployment/{name}", TIMEOUT)
    for number in range(1, 5):
        deploy(number)
        becomes(f"{number} in both pods", lambda number=number: reads("evicted", number) and reads("bounded", number))

    def replaced() -> list[dict[str, Any]]:
        pods = pods_of(installed, "evicted")
        return pods if len(pods) > 1 and pods[0]["status"].get("reason") == "Evicted" else []

    evicted, replacement = becomes("the pod to be evicted and replaced", replaced)
    assert "exceeds" in evicted["status"]["message"]
    wait_for(installed, replacement["metadata"]["name"])
    becomes("the newest in the replacement", lambda: reads("evicted", 4))
    # It had the time to deregister.
    counts = status_of(service, "evicted")["counts"]
    assert (counts["known"], counts["live"]) == (2, 2)
    # Nobody looked at one of the volumes alone.
    [bounded] = pods_of(installed, "bounded")
    assert (state_of(bounded)["restartCount"], state_of(bounded, "bounded")["restartCount"]) == (0, 0)


def test_a_task_s_pod_and_a_job_end_beside_the_sidecar(installed: Installed, service: Service) -> None:
    service.deploy(files("# a task"), "tasks")
    installed.apply(follower("task", "tasks", TASK, part="workers.kubernetes"), follower("beside", "tasks", TASK))
    template = follower("job", "tasks", TASK)
    spec = {"template": {"metadata": template["metadata"], "spec": template["spec"]}, "backoffLimit": 0}
    installed.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec})
    for name in ("task", "beside"):
        installed.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", TIMEOUT)
        assert installed.kubectl("logs", name, f"--container={name}") == "# a task\n"
    installed.kubectl("wait", "--for=condition=Complete", "job/job", TIMEOUT)
    assert installed.kubectl("logs", "job/job", "--container=job") == "# a task\n"
    for pod in (installed.get("pod/beside"), *pods_of(installed, "job")):
        ended = state_of(pod)["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (0, "Completed"), "it ended on SIGTERM by itself"
    # And has said so: the server does not miss it.
    assert status_of(service, "tasks")["counts"]["known"] == 0


def test_a_renewed_token_is_read_without_a_restart(installed: Installed, service: Service) -> None:
    """The volume has a token of ours, so that it is renewed when we say, and refused in between."""

    numbers = itertools.count()

    def renew(audience: str) -> None:
        token = installed.cluster.token(installed.namespace, "default", audience)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "renewed"}, "stringData": {"token": token}}
        installed.apply(secret)

    def seen_at_once() -> None:
        """A change of the pod makes the kubelet look at its volumes now; it does so each minute or so anyway."""
        installed.kubectl("annotate", "--overwrite", "pod/renewed", f"renewed={next(numbers)}")

    renew("dagferry")
    service.deploy(files("# one"), "renewed")
    pod = follower("renewed", "renewed")
    [mounted] = [each for each in pod["spec"]["volumes"] if each["name"] == "dagferry-token"]
    mounted["projected"]["sources"] = [{"secret": {"name": "renewed"}}]
    installed.apply(pod)
    wait_for(installed, "renewed")
    renew("of-nobody")
    seen_at_once()
    log = ("logs", "renewed", f"--container={SIDECAR}")
    becomes("the token to be refused", lambda: '"code": "server_refused"' in installed.kubectl(*log))
    service.deploy(files("# two"), "renewed")
    renew("dagferry")
    seen_at_once()
    assert installed.reads("renewed", "# two") == ["reads # one", "reads # two"]
    installed.undisturbed("renewed")


def test_a_pod_that_restarts_before_the_first_deploy_waits_in_its_init_container_again(
    installed: Installed, service: Service
) -> None:
    log = ("logs", "empty", f"--container={ONCE}")
    for attempt in range(2):
        installed.apply(follower("empty", "empty"))
        becomes("the init container", lambda: "running" in state_of(installed.get("pod/empty"), ONCE).get("state", {}))
        becomes("its reason", lambda: '"code": "awaiting_first_deploy"' in installed.kubectl(*log))
        assert "running" not in state_of(installed.get("pod/empty"), "empty").get("state", {})
        if attempt == 0:
            installed.kubectl("delete", "pod/empty", TIMEOUT)
    service.deploy(files("# one"), "empty")
    wait_for(installed, "empty")
    assert installed.reads("empty", "# one") == ["reads # one"]
    installed.undisturbed("empty")


def test_without_a_server_pods_go_on_and_restart_but_a_new_one_waits_for_it(
    installed: Installed, service: Service
) -> None:
    """It is the last of this file: it stops the server for a while."""
    service.deploy(files("# one"), "away")
    stays = follower("stays", "away", restartPolicy="Always")
    installed.apply(stays)
    wait_for(installed, "stays")
    server = "statefulset/dagferry-server"
    installed.kubectl("scale", server, "--replicas=0")
    installed.kubectl("wait", "--for=delete", "pod/dagferry-server-0", TIMEOUT)
    installed.apply(follower("new", "away"))
    kill(installed.get("pod/stays"), b"python3\0-u")
    kill(installed.get("pod/stays"))
    becomes("both restarts", lambda: restarts(installed, "stays", "stays", SIDECAR) == [1, 1])
    wait_for(installed, "stays")
    assert installed.reads("stays", "# one") == ["reads # one"]
    becomes("the wait", lambda: "running" in state_of(installed.get("pod/new"), ONCE).get("state", {}))
    installed.kubectl("scale", server, "--replicas=1")
    wait_for(installed, "new")
    assert installed.reads("new", "# one") == ["reads # one"]
