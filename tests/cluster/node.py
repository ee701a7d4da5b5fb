"""The processes of a cluster of one node, and the files that configure them.

All of it runs in namespaces of its own (``inside``), so the addresses below exist only there, and two clusters on a
machine do not meet.
"""

import json
from pathlib import Path

from cluster.control import SERVICE_ADDRESS, api_server_command, etcd_command
from cluster.images import PAUSE
from cluster.pki import Authority, write_signing_key
from cluster.programs import find

NODE = "node1"
NODE_ADDRESS, NODE_PREFIX = "10.77.0.1", 24
GATEWAY = "10.77.0.254"
"""Nobody's: a default route is needed for packets to the addresses of Services, which no host has."""
POD_RANGE = "10.78.0.0/24"
API_PORT = 6443
DNS_ADDRESS = "10.96.0.10"
"""That of the Service kube-dns in addons.yaml."""
DOMAIN = "cluster.local"
QUEUE = 100
"""The number of the queue in which packets of pods wait for what the network policies say."""
MAX_PODS = 200
VOLUMES = 48
VOLUME_SIZE = "50Gi"
ETCD_PORT, ETCD_PEER_PORT = 2379, 2380
MACHINE = ("containerd", "kubelet", "proxy")
"""The processes of the node itself. The others make the control plane, which is elsewhere as far as can be told."""
OLD_KEYS = "tokens-*.key"
"""Keys in ``pki`` that no longer sign service account tokens: what they have signed is still accepted."""


def make_authority(folder: Path) -> Authority:
    """Make the certificates of the cluster in ``folder/pki``, and what its processes are known by."""
    authority = Authority(folder / "pki")
    hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    addresses = ["127.0.0.1", NODE_ADDRESS, SERVICE_ADDRESS]
    authority.issue("api-server", "kube-apiserver", addresses=addresses, hosts=hosts)
    write_signing_key(authority.folder / "tokens.key")
    url = f"https://{NODE_ADDRESS}:{API_PORT}"
    authority.kubeconfig("inside", url, "admin", "system:masters")
    authority.kubeconfig("controllers", url, "system:kube-controller-manager")
    authority.kubeconfig("scheduler", url, "system:kube-scheduler")
    authority.kubeconfig("proxy", url, "system:kube-proxy")
    authority.issue("kubelet", f"system:node:{NODE}", addresses=[NODE_ADDRESS], hosts=[NODE])
    authority.kubeconfig("node", url, f"system:node:{NODE}", "system:nodes")
    return authority


def write_files(folder: Path, cgroup: str) -> None:
    """Write what configures containerd, the pods' network, the kubelet and the proxy; ``cgroup`` is the pods' own."""
    for name in ("log", "cni", "kubelet", "volumes"):
        (folder / name).mkdir()
    for number in range(VOLUMES):
        (folder / "volumes" / str(number)).mkdir()
    (folder / "resolv.conf").touch()
    (folder / "containerd.toml").write_text(_containerd(folder))
    # JSON is YAML too.
    for name, content in (
        ("cni/pods.conflist", _pod_network(folder)),
        ("kubelet.json", _kubelet(folder, cgroup)),
        ("proxy.json", _proxy(folder)),
    ):
        (folder / name).write_text(json.dumps(content, indent=2))


def control_commands(folder: Path) -> dict[str, list[str]]:
    """The processes that make the API, in the order in which they start."""
    pki = folder / "pki"
    kubelet = [f"--kubelet-client-certificate={pki}/inside.crt", f"--kubelet-client-key={pki}/inside.key"]
    kubelet += ["--kubelet-preferred-address-types=InternalIP"]  # no host knows the node's name
    keys = {"signing_key": pki / "tokens.key", "other_keys": sorted(pki.glob(OLD_KEYS))}
    server = api_server_command(pki, ETCD_PORT, NODE_ADDRESS, API_PORT, **keys)
    return {
        "etcd": etcd_command(folder / "etcd", ETCD_PORT, ETCD_PEER_PORT),
        "api-server": [*server, *kubelet, "--allow-privileged=true"],
    }


def node_commands(folder: Path) -> dict[str, list[str]]:
    """The processes that run pods. They need an API server that answers."""
    pki = folder / "pki"
    return {
        "containerd": ["containerd", "--config", str(folder / "containerd.toml")],
        "controllers": [
            str(find("kube-controller-manager")), *_as(pki / "controllers.kubeconfig"),
            f"--service-account-private-key-file={pki}/tokens.key", f"--root-ca-file={pki}/ca.crt",
            "--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1",
        ],
        "scheduler": [
            str(find("kube-scheduler")), *_as(pki / "scheduler.kubeconfig"),
            "--leader-elect=false", "--bind-address=127.0.0.1",
        ],
        "kubelet": [
            str(find("kubelet")), f"--config={folder}/kubelet.json", f"--kubeconfig={pki}/node.kubeconfig",
            f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}", f"--root-dir={folder}/kubelet",
            f"--cert-dir={pki}",
        ],
        "proxy": [str(find("kube-proxy")), f"--config={folder}/proxy.json", f"--hostname-override={NODE}"],
    }  # fmt: skip


def _as(kubeconfig: Path) -> list[str]:
    return [f"--{kind}kubeconfig={kubeconfig}" for kind in ("", "authentication-", "authorization-")]


def _containerd(folder: Path) -> str:
    return f"""version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true  # not every root may lower it
  disable_apparmor = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _pod_network(folder: Path) -> object:
    ipam = {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True}
    bridge["ipam"] = {**ipam, "dataDir": f"{folder}/addresses"}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet(folder: Path, cgroup: str) -> object:
    authorities = {"clientCAFile": f"{folder}/pki/ca.crt"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": authorities},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{folder}/pki/kubelet.crt",
        "tlsPrivateKeyFile": f"{folder}/pki/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": f"{folder}/resolv.conf",
        "maxPods": MAX_PODS,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": ["none"],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
        "imageGCHighThresholdPercent": 100,
        "volumeStatsAggPeriod": "5s",  # how soon a full emptyDir is noticed
        "podLogsDir": f"{folder}/pods",
        "volumePluginDir": f"{folder}/plugins",
    }


def _proxy(folder: Path) -> object:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": f"{folder}/pki/proxy.kubeconfig"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }


def volumes(folder: Path) -> list[object]:
    """What a pod may claim from the start: folders of the machine, of the default class."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"volume-{number}"},
            "spec": {
                "capacity": {"storage": VOLUME_SIZE},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local",
                "local": {"path": f"{folder}/volumes/{number}"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            },
        }
        for number in range(VOLUMES)
    ]
