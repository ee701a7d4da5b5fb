"""Which value of the Helm chart changes what, except of the network: all that each makes different."""

from chart_changes import GONE, Row
from chart_paths import (
    CONFIG,
    DEPLOYMENTS,
    FROM,
    ISSUERS,
    POD,
    POLICY,
    SERVER,
    SERVICE,
    SET,
    TEST,
    TESTER,
    TOKENS,
    argument,
    image,
    mounted,
)

TOLERATION = {"key": "dags", "operator": "Exists"}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
AFFINITY = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
CONTAINER = {
    "name": "logs",
    "image": "logs:1",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
BIG = {"limits": {"cpu": "2", "memory": "6Gi"}}
GITHUB = {
    "name": "github",
    "kind": "github",
    "issuer": "https://token.actions.githubusercontent.com",
    "audience": "dagferry",
    "rules": [{"claims": {"repository_id": "1"}, "scopes": ["deploy"], "deployments": ["prod"]}],
}

CHECKERS = "system:serviceaccount:airflow:dagferry-checker-*"

ROWS = [
    Row(
        "registry",
        {"image": {"registry": "r.example.com:5000"}},
        image("r.example.com:5000/dagferry/dagferry-server:0.1.0"),
    ),
    Row("repository", {"image": {"repository": "team/server"}}, image("ghcr.io/team/server:0.1.0")),
    Row("tag", {"image": {"tag": "9"}}, image("ghcr.io/dagferry/dagferry-server:9")),
    Row(
        "digest",
        {"image": {"tag": "9", "digest": "sha256:" + "a" * 64}},
        image("ghcr.io/dagferry/dagferry-server@sha256:" + "a" * 64),
    ),
    Row(
        "pull-policy",
        {"image": {"pullPolicy": "Always"}},
        {f"{SERVER}.imagePullPolicy": "Always", f"{TESTER}.imagePullPolicy": "Always"},
    ),
    Row(
        "checkers",
        {"checkers": [{"deployment": "prod", "image": "airflow:1"}]},
        {
            f"{ISSUERS}[cluster].rules[0].except_claims.sub": [CHECKERS],
            f"{ISSUERS}[cluster].rules[2].claims.sub": CHECKERS.replace("*", "prod"),
            f"{ISSUERS}[cluster].rules[2].deployments": ["prod"],
            f"{ISSUERS}[cluster].rules[2].scopes": ["check"],
            f"{FROM}[0].from[3].podSelector.matchLabels": {
                "app.kubernetes.io/name": "dagferry-checker",
                "app.kubernetes.io/instance": "dagferry",
            },
            "ServiceAccount/dagferry-checker-prod": {"automountServiceAccountToken": False},
            "Deployment/dagferry-checker-prod": {"spec": {"replicas": 1}},
            "NetworkPolicy/dagferry-checkers": {"spec": {"policyTypes": ["Ingress", "Egress"]}},
        },
    ),
    Row(
        "pull-secrets",
        {"imagePullSecrets": [{"name": "registry"}]},
        {
            f"{POD}.imagePullSecrets[registry].name": "registry",
            f"{TEST}:spec.imagePullSecrets[registry].name": "registry",
        },
    ),
    Row(
        "deployments",
        {"deployments": [{"name": "prod", "tiers": 4, "exclude": ["tests/"]}, {"name": "dev"}]},
        {
            f"{DEPLOYMENTS}.deployments[prod].tiers": 4,
            f"{DEPLOYMENTS}.deployments[prod].exclude[tests/]": "tests/",
            f"{DEPLOYMENTS}.deployments[dev].name": "dev",
            f"{ISSUERS}[cluster].rules[0].deployments[dev]": "dev",
            f"{TOKENS}:stringData.tokens_toml.tokens[deploy].deployments[dev]": "dev",
        },
    ),
    Row(
        "defaults",
        {"deploymentDefaults": {"keep-days": 30, "airflow-python": "3.12", "allow-empty": False}},
        {f"{DEPLOYMENTS}.defaults": {"keep-days": 30, "airflow-python": "3.12", "allow-empty": False}},
    ),
    Row(
        "tokens-of-ones-own",
        {"tokens": {"existingSecret": "mine"}},
        {f"{POD}.volumes[tokens].secret.secretName": "mine", TOKENS: GONE, "Secret/dagferry-deploy-token": GONE},
    ),
    Row(
        "no-tokens",
        {"tokens": {"create": False}},
        {
            f"{POD}.volumes[tokens]": GONE,
            f"{SERVER}.volumeMounts[tokens]": GONE,
            f"{SERVER}.args[--tokens-file=/etc/dagferry/tokens/tokens.toml]": GONE,
            TOKENS: GONE,
            "Secret/dagferry-deploy-token": GONE,
        },
    ),
    Row(
        "no-cluster-issuer",
        {"clusterIssuer": {"enabled": False}},
        {
            f"{CONFIG}.issuers_toml": GONE,
            f"{SERVER}.args[--issuers-file=/etc/dagferry/config/issuers.toml]": GONE,
            f"{POD}.automountServiceAccountToken": False,
            f"{FROM}[0].from[2]": GONE,
            TEST: GONE,
            "ServiceAccount/dagferry-test": GONE,
        },
    ),
    Row(
        "audience",
        {"clusterIssuer": {"audience": "dags"}},
        {
            f"{ISSUERS}[cluster].audience": "dags",
            f"{TEST}:spec.volumes[token].projected.sources[0].serviceAccountToken.audience": "dags",
        },
    ),
    Row(
        "issuer",
        {"clusterIssuer": {"issuer": "https://oidc.example.com/1"}},
        {f"{ISSUERS}[cluster].issuer": "https://oidc.example.com/1"},
    ),
    Row(
        "rules",
        {
            "clusterIssuer": {
                "rules": [
                    {"claims": {"sub": "system:serviceaccount:ci:job"}, "scopes": ["deploy"], "deployments": ["*"]}
                ]
            }
        },
        {
            f"{ISSUERS}[cluster].rules[0].claims.sub": "system:serviceaccount:ci:job",
            f"{ISSUERS}[cluster].rules[0].scopes[deploy]": "deploy",
            f"{ISSUERS}[cluster].rules[0].scopes[sync]": GONE,
            f"{ISSUERS}[cluster].rules[0].deployments[*]": "*",
            f"{ISSUERS}[cluster].rules[0].deployments[prod]": GONE,
        },
    ),
    Row("issuers", {"issuers": [GITHUB]}, {f"{ISSUERS}[github]": GITHUB}),
    Row(
        "tls",
        {"server": {"tlsSecret": "tls"}},
        {
            **argument("--tls-cert=/etc/dagferry/tls/tls.crt", "--tls-key=/etc/dagferry/tls/tls.key"),
            **mounted("tls", "/etc/dagferry/tls", secret={"secretName": "tls"}),
            f"{SERVICE}:spec.ports[http].appProtocol": "https",
            f"{TESTER}.env[SERVER].value": "https://dagferry-server:8000",
        },
    ),
    Row(
        "proxy",
        {
            "server": {"proxyUserHeader": "X-User", "proxySecret": "proxy"},
            "tokens": {"existingSecret": "dagferry-tokens"},
        },
        {
            **argument("--proxy-user-header=X-User", "--proxy-secret-file=/etc/dagferry/proxy/proxy-secret"),
            **mounted("proxy", "/etc/dagferry/proxy", secret={"secretName": "proxy"}),
            TOKENS: GONE,
            "Secret/dagferry-deploy-token": GONE,
        },
    ),
    Row("store-size", {"server": {"maxStoreBytes": "8GiB"}}, argument("--max-store-bytes=8GiB")),
    Row(
        "public-url",
        {"publicUrl": "https://dags.example.com", "astroCli": {"path": "/astro"}},
        argument("--astro-cli=/astro", "--public-url=https://dags.example.com"),
    ),
    Row(
        "tiers",
        {"tiers": 4},
        {
            **argument("--tiers=4"),
            f"{SERVER}.resources": {kind: {"cpu": "4", "memory": "6144Mi"} for kind in ("limits", "requests")},
        },
    ),
    Row(
        "resources",
        {"resources": BIG},
        {
            f"{SERVER}.resources.limits": BIG["limits"],
            f"{SERVER}.resources.requests.cpu": GONE,
            f"{SERVER}.resources.requests.memory": GONE,
        },
    ),
    Row(
        "tiers-and-resources",
        {"tiers": 2, "resources": {"requests": {"cpu": "1", "memory": "1536Mi"}}},
        {
            **argument("--tiers=2"),
            f"{SERVER}.resources.limits.cpu": GONE,
            f"{SERVER}.resources.limits.memory": GONE,
        },
    ),
    Row("stopped", {"replicas": 0}, {f"{SET}:spec.replicas": 0}),
    Row(
        "volume",
        {"persistence": {"size": "50Gi", "storageClass": "fast", "retain": False}},
        {
            f"{SET}:spec.volumeClaimTemplates[0].spec.resources.requests.storage": "50Gi",
            f"{SET}:spec.volumeClaimTemplates[0].spec.storageClassName": "fast",
            f"{SET}:spec.persistentVolumeClaimRetentionPolicy.whenDeleted": "Delete",
        },
    ),
    Row(
        "service-account",
        {"serviceAccount": {"name": "dags", "annotations": {"a": "b"}}},
        {
            f"{POD}.serviceAccountName": "dags",
            "ServiceAccount/dagferry-server": GONE,
            "ServiceAccount/dags": {"metadata": {"annotations": {"a": "b"}}, "automountServiceAccountToken": False},
        },
    ),
    Row(
        "service-account-of-ones-own",
        {"serviceAccount": {"create": False, "name": "dags"}},
        {f"{POD}.serviceAccountName": "dags", "ServiceAccount/dagferry-server": GONE},
    ),
    Row(
        "no-service-account",
        {"serviceAccount": {"create": False}},
        {f"{POD}.serviceAccountName": "default", "ServiceAccount/dagferry-server": GONE},
    ),
    Row(
        "rbac",
        {"rbac": {"create": True}},
        {
            "ClusterRoleBinding/airflow-dagferry-server": {
                "roleRef": {"kind": "ClusterRole", "name": "system:service-account-issuer-discovery"},
                "subjects": [{"kind": "ServiceAccount", "name": "dagferry-server", "namespace": "airflow"}],
            }
        },
    ),
    Row(
        "openshift",
        {"openshift": True},
        {
            f"{POD}.securityContext.runAsUser": GONE,
            f"{POD}.securityContext.fsGroup": GONE,
            f"{TEST}:spec.securityContext.runAsUser": GONE,
            f"{POLICY}:spec.egress[1].ports[2]": {"port": 5353, "protocol": "UDP"},
            f"{POLICY}:spec.egress[1].ports[3]": {"port": 5353, "protocol": "TCP"},
        },
    ),
    Row(
        "service-monitor",
        {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "10s", "labels": {"release": "prometheus"}}}},
        {
            "ServiceMonitor/dagferry-server": {
                "metadata": {"labels": {"release": "prometheus"}},
                "spec": {"jobLabel": "app.kubernetes.io/name", "endpoints": [{"port": "admin", "interval": "10s"}]},
            }
        },
    ),
    Row(
        "pod-monitor",
        {
            "monitoring": {
                "podMonitor": {"enabled": True, "interval": "10s", "namespaces": ["a", "b"], "labels": {"c": "d"}}
            }
        },
        {
            "PodMonitor/dagferry-sidecar": {
                "metadata": {"labels": {"c": "d"}},
                "spec": {
                    "namespaceSelector": {"matchNames": ["a", "b"]},
                    "podMetricsEndpoints": [
                        {
                            "port": "dagferry",
                            "interval": "10s",
                            "relabelings": [{"targetLabel": "job", "replacement": "dagferry-sidecar"}],
                        }
                    ],
                },
            }
        },
    ),
    Row(
        "alerts",
        {"monitoring": {"prometheusRule": {"enabled": True, "labels": {"c": "d"}}}},
        {"PrometheusRule/dagferry-server": {"metadata": {"labels": {"c": "d"}}}},
    ),
    Row(
        "dashboard",
        {"monitoring": {"dashboard": {"enabled": True, "labels": {"c": "d"}}}},
        {"ConfigMap/dagferry-dashboard": {"metadata": {"labels": {"c": "d", "grafana_dashboard": "1"}}}},
    ),
    Row("arguments", {"extraArgs": ["--max-files=200000"]}, argument("--max-files=200000")),
    Row(
        "environment",
        {"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]},
        {f"{SERVER}.env[HTTPS_PROXY]": {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}},
    ),
    Row(
        "volumes",
        {
            "extraVolumes": [{"name": "hooks", "secret": {"secretName": "hooks"}}],
            "extraVolumeMounts": [{"name": "hooks", "mountPath": "/hooks", "readOnly": True}],
        },
        mounted("hooks", "/hooks", secret={"secretName": "hooks"}),
    ),
    Row(
        "containers",
        {"extraContainers": [CONTAINER]},
        {f"{POD}.containers[logs]": CONTAINER},
    ),
    Row(
        "scheduling",
        {
            "nodeSelector": {"disk": "ssd"},
            "affinity": AFFINITY,
            "tolerations": [TOLERATION],
            "topologySpreadConstraints": [SPREAD],
            "priorityClassName": "high",
        },
        {
            f"{POD}.nodeSelector.disk": "ssd",
            f"{POD}.affinity": AFFINITY,
            f"{POD}.tolerations": [TOLERATION],
            f"{POD}.topologySpreadConstraints": [SPREAD],
            f"{POD}.priorityClassName": "high",
            f"{TEST}:spec.nodeSelector.disk": "ssd",
            f"{TEST}:spec.tolerations": [TOLERATION],
        },
    ),
    Row(
        "pod-metadata",
        {"podLabels": {"team": "data", "app.kubernetes.io/name": "other"}, "podAnnotations": {"a": "b"}},
        {
            f"{SET}:spec.template.metadata.labels": {
                "app.kubernetes.io/instance": "dagferry",
                "app.kubernetes.io/name": "dagferry-server",
                "team": "data",
            },
            f"{SET}:spec.template.metadata.annotations.a": "b",
        },
    ),
]
