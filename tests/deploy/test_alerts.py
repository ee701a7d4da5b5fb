"""Every alert fires when it should and not before, asks for metrics that there are, and has a page."""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import DagferryError, with_subclasses
from dagferry_follow.errors import SyncError
from dagferry_server.http.routes import PEER_ROUTES, ROUTES
from deployfiles import HOME, run, tool
from exported import METRICS, metrics_in

RULES = HOME / "deploy" / "prometheus" / "alerts.yaml"
CASES = yaml.safe_load((HOME / "tests" / "deploy" / "alerts_test.yaml").read_text())
[GROUP] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
RUNBOOK = HOME / "docs" / "how-to" / "runbook"
of_each_alert = pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)


def filled(text: str, labels: dict[str, str]) -> str:
    """Return an annotation with the values of its labels."""
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels.get(found[1], ""), text)


def promtool(folder: Path, cases: Any) -> None:
    """Run cases against the rules. The annotations are as they are in the rules, with the values of the labels."""
    shutil.copy(RULES, folder / "alerts.yaml")
    cases = copy.deepcopy(cases)
    for case in (case for test in cases["tests"] for case in test["alert_rule_test"]):
        for alert in case["exp_alerts"]:
            texts = ALERTS[case["alertname"]]["annotations"]
            alert["exp_annotations"] = {name: filled(text, alert["exp_labels"]) for name, text in texts.items()}
    (folder / "cases.yaml").write_text(yaml.safe_dump(cases))
    run(*tool(["promtool"]), "test", "rules", folder / "cases.yaml")


def test_the_rules_are_valid() -> None:
    run(*tool(["promtool"]), "check", "rules", RULES)


@pytest.mark.parametrize("case", CASES["tests"], ids=lambda case: case["name"])
def test_an_alert_fires_when_it_should_and_only_then(case: dict[str, Any], tmp_path: Path) -> None:
    promtool(tmp_path, CASES | {"tests": [{key: value for key, value in case.items() if key != "name"}]})


def test_a_case_that_is_wrong_would_be_noticed(tmp_path: Path) -> None:
    wrong = copy.deepcopy(CASES["tests"][0])
    del wrong["name"]
    wrong["alert_rule_test"][0]["exp_alerts"] = [{"exp_labels": {"severity": "critical"}}]
    with pytest.raises(AssertionError, match="FAILED"):
        promtool(tmp_path, CASES | {"tests": [wrong]})


@of_each_alert
def test_it_is_seen_to_fire_and_seen_not_to(rule: dict[str, Any]) -> None:
    cases = [case for test in CASES["tests"] for case in test["alert_rule_test"] if case["alertname"] == rule["alert"]]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@of_each_alert
def test_it_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    asked = metrics_in(rule["expr"])
    assert asked
    for metric, labels in asked:
        assert labels.keys() <= METRICS[metric], metric


def test_the_routes_and_codes_that_are_asked_for_are_there() -> None:
    asked = {value for rule in ALERTS.values() for _, labels in metrics_in(rule["expr"]) for value in labels.items()}
    routes = {value for label, value in asked if label == "route"}
    found = {path.path for path in (*ROUTES, *PEER_ROUTES) for route in routes if re.fullmatch(route, path.path)}
    assert found == {
        "/upload", "/{deployment}/dags/upload", "/{deployment}/dags/rollback", "/{deployment}/dags/promote",
        "/-/peers/fleet", "/-/peers/poke",
    }  # fmt: skip
    codes = {error.code for error in with_subclasses(SyncError, DagferryError)}
    outcomes = {code for label, value in asked if label == "outcome" for code in value.split("|")}
    assert outcomes <= codes


@of_each_alert
def test_it_says_what_happened_to_what_and_has_a_page(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    words = re.sub("(?<!^)(?=[A-Z])", "-", rule["alert"].removeprefix("Dagferry")).lower()
    assert rule["annotations"]["runbook_url"] == f"{DOCUMENTATION}/how-to/runbook/{words}.md"
    page = (RUNBOOK / f"{words}.md").read_text()
    assert f"Alert `{rule['alert']}`." in page
    assert "## Find the cause and mend it" in page


def test_every_page_belongs_to_an_alert() -> None:
    pages = {path.stem for path in RUNBOOK.glob("*.md")}
    assert pages == {
        rule["annotations"]["runbook_url"].rpartition("/")[2].removesuffix(".md") for rule in ALERTS.values()
    }
