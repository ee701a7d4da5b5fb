"""The role that the docs give to those who operate Dagferry is what Helm needs for the chart, and no more."""

import re
from typing import Any

import pytest
import yaml

from charts import default, render
from deployfiles import HOME

PAGE = (HOME / "docs" / "how-to" / "decide-who-may-change-what.md").read_text()
[ROLE] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
INGRESS = {
    "ingress": {"enabled": True, "host": "dags.example.com"},
    "networkPolicy": {"uploadFrom": [{"podSelector": {}}]},
}
HELM_S_OWN = {("", "secrets")}
"""The records of releases."""
VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}


def resource(document: dict[str, Any]) -> tuple[str, str]:
    """Group and plural of an object."""
    kind = document["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s"
    group, _, version = document["apiVersion"].rpartition("/")
    assert version
    return group, plural


def allowed() -> set[tuple[str, str]]:
    return {(group, one) for rule in ROLE["rules"] for group in rule["apiGroups"] for one in rule["resources"]}


def test_the_role_covers_what_the_chart_makes_and_nothing_else() -> None:
    made = {resource(document) for values in (default(), render(INGRESS)) for document in values.values()}
    assert made | HELM_S_OWN == allowed()
    assert all(set(rule["verbs"]) == VERBS for rule in ROLE["rules"])


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (
            {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
            {"gateway.networking.k8s.io": {"httproutes"}},
        ),
        ({"route": {"enabled": True}}, {"route.openshift.io": {"routes"}}),
        (
            {
                "monitoring": {
                    name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")
                }
            },
            {"monitoring.coreos.com": {"servicemonitors", "podmonitors", "prometheusrules"}},
        ),
    ],
    ids=["httpRoute", "route", "monitoring"],
)
def test_what_other_values_need_is_named(values: dict[str, Any], kinds: dict[str, set[str]]) -> None:
    policy = {"networkPolicy": {"uploadFrom": [{"podSelector": {}}]}}
    found = {resource(document) for document in render(values | policy).values()} - allowed()
    assert found == {(group, one) for group, plurals in kinds.items() for one in plurals}
    for group, one in found:
        assert f"`{group}`" in PAGE
        assert f"`{one}`" in PAGE
