"""The chart is of this version, passes Helm's own linter, and can be upgraded, renamed and read."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import CHART, KUBERNETES, arguments, default, helm, pod, refusal, render, server, template
from dagferry_core import __version__
from dagferry_server.auth.tokens import parse_tokens
from dagferry_server.http.listeners import SHUTDOWN_SECONDS

METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
LONGEST_RELEASE = "r" * 53
MAX_NAME, HASH = 63, "-0123456789"
PEER = [{"podSelector": {}}]
STORE = {"store": {"url": "s3://dags/prod"}}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of the chart, to change."""
    return Path(shutil.copytree(CHART, tmp_path / "dagferry"))


def notes(chart: Path, **values: object) -> str:
    """What Helm prints after an installation: `helm template` leaves it out, so it is rendered in an object."""
    path = chart / "templates" / "NOTES.txt"
    found = '{{ define "notes" }}' + path.read_text() + "{{ end }}"
    found += 'kind: List\nmetadata: {name: notes}\ntext: {{ include "notes" . | toJson }}\n'
    (chart / "templates" / "notes.yaml").write_text(found)
    return str(render(values, chart=chart)["List/notes"]["text"])


def test_it_is_of_this_version() -> None:
    assert (METADATA["version"], METADATA["appVersion"]) == (__version__, __version__)


def test_helm_has_nothing_to_complain_about() -> None:
    command = [helm(), "lint", "--strict", CHART, "--kube-version", KUBERNETES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_it_is_refused_where_kubernetes_is_too_old() -> None:
    assert "incompatible with Kubernetes v1.28.9" in template({}, kubernetes="1.28.9").stderr


def test_a_provider_s_version_is_not_taken_for_an_old_one() -> None:
    for version in ("1.29.0-gke.1282000", "v1.29.0-eks-adc7111", "1.34.1+k3s1"):
        assert render(kubernetes=version).keys() == default().keys()


def test_an_upgrade_of_the_chart_with_an_object_store_keeps_its_selector(chart: Path) -> None:
    (chart / "Chart.yaml").write_text((chart / "Chart.yaml").read_text().replace(__version__, "9.9.9"))
    labelled = {**STORE, "labels": {"a": "b"}, "podLabels": {"c": "d"}, "replicas": 3}
    selectors = [
        found["Deployment/dagferry-server"]["spec"]["selector"]
        for found in (render(STORE), render(STORE, chart=chart), render(labelled))
    ]
    assert selectors[0] == selectors[1] == selectors[2]


def test_an_upgrade_of_the_chart_changes_nothing_that_can_never_change(chart: Path) -> None:
    """Kubernetes refuses any other selector, governing Service and volume claim of a StatefulSet."""
    (chart / "Chart.yaml").write_text((chart / "Chart.yaml").read_text().replace(__version__, "9.9.9"))
    before, after = (found["StatefulSet/dagferry-server"]["spec"] for found in (default(), render(chart=chart)))
    assert after["template"]["spec"]["containers"][0]["image"] == "ghcr.io/dagferry/dagferry-server:9.9.9"
    for field in ("selector", "serviceName", "volumeClaimTemplates"):
        assert before[field] == after[field]
    labelled = render({"labels": {"a": "b"}, "annotations": {"a": "b"}, "podLabels": {"c": "d"}})
    for field in ("selector", "serviceName", "volumeClaimTemplates"):
        assert before[field] == labelled["StatefulSet/dagferry-server"]["spec"][field]


@pytest.mark.parametrize(
    ("release", "name"),
    [("dagferry", "dagferry"), ("a", "a-dagferry"), ("my-dagferry-2", "my-dagferry-2"), (LONGEST_RELEASE, "r" * 40),
     ("my.dags", "my-dags-dagferry"), ("r" * 39 + ".a", "r" * 39)],
)  # fmt: skip
def test_names_are_made_of_the_release_s_name_and_are_never_too_long(release: str, name: str) -> None:
    found = render(release=release)
    assert {f"StatefulSet/{name}-server", f"Service/{name}-server", f"Service/{name}-server-admin"} <= found.keys()
    assert max(len(key.partition("/")[2]) for key in found) <= MAX_NAME
    assert len(f"{name}-server") + len(HASH) <= MAX_NAME  # a label of the pods


def test_a_name_that_a_service_cannot_have_is_refused_with_what_to_set() -> None:
    assert 'and "1a-dagferry-server" does not. Set fullnameOverride' in refusal({}, release="1a")
    assert "Service/dags-server" in render({"fullnameOverride": "dags"}, release="1a")


def test_two_releases_in_one_namespace_have_nothing_in_common() -> None:
    first, second = render(release="one"), render(release="two")
    assert not first.keys() & second.keys()
    selectors = [found[f"Service/{name}-dagferry-server"]["spec"]["selector"] for name, found in
                 (("one", first), ("two", second))]  # fmt: skip
    assert selectors[0] != selectors[1]


def test_every_object_is_in_the_release_s_namespace_also_without_a_cluster() -> None:
    """`helm template … | kubectl apply` would otherwise put it into the namespace of the moment."""
    assert {document["metadata"].get("namespace") for document in default().values()} == {"airflow"}


def test_the_token_is_as_strong_as_the_server_s_own_and_only_its_hash_is_mounted() -> None:
    secrets = [found["Secret/dagferry-deploy-token"]["stringData"]["token"] for found in (default(), render())]
    assert secrets[0] != secrets[1]
    for secret in secrets:
        assert re.fullmatch(r"dgf_[A-Za-z0-9]{43}", secret)  # 62 ** 43 > 2 ** 256
    tokens = default()["Secret/dagferry-tokens"]["stringData"]
    [token] = parse_tokens(tokens["tokens.toml"].encode(), with_users=False).tokens
    assert token.sha256 == hashlib.sha256(secrets[0].encode()).digest()
    assert (token.grant.scopes, token.grant.deployments) == (frozenset({"deploy"}), ("prod",))
    mounted = [volume["secret"]["secretName"] for volume in pod(default())["volumes"] if "secret" in volume]
    assert mounted == ["dagferry-tokens"]
    assert secrets[0] not in str({name: found for name, found in default().items() if "deploy-token" not in name})


def test_hostile_texts_stay_texts_in_the_files() -> None:
    text = "a\"b\\c\n[x]\t<&>'\u2028\x7f\x85é{{ .Release.Name }}"
    found = render({"deployments": [{"name": "prod", "webhooks": [{"url": text, text: 1}]}]})
    data = found["ConfigMap/dagferry-server-config"]["data"]["deployments.toml"]
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]
    assert tomllib.loads(data)["deployments"][0]["webhooks"] == [{"url": text, text: 1}]


def test_texts_that_yaml_could_take_for_something_else_stay_texts() -> None:
    values = {
        "tokens": {"existingSecret": "1"}, "server": {"tlsSecret": "2"}, "serviceAccount": {"name": "3"},
        "priorityClassName": "4", "persistence": {"storageClass": "5"}, "networkPolicy": {"uploadFrom": PEER},
        "clusterIssuer": {"audience": "6: x #y"}, "rbac": {"create": True}, "astroCli": {"path": "/astro"},
        "ingress": {"enabled": True, "host": "*.example.com", "className": "7", "tls": {"secretName": "8"}},
        "publicUrl": "https://a.example.com/{b}", "route": {"enabled": True, "host": "9"},
    }  # fmt: skip
    found = render(values, release="true", namespace="10")
    spec = pod(found, "true-dagferry-server")
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert secrets == {"tokens": "1", "tls": "2"}
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("3", "4")
    assert found["ClusterRoleBinding/10-true-dagferry-server"]["subjects"][0]["name"] == "3"
    claim = found["StatefulSet/true-dagferry-server"]["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["storageClassName"] == "5"
    [source] = found["Pod/true-dagferry-test"]["spec"]["volumes"][0]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "6: x #y"
    ingress = found["Ingress/true-dagferry-server"]["spec"]
    assert ingress["ingressClassName"] == "7"
    assert ingress["tls"] == [{"hosts": ["*.example.com"], "secretName": "8"}]
    assert ingress["rules"][0]["host"] == "*.example.com"
    assert found["Route/true-dagferry-server"]["spec"]["host"] == "9"
    assert "--public-url=https://a.example.com/{b}" in spec["containers"][0]["args"]
    assert {document["metadata"].get("namespace") for document in found.values()} == {"10", None}
    for document in found.values():
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "true"


def test_texts_about_the_store_stay_texts() -> None:
    store = {"url": "az://dags/a=1", "env": {"AWS_REGION": "1", "A": "b: c #d {{ .Values }}"}, "existingSecret": "2"}
    found = render({"store": store, "peers": {"existingSecret": "3"}})
    ours = server(found)
    assert "--store=az://dags/a=1" in ours["args"]
    assert {entry["name"]: entry["value"] for entry in ours["env"]} == store["env"]
    assert ours["envFrom"] == [{"secretRef": {"name": "2"}}]
    assert [v["secret"]["secretName"] for v in pod(found)["volumes"] if v["name"] == "peers"] == ["3"]


def test_a_number_of_bytes_is_written_in_full() -> None:
    assert "--max-store-bytes=10737418240" in arguments(render({"server": {"maxStoreBytes": 10737418240}}))


def test_null_in_a_deployment_is_a_setting_that_is_not_there() -> None:
    found = render({"deployments": [{"name": "prod", "tiers": None}]})
    data = found["ConfigMap/dagferry-server-config"]["data"]["deployments.toml"]
    assert data == default()["ConfigMap/dagferry-server-config"]["data"]["deployments.toml"]


def test_a_pod_that_does_not_start_is_replaced_by_the_upgrade_that_mends_it() -> None:
    """With ``OrderedReady`` the controller would wait for the broken pod to get ready, for ever."""
    assert default()["StatefulSet/dagferry-server"]["spec"]["podManagementPolicy"] == "Parallel"


def test_the_server_has_time_to_finish_what_it_receives_and_to_start() -> None:
    assert pod(default())["terminationGracePeriodSeconds"] > SHUTDOWN_SECONDS
    probe = server(default())["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 300


def test_the_admin_port_has_a_service_of_its_own_and_is_in_no_other() -> None:
    ports = {
        name: [port["targetPort"] for port in found["spec"]["ports"]]
        for name, found in default().items()
        if found["kind"] == "Service"
    }
    assert ports == {"Service/dagferry-server": ["http"], "Service/dagferry-server-admin": ["admin"]}
    ingress = render({"ingress": {"enabled": True, "host": "a"}, "networkPolicy": {"uploadFrom": PEER}})
    assert "admin" not in str(ingress["Ingress/dagferry-server"]["spec"])


def test_with_one_server_there_is_no_disruption_budget_which_would_block_every_drain() -> None:
    assert not any(name.startswith("PodDisruptionBudget/") for name in default())


def test_with_one_server_on_an_object_store_a_drain_is_not_blocked_either() -> None:
    assert not any(name.startswith("PodDisruptionBudget/") for name in render(STORE))


def test_a_server_that_others_replace_waits_until_nobody_is_sent_to_it_and_then_finishes_what_it_receives() -> None:
    found = render(STORE)
    [wait] = re.findall(r"sleep\((\d+)\)", str(server(found)["lifecycle"]["preStop"]))
    assert pod(found)["terminationGracePeriodSeconds"] > SHUTDOWN_SECONDS + int(wait)
    assert "lifecycle" not in server(default())  # nobody else is there to ask


def test_what_servers_know_each_other_by_is_as_strong_as_they_demand() -> None:
    secrets = [render(STORE)["Secret/dagferry-peers"]["stringData"]["peer-secret"] for _ in range(2)]
    assert secrets[0] != secrets[1]
    for secret in secrets:
        assert re.fullmatch(r"[A-Za-z0-9]{43}", secret)


def test_peers_are_found_at_the_port_that_servers_listen_on_before_they_are_ready() -> None:
    found = render(STORE)
    [peers] = [text.partition("=")[2] for text in arguments(found) if text.startswith("--peers=")]
    name, _, port = peers.partition(":")
    service = found[f"Service/{name}"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert f"--listen=0.0.0.0:{port}" in arguments(found)  # a headless Service translates no port


def test_the_cache_and_what_is_being_received_fit_into_the_volume() -> None:
    """The free space of an ``emptyDir`` is that of the whole disk of the node, so the server cannot ask for it."""
    for size, half in (("8Gi", 4096), ("600Mi", 300), ("3Ti", 3 * 2**19)):
        found = render({"store": {"url": "s3://dags", "cacheSize": size}})
        [data] = [volume for volume in pod(found)["volumes"] if volume["name"] == "data"]
        assert data["emptyDir"] == {"sizeLimit": size}
        assert f"--max-cache-bytes={half}MiB" in arguments(found)


def test_the_default_is_one_tier_and_the_server_counts_it_so() -> None:
    from dagferry_core.limits import tiers_from

    for tiers in (1, 3):
        limits = server(render({"tiers": tiers}))["resources"]["limits"]
        assert limits == server(render({"tiers": tiers}))["resources"]["requests"]
        assert tiers_from(float(limits["cpu"]), int(limits["memory"].removesuffix("Mi")) * 2**20) == tiers
    assert not any(argument.startswith("--tiers") for argument in arguments(default()))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_the_examples_of_the_readme_are_valid(example: str) -> None:
    assert render(yaml.safe_load(example)) != {}


# --- what Helm prints ------------------------------------------------------------------------------------------------


def test_the_notes_have_the_next_command_to_type(chart: Path) -> None:
    printed = notes(chart)
    assert "kubectl get secret -n airflow dagferry-deploy-token -o jsonpath='{.data.token}' | base64 -d" in printed
    assert "kubectl port-forward -n airflow service/dagferry-server 8000:8000 &" in printed
    assert "export DAGFERRY_SERVER=http://127.0.0.1:8000\n    dagferry deploy dags --deployment prod\n" in printed
    assert "helm test -n airflow dagferry" in printed
    [shown] = re.findall(r"^    dagferry:\n(?:      .*\n)+", printed, re.MULTILINE)
    assert yaml.safe_load(shown)["dagferry"] == {
        "server": "http://dagferry-server.airflow:8000",
        "deployment": "prod",
        "image": f"ghcr.io/dagferry/dagferry-sidecar:{__version__}",
    }
    assert "helm upgrade -n airflow --install airflow apache-airflow/airflow -f deploy/airflow/sidecar.yaml" in printed


@pytest.mark.parametrize(
    ("values", "there", "absent"),
    [
        ({"tokens": {"existingSecret": "mine"}}, "DAGFERRY_TOKEN=…", "deploy-token"),
        ({"publicUrl": "https://dags.example.com"}, "DAGFERRY_SERVER=https://dags.example.com\n", "forward"),
        (
            {
                "ingress": {"enabled": True, "host": "a.b", "tls": {"secretName": "c"}},
                "networkPolicy": {"uploadFrom": PEER},
            },
            "DAGFERRY_SERVER=https://a.b\n",
            "port-forward",
        ),
        (
            {"ingress": {"enabled": True, "host": "a.b"}, "networkPolicy": {"uploadFrom": PEER}},
            "DAGFERRY_SERVER=http://a.b    # no token is sent without TLS",
            "port-forward",
        ),
        ({"deployments": [{"name": "dev"}]}, "--deployment dev", "prod"),
        ({"server": {"tlsSecret": "a"}, "service": {"port": 443}}, "https://dagferry-server.airflow:443", "http://"),
        ({"server": {"tlsSecret": "a"}}, "DAGFERRY_SERVER=https://…:8000", "//127.0.0.1"),
        ({"replicas": 0}, "The server is stopped", "dagferry deploy"),
        ({**STORE, "replicas": 3}, "rollout status -n airflow deployment/dagferry-server\n", "statefulset"),
        ({"clusterIssuer": {"enabled": False}}, "dagferry deploy", "helm test"),
    ],
    ids=str,
)
def test_the_notes_are_about_this_release(chart: Path, values: dict[str, Any], there: str, absent: str) -> None:
    printed = notes(chart, **values)
    assert there in printed
    assert absent not in printed
