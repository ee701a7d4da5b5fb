"""Which value of the Helm chart changes what, of those about the network: all that each makes different."""

from chart_changes import GONE, Row
from chart_paths import ADMITS, ADMITTED, FROM, INGRESS, PEER, POLICY, SERVICE, TESTER, argument, mounted

NGINX = "nginx.ingress.kubernetes.io/"
ANNOTATIONS = {
    f"{NGINX}proxy-body-size": "0",
    f"{NGINX}proxy-buffering": "off",
    f"{NGINX}proxy-read-timeout": "75",
    f"{NGINX}proxy-request-buffering": "off",
    f"{NGINX}proxy-send-timeout": "75",
}
BACKEND = {"service": {"name": "dagferry-server", "port": {"name": "http"}}}
RULE = {"host": "dags.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}

ROWS = [
    Row(
        "service",
        {"service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}}, **ADMITTED},
        {
            f"{SERVICE}:spec.type": "LoadBalancer",
            f"{SERVICE}:spec.ports[http].port": 80,
            f"{SERVICE}:metadata.annotations": {"a": "b"},
            f"{TESTER}.env[SERVER].value": "http://dagferry-server:80",
            **ADMITS,
        },
    ),
    Row(
        "admin-service",
        {"adminService": {"port": 9000, "annotations": {"a": "b"}}},
        {
            f"{SERVICE}-admin:spec.ports[admin].port": 9000,
            f"{SERVICE}-admin:metadata.annotations": {"a": "b"},
        },
    ),
    Row(
        "ingress",
        {"ingress": INGRESS, **ADMITTED},
        {
            **ADMITS,
            "Ingress/dagferry-server": {"metadata": {"annotations": ANNOTATIONS}, "spec": {"rules": [RULE]}},
        },
    ),
    Row(
        "ingress-with-tls",
        {
            "ingress": {
                **INGRESS,
                "className": "nginx",
                "tls": {"secretName": "dags-tls"},
                "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt", f"{NGINX}proxy-buffering": "on"},
                "maxBodySize": "50m",
                "timeoutSeconds": 90,
            },
            "server": {"tlsSecret": "tls"},
            "networkPolicy": {"enabled": False},
        },
        {
            **argument("--tls-cert=/etc/dagferry/tls/tls.crt", "--tls-key=/etc/dagferry/tls/tls.key"),
            **mounted("tls", "/etc/dagferry/tls", secret={"secretName": "tls"}),
            f"{SERVICE}:spec.ports[http].appProtocol": "https",
            f"{TESTER}.env[SERVER].value": "https://dagferry-server:8000",
            POLICY: GONE,
            "Ingress/dagferry-server": {
                "metadata": {
                    "annotations": ANNOTATIONS
                    | {
                        "cert-manager.io/cluster-issuer": "letsencrypt",
                        f"{NGINX}proxy-buffering": "on",
                        f"{NGINX}proxy-body-size": "50m",
                        f"{NGINX}proxy-read-timeout": "90",
                        f"{NGINX}proxy-send-timeout": "90",
                        f"{NGINX}backend-protocol": "HTTPS",
                    }
                },
                "spec": {
                    "ingressClassName": "nginx",
                    "rules": [RULE],
                    "tls": [{"hosts": ["dags.example.com"], "secretName": "dags-tls"}],
                },
            },
        },
    ),
    Row(
        "third-party-ingress",
        {"ingress": {**INGRESS, "thirdPartyIngress": True}, **ADMITTED},
        {
            **argument("--third-party-ingress"),
            **ADMITS,
            "Ingress/dagferry-server": {"metadata": {"annotations": ANNOTATIONS | {f"{NGINX}proxy-body-size": "9m"}}},
        },
    ),
    Row(
        "http-route",
        {
            "httpRoute": {
                "enabled": True,
                "parentRefs": [{"name": "public", "namespace": "gateways"}],
                "hostnames": ["dags.example.com"],
                "requestTimeout": "10m",
                "annotations": {"a": "b"},
            },
            "service": {"port": 80},
            **ADMITTED,
        },
        {
            **ADMITS,
            f"{SERVICE}:spec.ports[http].port": 80,
            f"{TESTER}.env[SERVER].value": "http://dagferry-server:80",
            "HTTPRoute/dagferry-server": {
                "metadata": {"annotations": {"a": "b"}},
                "spec": {
                    "parentRefs": [{"name": "public", "namespace": "gateways"}],
                    "hostnames": ["dags.example.com"],
                    "rules": [
                        {
                            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                            "timeouts": {"request": "10m"},
                            "backendRefs": [{"name": "dagferry-server", "port": 80}],
                        }
                    ],
                },
            },
        },
    ),
    Row(
        "route",
        {"route": {"enabled": True, "host": "dags.example.com", "annotations": {"a": "b"}}},
        {
            f"{FROM}[0].from[2].namespaceSelector.matchLabels": {"policy-group.network.openshift.io/ingress": ""},
            f"{FROM}[0].from[2].podSelector": GONE,
            f"{FROM}[0].from[3].podSelector.matchLabels": {
                "app.kubernetes.io/name": "dagferry-test",
                "app.kubernetes.io/instance": "dagferry",
            },
            "Route/dagferry-server": {
                "metadata": {"annotations": {"a": "b", "haproxy.router.openshift.io/timeout": "75s"}},
                "spec": {
                    "host": "dags.example.com",
                    "to": {"kind": "Service", "name": "dagferry-server"},
                    "port": {"targetPort": "http"},
                    "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "None"},
                },
            },
        },
    ),
    Row("no-network-policy", {"networkPolicy": {"enabled": False}}, {POLICY: GONE}),
    Row("uploads", {"networkPolicy": {"uploadFrom": [PEER]}}, ADMITS),
    Row(
        "syncs",
        {"networkPolicy": {"syncFrom": [{"podSelector": {"matchLabels": {"a.b": "c"}}}]}},
        {
            f"{FROM}[0].from[1].podSelector.matchLabels": {"a.b": "c"},
            f"{FROM}[0].from[1].podSelector.matchLabels.tier": GONE,
        },
    ),
    Row(
        "metrics",
        {"networkPolicy": {"metricsFrom": [PEER]}},
        {f"{FROM}[1].from[0].namespaceSelector.matchLabels": PEER["namespaceSelector"]["matchLabels"]},
    ),
    Row(
        "egress",
        {"networkPolicy": {"egressPorts": [443, 6443, 3128]}},
        {f"{POLICY}:spec.egress[0].ports[2].port": 3128},
    ),
    Row(
        "astro-cli",
        {"astroCli": {"path": "/astro"}, "ingress": INGRESS, **ADMITTED},
        {
            **argument("--astro-cli=/astro", "--public-url=http://dags.example.com"),
            **ADMITS,
            "Ingress/dagferry-server": {"spec": {"rules": [RULE]}},
        },
    ),
]
