"""Each value of the chart changes what it says, and nothing else; with each, the objects are valid and locked down."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

import chart_network_rows
import chart_rows
import chart_store_rows
from chart_changes import Row, changes, expected
from chart_paths import ACCOUNT, on_all
from charts import CHART, Document, arguments, default, pod, render, server
from dagferry_server.auth.issuers import parse_issuers
from dagferry_server.auth.tokens import parse_tokens
from dagferry_server.deploys.deployments_file import common_settings, parse_deployments
from dagferry_server.settings import read_settings

ROWS = [*chart_rows.ROWS, *chart_network_rows.ROWS, *chart_store_rows.ROWS]
VERSIONS = [f"1.{minor}" for minor in range(29, 35)]
CUSTOM = {"HTTPRoute", "Route", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds that Kubernetes itself does not have, nor the schemas here."""
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
NAMES = ["", *(row.name for row in ROWS)]
of_each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@functools.cache
def rendered(name: str) -> dict[str, Document]:
    """What the chart makes of a row; of none, if there is no row of this name."""
    return render(next((row.whole for row in ROWS if row.name == name), {}))


@functools.cache
def base(values: str) -> dict[str, Document]:
    """What the chart makes of the values, as JSON, that a row is compared to."""
    return render(json.loads(values))


def paths(values: Any, prefix: str = "") -> Iterator[str]:
    """The values that are set, such as ``image.tag``; a mapping that is empty by default is one value."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        known = functools.reduce(lambda found, step: found[step], path.split("."), VALUES)
        if isinstance(value, dict) and isinstance(known, dict) and known and key != "labels":
            yield from paths(value, path + ".")
        else:
            yield path


@of_each_row
def test_a_value_changes_what_it_says_and_nothing_else(row: Row) -> None:
    old, new = base(json.dumps(row.base)), rendered(row.name)
    assert changes(old, new) == expected(row, old, new)


def test_a_label_and_an_annotation_are_on_every_object_and_every_pod_and_replace_none_of_ours() -> None:
    ours = {"app.kubernetes.io/name": "theirs"}
    new = render({"labels": {"team": "data", **ours}, "annotations": {"a.b/c": "d"}})
    assert changes(default(), new) == on_all(default(), "labels", {"team": "data"}) | on_all(
        default(), "annotations", {"a.b/c": "d"}
    )


def test_all_names_can_be_chosen() -> None:
    new = render({"fullnameOverride": "dags"})
    assert {name.partition("/")[2] for name in new} == {
        "dags-server", "dags-server-admin", "dags-server-config", "dags-tokens", "dags-deploy-token", "dags-test",
    }  # fmt: skip
    assert "dagferry-server-" not in str(new)


def test_every_value_has_a_row() -> None:
    rows = {path for row in ROWS for path in paths(row.values)}
    everywhere = {"labels", "annotations", "fullnameOverride"}
    assert rows | everywhere == set(paths(VALUES))


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_in_every_version_of_kubernetes(version: str) -> None:
    known = {
        json.dumps(document): document
        for name in (NAMES if version in {VERSIONS[0], VERSIONS[-1]} else NAMES[:1])
        for document in rendered(name).values()
        if document["kind"] not in CUSTOM
    }
    for document in known.values():
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_meets_the_restricted_standard_and_cannot_write_to_its_image(name: str) -> None:
    found = rendered(name)
    specs = [pod(found)] + [document["spec"] for document in found.values() if document["kind"] == "Pod"]
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        ours = spec["containers"][0]
        assert ours["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_server_accepts_its_command_line_and_every_file(name: str, tmp_path: Any) -> None:
    found = rendered(name)
    assert read_settings(arguments(found), {}, lambda: (1.0, 1536 << 20)).auth_required
    data = found["ConfigMap/dagferry-server-config"]["data"]
    common = common_settings(read_settings([], {}, lambda: (None, None)))
    assert parse_deployments(data["deployments.toml"].encode(), common).deployments
    token = tmp_path / "token"
    token.write_text("e30.eyJpc3MiOiJodHRwczovL2EifQ.c2lnbmF0dXJl")
    if issuers := data.get("issuers.toml"):
        parse_issuers(issuers.replace(f"{ACCOUNT}/token", str(token)).encode())
    if tokens := found.get("Secret/dagferry-tokens"):
        assert parse_tokens(tokens["stringData"]["tokens.toml"].encode(), with_users=False).tokens


@pytest.mark.parametrize("name", NAMES)
def test_every_file_on_the_command_line_is_in_a_volume_that_is_mounted(name: str) -> None:
    found = rendered(name)
    mounts = {mount["mountPath"] for mount in server(found)["volumeMounts"]}
    files = [argument.partition("=")[2] for argument in arguments(found) if "=/etc/" in argument]
    assert files
    assert {file.rpartition("/")[0] for file in files} <= mounts
    assert {mount["name"] for mount in server(found)["volumeMounts"]} <= {
        "data", *(volume["name"] for volume in pod(found)["volumes"]),
    }  # fmt: skip
