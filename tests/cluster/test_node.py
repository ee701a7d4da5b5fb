"""A real cluster runs pods: they find each other by name, keep volumes, and reach only what policies let them."""

import json
from typing import Any

import pytest

from cluster.namespaces import restricted_namespace
from cluster.outside import Cluster
from cluster.workloads import python_pod

WAIT = "--timeout=120s"
SERVE = """
import http.server, os
os.chdir("/tmp")
open("name", "w").write(os.uname().nodename)
http.server.ThreadingHTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
ASK = """
import time, urllib.request
for attempt in range({attempts}):
    try:
        print(urllib.request.urlopen("http://{host}:8000/name", timeout=2).read().decode())
        break
    except OSError:
        time.sleep(0.5)
else:
    print("no answer")
"""
MANY_ATTEMPTS, FEW_ATTEMPTS = 60, 3
WRITE = """
import os
print("found", sorted(os.listdir("/data")))
open("/data/kept", "w").close()
"""


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return restricted_namespace(cluster)


def apply(cluster: Cluster, namespace: str, *found: dict[str, Any]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(found)}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(listed))


def log_of(cluster: Cluster, namespace: str, pod: str) -> str:
    """What a pod that ends has printed."""
    cluster.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", WAIT)
    return cluster.kubectl("-n", namespace, "logs", pod)


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 8000}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports, **spec}}


def serve(cluster: Cluster, namespace: str) -> None:
    """Run a server behind the Service ``web``, and with a name of its own in ``pods``."""
    pod = python_pod("server", SERVE, {"app": "web"})
    pod["spec"] |= {"hostname": "server", "subdomain": "pods"}
    pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    selector = {"app": "web"}
    apply(
        cluster, namespace, pod, service("web", selector=selector), service("pods", selector=selector, clusterIP="None")
    )
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/server", WAIT)


def answer(cluster: Cluster, namespace: str, host: str, labels: dict[str, str], attempts: int) -> str:
    """What a pod with these labels gets from the server at ``host``."""
    name = f"client-{len(host)}-{len(labels)}"
    apply(cluster, namespace, python_pod(name, ASK.format(host=host, attempts=attempts), labels))
    return log_of(cluster, namespace, name).strip()


def test_a_pod_runs_and_its_log_is_read(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, python_pod("hello", "import os; print(os.getuid(), 'says hello')"))
    assert log_of(cluster, namespace, "hello") == "50000 says hello\n"


def test_pods_reach_a_service_by_its_short_name_and_a_pod_by_its_own(cluster: Cluster, namespace: str) -> None:
    serve(cluster, namespace)
    for host in ("web", f"server.pods.{namespace}.svc.cluster.local"):
        assert answer(cluster, namespace, host, {}, MANY_ATTEMPTS) == "server"


def test_a_network_policy_lets_in_whom_it_names_and_nobody_else(cluster: Cluster, namespace: str) -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"friend": "true"}}}], "ports": [{"port": 8000}]}
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [rule]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}, "spec": spec}
    apply(cluster, namespace, policy)
    serve(cluster, namespace)
    assert answer(cluster, namespace, "web", {"friend": "true"}, MANY_ATTEMPTS) == "server"
    assert answer(cluster, namespace, "web", {}, FEW_ATTEMPTS) == "no answer"


def test_a_claimed_volume_outlives_its_pod_and_belongs_to_the_pod_s_group(cluster: Cluster, namespace: str) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    apply(
        cluster, namespace,
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim},
    )  # fmt: skip
    for name, found in (("first", "[]"), ("second", "['kept']")):
        pod = python_pod(name, WRITE)
        pod["spec"]["securityContext"]["fsGroup"] = 50000
        pod["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        apply(cluster, namespace, pod)
        assert log_of(cluster, namespace, name) == f"found {found}\n"
        cluster.kubectl("-n", namespace, "delete", "pod", name)


def test_a_container_that_takes_more_memory_than_its_limit_is_killed(cluster: Cluster, namespace: str) -> None:
    pod = python_pod("greedy", "b'x' * 2**28")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    apply(cluster, namespace, pod)
    cluster.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Failed", "pod/greedy", WAIT)
    why = "-o=jsonpath={.status.containerStatuses[0].state.terminated.reason}"
    assert cluster.kubectl("-n", namespace, "get", "pod", "greedy", why) == "OOMKilled"


def test_a_pod_whose_volume_passes_its_limit_is_evicted(cluster: Cluster, namespace: str) -> None:
    pod = python_pod("hoarder", "import time; open('/data/a', 'wb').write(bytes(2**25)); time.sleep(1000)")
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    apply(cluster, namespace, pod)
    cluster.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.reason}=Evicted", "pod/hoarder", WAIT)


def test_a_command_runs_in_a_pod(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, python_pod("sleeper", "import time; time.sleep(1000)"))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/sleeper", WAIT)
    said = cluster.kubectl("-n", namespace, "exec", "sleeper", "--", "python3", "-c", "print('from inside')")
    assert said == "from inside\n"


def test_a_pod_that_restricted_does_not_allow_is_refused(cluster: Cluster, namespace: str) -> None:
    pod = python_pod("root", "")
    pod["spec"]["securityContext"]["runAsUser"] = 0
    assert "violates PodSecurity" in cluster.kubectl(
        "-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod), fails=True
    )


def test_the_machine_s_network_does_not_see_the_cluster_s(cluster: Cluster) -> None:
    """Only the API is forwarded, on loopback."""
    assert "10.78.0." in cluster.kubectl("get", "pods", "-A", "-o=jsonpath={..podIP}")
    with open("/proc/net/fib_trie") as routes:
        assert "10.78.0." not in routes.read()
