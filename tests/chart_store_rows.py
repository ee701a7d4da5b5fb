"""Which value of the Helm chart about the object store changes what: compared to a chart that has one."""

from typing import Any

from chart_changes import GONE, Row
from chart_paths import FROM, POD, POLICY, SERVER, SERVICE, SET, TESTER, argument, mounted

SERVERS = "Deployment/dagferry-server"
SPREADS = f"{SERVERS}:spec.template.spec.topologySpreadConstraints"
PEERS = "Service/dagferry-server-peers"
SELECTOR = {"app.kubernetes.io/name": "dagferry-server", "app.kubernetes.io/instance": "dagferry"}
S3: dict[str, Any] = {"store": {"url": "s3://dags/prod"}}
GS: dict[str, Any] = {"store": {"url": "gs://dags"}}
OWN: dict[str, Any] = {"store": {"url": "s3://dags", "env": {"AWS_ENDPOINT_URL": "https://store.example.com:9000"}}}
SPREAD = [
    {
        "topologyKey": key,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": SELECTOR},
        "matchLabelKeys": ["pod-template-hash"],
    }
    for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
]


def of_servers(changes: dict[str, Any]) -> dict[str, Any]:
    """The same changes, of the pods of the Deployment."""
    return {place.replace(SET, SERVERS): value for place, value in changes.items()}


def rule(number: int, port: int | str, **more: Any) -> dict[str, Any]:
    """The change of a rule of the NetworkPolicy about what the servers connect to."""
    place = f"{POLICY}:spec.egress[{number}]"
    found: dict[str, Any] = {f"{place}.ports[0].port": port}
    for name, value in more.items():
        found[f"{place}.to[0].{name}"] = value
    return found


ROWS = [
    Row(
        "store",
        S3,
        {
            SET: GONE,
            SERVERS: {
                "spec": {
                    "replicas": 1,
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                    "selector": {"matchLabels": SELECTOR},
                    "template": {
                        "spec": {"terminationGracePeriodSeconds": 40, "topologySpreadConstraints": SPREAD},
                    },
                }
            },
            "Secret/dagferry-peers": {"kind": "Secret"},
            PEERS: {
                "spec": {
                    "clusterIP": "None",
                    "publishNotReadyAddresses": True,
                    "selector": SELECTOR,
                    "ports": [{"name": "http", "port": 8000, "targetPort": "http", "appProtocol": "http"}],
                }
            },
            f"{FROM}[0].from[3].podSelector.matchLabels": SELECTOR,
            **rule(2, "http", **{"podSelector.matchLabels": SELECTOR}),
            **rule(3, 80, **{"ipBlock.cidr": "169.254.170.23/32"}),
        },
    ),
    Row(
        "several-servers",
        {"replicas": 3, "podDisruptionBudget": {"maxUnavailable": "30%"}},
        {
            f"{SERVERS}:spec.replicas": 3,
            "PodDisruptionBudget/dagferry-server": {
                "spec": {
                    "maxUnavailable": "30%",
                    "unhealthyPodEvictionPolicy": "AlwaysAllow",
                    "selector": {"matchLabels": SELECTOR},
                }
            },
        },
        S3,
    ),
    Row("no-server", {"replicas": 0}, {f"{SERVERS}:spec.replicas": 0}, S3),
    Row(
        "google-cloud-storage",
        GS,
        {
            **of_servers({f"{SERVER}.args[--store=s3://dags/prod]": GONE, **argument("--store=gs://dags")}),
            f"{POLICY}:spec.egress[3].to[0].ipBlock.cidr": "169.254.169.254/32",
            **rule(4, 988, **{"ipBlock.cidr": "169.254.169.252/32"}),
        },
        S3,
    ),
    Row(
        "store-of-ones-own",
        OWN,
        {
            **of_servers(
                {
                    f"{SERVER}.args[--store=s3://dags/prod]": GONE,
                    **argument("--store=s3://dags"),
                    f"{SERVER}.env[AWS_ENDPOINT_URL]": {
                        "name": "AWS_ENDPOINT_URL",
                        "value": "https://store.example.com:9000",
                    },
                }
            ),
            f"{POLICY}:spec.egress[3].ports[0].port": 9000,
            f"{POLICY}:spec.egress[3].to[0]": GONE,
        },
        S3,
    ),
    Row(
        "credentials",
        {"store": {"existingSecret": "s3"}, "extraEnv": [{"name": "A", "value": "b"}]},
        of_servers(
            {
                f"{SERVER}.env[A]": {"name": "A", "value": "b"},
                f"{SERVER}.envFrom[0].secretRef.name": "s3",
            }
        ),
        OWN,
    ),
    Row(
        "credentials-of-no-agent",
        {"store": {"existingSecret": "s3"}},
        {
            **of_servers({f"{SERVER}.envFrom[0].secretRef.name": "s3"}),
            f"{POLICY}:spec.egress[3]": GONE,
        },
        S3,
    ),
    Row(
        "cache",
        {"store": {"cacheSize": "1Ti", "pollSeconds": 5}},
        of_servers(
            {
                f"{SERVER}.args[--max-cache-bytes=4096MiB]": GONE,
                **argument("--max-cache-bytes=524288MiB", "--store-poll=5"),
                f"{POD}.volumes[data].emptyDir.sizeLimit": "1Ti",
            }
        ),
        S3,
    ),
    Row(
        "peer-secret-of-ones-own",
        {"peers": {"existingSecret": "mine"}},
        {**of_servers({f"{POD}.volumes[peers].secret.secretName": "mine"}), "Secret/dagferry-peers": GONE},
        S3,
    ),
    Row(
        "peers-with-tls",
        {"server": {"tlsSecret": "tls"}, "peers": {"serverName": "dags.example.com"}},
        {
            **of_servers(argument("--tls-cert=/etc/dagferry/tls/tls.crt", "--tls-key=/etc/dagferry/tls/tls.key")),
            **of_servers(argument("--peer-server-name=dags.example.com")),
            **of_servers(mounted("tls", "/etc/dagferry/tls", secret={"secretName": "tls"})),
            f"{SERVICE}:spec.ports[http].appProtocol": "https",
            f"{PEERS}:spec.ports[http].appProtocol": "https",
            f"{TESTER}.env[SERVER].value": "https://dagferry-server:8000",
        },
        S3,
    ),
    Row(
        "azure-workload-identity",
        {
            "store": {"url": "az://dags/prod"},
            "serviceAccount": {"annotations": {"azure.workload.identity/client-id": "b5a5"}},
        },
        {
            **of_servers({f"{SERVER}.args[--store=s3://dags/prod]": GONE, **argument("--store=az://dags/prod")}),
            f"{POLICY}:spec.egress[3]": GONE,
            "ServiceAccount/dagferry-server:metadata.annotations": {"azure.workload.identity/client-id": "b5a5"},
            f"{SERVERS}:spec.template.metadata.labels": {**SELECTOR, "azure.workload.identity/use": "true"},
        },
        S3,
    ),
    Row(
        "own-spread",
        {"topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]},
        {
            f"{SPREADS}[0].maxSkew": 2,
            f"{SPREADS}[0].topologyKey": "rack",
            f"{SPREADS}[0].whenUnsatisfiable": "DoNotSchedule",
            f"{SPREADS}[0].labelSelector": GONE,
            f"{SPREADS}[0].matchLabelKeys": GONE,
            f"{SPREADS}[1]": GONE,
        },
        S3,
    ),
]
