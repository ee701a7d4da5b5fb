"""Values that the chart does not have, or that could not work, are refused before anything is installed."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from charts import CHART, refusal, render
from dagferry_core.tokens import SCOPES
from dagferry_server.auth.issuers import _IssuerEntry, _RuleEntry
from dagferry_server.deploys.deployments_file import DeploymentSettings

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FOR_PARENTS = {"global", "enabled"}
"""What Helm itself and charts that depend on this one add."""
EMPTY: tuple[object, ...] = ("", [], {}, None)
PEER = [{"podSelector": {}}]
SUBJECT = {"sub": "system:serviceaccount:ci:job"}
ISSUER = {
    "name": "cluster",
    "kind": "generic",
    "issuer": "https://a.example.com",
    "audience": "dagferry",
    "rules": [{"claims": SUBJECT, "scopes": ["deploy"], "deployments": ["prod"]}],
}


def mappings(schema: Any) -> Iterator[dict[str, Any]]:
    """All parts of the schema that say which keys a mapping of ours has."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from mappings(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from mappings(part)


def sections(
    values: Mapping[str, Any], schema: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """All mappings of the default values whose keys the schema knows, with their part of the schema."""
    yield path, values, schema
    for key, value in values.items():
        if "properties" in schema["properties"][key] and isinstance(value, dict) and value:
            yield from sections(value, schema["properties"][key], f"{path}.{key}")


def known(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> None:
    """Assert that ``schema`` has exactly the keys of ``values``, at every depth."""
    assert set(schema["properties"]) - (set() if path else FOR_PARENTS) == set(values), path
    for key, value in values.items():
        if "properties" in schema["properties"][key] and isinstance(value, dict) and value:
            known(value, schema["properties"][key], f"{path}.{key}")


def test_it_has_every_value_and_no_other() -> None:
    known(VALUES, SCHEMA)


def test_a_misspelled_value_is_refused_wherever_we_know_the_values() -> None:
    for part in mappings(SCHEMA):
        assert part.get("additionalProperties") is False or "name" in part.get("required", []), part


def test_a_value_that_is_set_by_default_cannot_be_taken_away() -> None:
    """A value of null takes one away: without ``networkPolicy.enabled`` there would silently be no NetworkPolicy."""
    for path, values, schema in sections(VALUES, SCHEMA):
        assert set(schema.get("required", [])) == {key for key, value in values.items() if value not in EMPTY}, path


def test_a_name_that_the_chart_keeps_for_itself_is_free_where_it_does_not_use_it() -> None:
    values = {"deployments": [{"name": "helm-test"}], "issuers": [ISSUER], "clusterIssuer": {"enabled": False}}
    assert "Pod/dagferry-test" not in render(values)


def test_a_deployment_has_the_settings_of_the_server() -> None:
    settings = {field.alias for field in DeploymentSettings.model_fields.values()}
    assert set(SCHEMA["definitions"]["deployment"]["properties"]) == settings | {"name"}
    assert set(SCHEMA["properties"]["deploymentDefaults"]["properties"]) == settings


def test_an_issuer_and_a_rule_have_the_keys_of_the_server() -> None:
    issuer, rule = SCHEMA["properties"]["issuers"]["items"], SCHEMA["definitions"]["rule"]
    assert set(issuer["properties"]) == set(_IssuerEntry.model_fields)
    assert set(rule["properties"]) == set(_RuleEntry.model_fields)
    assert set(rule["properties"]["scopes"]["items"]["enum"]) == set(SCOPES)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"replicaCount": 2}, "replicaCount"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"image": {"digest": "abc"}}, "digest"),
        ({"replicas": -1}, "/replicas"),
        ({"store": {"url": "https://bucket.s3.amazonaws.com"}}, "/store/url"),
        ({"store": {"url": "file:///data"}}, "/store/url"),
        ({"store": {"cacheSize": "8GiB"}}, "/store/cacheSize"),
        ({"store": {"env": {"AWS_ALLOW_HTTP": True}}}, "/store/env/AWS_ALLOW_HTTP"),
        ({"store": {"env": {"aws-region": "a"}}}, "aws-region"),
        ({"store": {"pollSeconds": 0}}, "/store/pollSeconds"),
        ({"peers": {"serverName": "*.example.com"}}, "/peers/serverName"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        ({"deployments": []}, "/deployments"),
        ({"deployments": [{"name": "Prod"}]}, "/deployments/0/name"),
        ({"deployments": [{"tiers": 4}]}, "name"),
        ({"deployments": [{"name": "prod", "keep_days": 1}]}, "keep_days"),
        ({"deploymentDefaults": {"name": "prod"}}, "name"),
        ({"clusterIssuer": {"rules": [{"claims": SUBJECT, "scopes": ["all"], "deployments": ["*"]}]}}, "scopes"),
        ({"clusterIssuer": {"rules": [{"scopes": ["sync"], "deployments": ["*"]}]}}, "claims"),
        ({"persistence": {"size": "10GiB"}}, "/persistence/size"),
        ({"ingress": {"enabled": True}}, "/ingress/host"),
        ({"ingress": {"timeoutSeconds": 30}}, "/ingress/timeoutSeconds"),
        ({"httpRoute": {"enabled": True}}, "/httpRoute/parentRefs"),
        ({"networkPolicy": {"uploadFrom": [{}]}}, "/networkPolicy/uploadFrom/0"),
        ({"networkPolicy": {"syncFrom": [{"podSelectors": {}}]}}, "podSelectors"),
        ({"extraArgs": ["-v"]}, "/extraArgs/0"),
        ({"tiers": 0}, "/tiers"),
        ({"astroCli": {"path": "astro"}}, "/astroCli/path"),
        ({"openshift": "true"}, "/openshift"),
        ({"annotations": {"a": 1}}, "/annotations/a"),
        ({"image": {"registry": "a: b"}}, "/image/registry"),
        ({"image": {"tag": "-a"}}, "/image/tag"),
        ({"fullnameOverride": "a.b"}, "/fullnameOverride"),
        ({"fullnameOverride": "1a"}, "/fullnameOverride"),
        ({"publicUrl": "https://a #b"}, "/publicUrl"),
        ({"extraEnv": [{"name": "A", "value": 1}]}, "/extraEnv/0/value"),
        ({"deployments": [{"name": "prod", "max-expanded-bytes": ""}]}, "max-expanded-bytes"),
        ({"deploymentDefaults": {"max-expanded-bytes": "1.5"}}, "max-expanded-bytes"),
        ({"server": {"maxStoreBytes": "1.5"}}, "maxStoreBytes"),
        ({"deployments": [{"name": "prod", "max-files": 400001}]}, "max-files"),
        ({"deployments": [{"name": "prod", "disabled": ""}]}, "disabled"),
        ({"networkPolicy": {"enabled": None}}, "/networkPolicy': missing property 'enabled'"),
        ({"persistence": {"retain": None}}, "/persistence': missing property 'retain'"),
        ({"server": None}, "missing property 'server'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_and_named(values: dict[str, Any], why: str) -> None:
    assert why in refusal(values)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"tokens": {"create": False}, "clusterIssuer": {"enabled": False}}, "Nobody could deploy: set tokens.create"),
        ({"server": {"proxySecret": "a"}, "tokens": {"existingSecret": "b"}}, "must be set together"),
        ({"server": {"proxySecret": "a", "proxyUserHeader": "X-User"}}, "needs tokens.existingSecret"),
        ({"ingress": {"enabled": True, "host": "a"}}, "With ingress.enabled the NetworkPolicy must say where"),
        ({"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "With httpRoute.enabled the NetworkPolicy"),
        ({"service": {"type": "NodePort"}}, "With service.type=NodePort the NetworkPolicy must say where requests"),
        ({"astroCli": {"path": "/astro"}}, "astroCli.path needs publicUrl, or ingress.host"),
        ({"deployments": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, 'deployments has "a" twice'),
        ({"deployments": [{"name": "helm-test"}]}, "`helm test` deploys to it and deletes it"),
        ({"issuers": [ISSUER]}, 'issuers must not have the name "cluster"'),
        ({"replicas": 2}, "replicas: a volume belongs to one server. Set store.url for more"),
        ({"store": {"existingSecret": "a"}}, "store.existingSecret needs store.url."),
        ({"store": {"env": {"AWS_REGION": "a"}}}, "store.env needs store.url."),
        ({"store": {"pollSeconds": 5}}, "store.pollSeconds needs store.url."),
        ({"peers": {"existingSecret": "a"}}, "peers.existingSecret needs store.url."),
        ({"peers": {"serverName": "a"}}, "peers.serverName needs store.url."),
        ({"store": {"url": "s3://dags"}, "peers": {"serverName": "a"}}, "peers.serverName needs server.tlsSecret"),
        ({"store": {"url": "s3://dags"}, "server": {"tlsSecret": "a"}}, "store.url needs peers.serverName"),
    ],
    ids=str,
)
def test_values_that_do_not_go_together_are_refused_with_what_to_set(values: dict[str, Any], why: str) -> None:
    assert why in refusal(values)


def test_it_may_be_a_dependency_of_another_chart() -> None:
    assert render({"global": {"imageRegistry": "r"}, "enabled": True}) != {}


def test_the_default_values_are_valid_as_a_whole() -> None:
    assert render(copy.deepcopy(VALUES)).keys() == render().keys()
