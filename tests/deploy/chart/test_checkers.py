"""Checkers of the chart: what each may do, what it reaches, and that no other account may do what it may."""

import copy
from pathlib import Path
from typing import Any

import pytest

from charts import Document, refusal, render
from dagferry_server.auth.issuers import Issuer, parse_issuers
from deployfiles import KUBERNETES, documents

CHECKER = {"deployment": "prod", "image": "airflow:1"}
TWO = {"deployments": [{"name": "prod"}, {"name": "lab"}], "checkers": [CHECKER, {**CHECKER, "deployment": "lab"}]}
NAME = "dagferry-checker-prod"
TLS = {"server": {"tlsSecret": "tls"}}


def pod_of(rendered: dict[str, Document], name: str = NAME) -> Document:
    spec: Document = rendered[f"Deployment/{name}"]["spec"]["template"]["spec"]
    return spec


def arguments(spec: Document) -> list[str]:
    found: list[str] = spec["containers"][0]["args"]
    return found


def issuer(rendered: dict[str, Document], tmp_path: Path) -> Issuer:
    token = tmp_path / "token"
    token.write_text("e30.eyJpc3MiOiJodHRwczovL2EifQ.c2lnbmF0dXJl")
    text = rendered["ConfigMap/dagferry-server-config"]["data"]["issuers.toml"]
    [found] = parse_issuers(text.replace("/var/run/secrets/kubernetes.io/serviceaccount/token", str(token)).encode())
    return found


def scopes(found: Issuer, account: str) -> dict[str, set[str]]:
    """What a service account of the release's namespace may do, by deployment."""
    granted: dict[str, set[str]] = {}
    for rule in found.rules:
        if rule.allows({"sub": f"system:serviceaccount:airflow:{account}"}):
            for name in rule.grant.deployments:
                granted.setdefault(name, set()).update(rule.grant.scopes)
    return granted


OWN_RULES = {
    "clusterIssuer": {
        "rules": [
            {
                "claims": {"sub": "system:serviceaccount:airflow:*"},
                "except_claims": {"sub": "system:serviceaccount:airflow:default"},
                "scopes": ["sync"],
                "deployments": ["*"],
            }
        ]
    }
}


@pytest.mark.parametrize("rules", [{}, OWN_RULES])
def test_a_checker_may_check_its_deployment_and_nothing_else_and_nobody_else_may(rules, tmp_path) -> None:
    found = issuer(render({**TWO, **rules}), tmp_path)
    assert scopes(found, NAME) == {"prod": {"check"}}
    assert scopes(found, "dagferry-checker-lab") == {"lab": {"check"}}
    assert scopes(found, "dagferry-checker-other") == {}
    everywhere = {"*": {"sync"}} if rules else {"prod": {"sync"}, "lab": {"sync"}}
    assert scopes(found, "airflow-worker") == everywhere
    assert scopes(found, "default") == ({} if rules else everywhere)


def test_a_checker_may_also_check_the_deployments_beside_and_learns_their_dag_ids(tmp_path) -> None:
    names = [{"name": name} for name in ("prod", "lab", "team-a", "other")]
    rendered = render({"deployments": names, "checkers": [{**CHECKER, "beside": ["lab", "team-a"]}]})
    found = issuer(rendered, tmp_path)
    assert scopes(found, NAME) == {"prod": {"check"}, "lab": {"check"}, "team-a": {"check"}}
    assert "--beside=lab,team-a" in arguments(pod_of(rendered))
    assert not any("--beside" in word for word in arguments(pod_of(render(TWO))))


def test_without_checkers_no_rule_has_an_exception(tmp_path) -> None:
    assert all(not rule.except_claims for rule in issuer(render(), tmp_path).rules)


def test_each_has_a_deployment_an_account_and_a_token_of_its_own() -> None:
    rendered = render(TWO)
    for name in ("prod", "lab"):
        account = f"dagferry-checker-{name}"
        assert rendered[f"ServiceAccount/{account}"]["automountServiceAccountToken"] is False
        spec = pod_of(rendered, account)
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == (account, False)
        assert f"--deployment={name}" in arguments(spec)
        work, token = spec["volumes"]
        assert "emptyDir" in work
        [source] = token["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "dagferry"
    selectors = [rendered[f"Deployment/dagferry-checker-{name}"]["spec"]["selector"] for name in ("prod", "lab")]
    assert selectors[0] != selectors[1]


def test_it_meets_the_restricted_standard_and_cannot_write_to_its_image() -> None:
    spec = pod_of(render(TWO))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert "hostPath" not in str(spec)
    assert "secretKeyRef" not in str(spec)


def test_it_reaches_the_server_and_dns_and_nothing_reaches_it() -> None:
    rendered = render(TWO)
    policy = rendered["NetworkPolicy/dagferry-checkers"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    server, dns = policy["egress"]
    assert [peer["podSelector"]["matchLabels"] for peer in server["to"]] == [
        rendered["NetworkPolicy/dagferry-server"]["spec"]["podSelector"]["matchLabels"]
    ]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert dns["to"], "not any DNS server in the world"
    labels = rendered[f"Deployment/{NAME}"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    admitted = rendered["NetworkPolicy/dagferry-server"]["spec"]["ingress"][0]["from"]
    assert {"podSelector": policy["podSelector"]} in admitted
    assert "NetworkPolicy/dagferry-checkers" not in render({**TWO, "networkPolicy": {"enabled": False}})


def test_over_tls_it_trusts_the_authority_that_is_named() -> None:
    assert "--allow-plain-http" in arguments(pod_of(render(TWO)))
    rendered = render({**TWO, **TLS, "checkers": [{**CHECKER, "caSecret": "ca"}, TWO["checkers"][1]]})
    for name, secret in (("prod", "ca"), ("lab", "tls")):
        spec = pod_of(rendered, f"dagferry-checker-{name}")
        assert "--server=https://dagferry-server:8000" in arguments(spec)
        assert "--allow-plain-http" not in arguments(spec)
        [volume] = [volume for volume in spec["volumes"] if volume["name"] == "ca"]
        assert volume["secret"]["secretName"] == secret


def test_what_a_checker_has_of_its_own() -> None:
    own: dict[str, Any] = {
        "replicas": 2, "variables": "env", "jobs": 4, "timeoutSeconds": 60, "memory": "2GiB", "workSize": "1Gi",
        "env": [{"name": "AIRFLOW_VAR_A", "value": "b"}], "extraArgs": ["--instance=x"], "pullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}], "resources": {"limits": {"memory": "9Gi"}},
        "extraVolumes": [{"name": "more", "emptyDir": {}}], "extraVolumeMounts": [{"name": "more", "mountPath": "/m"}],
        "nodeSelector": {"a": "b"}, "affinity": {"nodeAffinity": {}}, "tolerations": [{"key": "dags"}],
    }  # fmt: skip
    rendered = render({"checkers": [{**CHECKER, **own}]})
    assert rendered[f"Deployment/{NAME}"]["spec"]["replicas"] == 2
    spec = pod_of(rendered)
    wanted = {"--variables=env", "--jobs=4", "--timeout=60", "--memory=2GiB", "--instance=x"}
    assert wanted <= set(arguments(spec))
    container = spec["containers"][0]
    assert (container["imagePullPolicy"], container["resources"]) == ("Always", own["resources"])
    assert own["env"][0] in container["env"]
    assert own["extraVolumes"][0] in spec["volumes"]
    assert own["extraVolumeMounts"][0] in container["volumeMounts"]
    for key in ("imagePullSecrets", "nodeSelector", "affinity", "tolerations"):
        assert spec[key] == own[key]
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "1Gi"}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"checkers": [{"deployment": "prod"}]}, "image"),
        ({"checkers": [{**CHECKER, "deployment": "absent"}]}, 'checkers has "absent", which is not in deployments'),
        (
            {"checkers": [{**CHECKER, "beside": ["absent"]}]},
            'checkers[].beside has "absent", which is not in deployments',
        ),
        ({"checkers": [{**CHECKER, "beside": ["prod"]}]}, 'checkers has "prod" beside itself'),
        ({"checkers": [{**CHECKER, "beside": "lab"}]}, "beside"),
        ({"checkers": [CHECKER, CHECKER]}, 'checkers has "prod" twice'),
        ({"checkers": [CHECKER], "clusterIssuer": {"enabled": False}}, "checkers needs clusterIssuer.enabled"),
        ({"checkers": [{**CHECKER, "variables": "production"}]}, "variables"),
        ({"checkers": [{**CHECKER, "typo": 1}]}, "typo"),
    ],
)
def test_what_could_not_work_is_refused(values, why) -> None:
    assert why in refusal(values)


def test_the_job_for_a_new_image_is_locked_down_as_the_chart_s_checker_is() -> None:
    [job] = documents(KUBERNETES / "check-image.yaml")
    template = job["spec"]["template"]
    rendered = render({"checkers": [CHECKER]})
    ours = copy.deepcopy(pod_of(rendered))
    theirs = template["spec"]
    for key in (
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "securityContext",
        "volumes",
    ):
        assert theirs[key] == ours[key], key
    for key in ("command", "env", "securityContext", "volumeMounts", "resources"):
        assert theirs["containers"][0][key] == ours["containers"][0][key], key
    assert set(arguments(theirs)) == {*arguments(ours), "--once"} - {"--variables=stub"}
    policy = rendered["NetworkPolicy/dagferry-checkers"]["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= template["metadata"]["labels"].items()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
