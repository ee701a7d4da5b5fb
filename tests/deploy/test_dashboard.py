"""Every query of the dashboard, and every alert, runs in a real Prometheus that scrapes a real server and sidecars."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagferry_core.tokens import make_token
from deployfiles import HOME, tool
from exported import METRICS, metrics_in
from harness import Server, Sidecar, eventually, free_port, pack
from issuer import make_certificate
from reporting import parsed, report

DASHBOARD = json.loads((HOME / "deploy" / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']}-{target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
EMPTY = {
    *("Without a complete tree-A", "Unreadable entries-B"),
    *("Requests between servers-A", "Requests between servers-B"),
}
"""Queries that have no result while all is well, or while there is one server."""
MONTH_SECONDS = 30 * 86400
TIMEOUT_SECONDS = 10
HTTP_OK = 200
VARIABLES = {"$deployment": ".*", "$__rate_interval": "20s", "$__range": "1h"}


class Prometheus:
    """A real Prometheus, on a port of its own."""

    def __init__(self, folder: Path, scraped: dict[str, list[int]]) -> None:
        self.port = free_port()
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for job, ports in scraped.items()
        ]
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(HOME / "deploy" / "prometheus" / "alerts.yaml")],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        command = [*tool(["prometheus"]), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        with (folder / "prometheus.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer; raises for one that is not a success, with what Prometheus says."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from None

    def result(self, query: str) -> list[Any]:
        """The result of a query, with the variables of the dashboard filled in."""
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        found: list[Any] = self.ask("query", query=query)["result"]
        return found

    def answers(self) -> bool:
        """Whether it has scraped every target."""
        try:
            targets = self.ask("targets")["activeTargets"]
        except (OSError, AssertionError):  # it starts
            return False
        return bool(targets) and all(target["health"] == "up" for target in targets)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus beside a server with TLS and tokens, and two sidecars, after deploys of every kind."""
    tool(["prometheus"])
    folder = tmp_path_factory.mktemp("scraped")
    certificate, key = make_certificate(folder, days=30)
    tokens = {
        "deploy": make_token("deploy", ["deploy"], ["*"], expires=4_000_000_000.0),
        "sync": make_token("sync", ["sync"], ["*"]),
    }
    entries = "\n".join(token.entry for token in tokens.values())
    (folder / "tokens.toml").write_text(f"tokens = [\n{entries}\n]\n")
    (folder / "sync").write_text(tokens["sync"].secret)
    admin = free_port()
    server = Server(
        folder / "data", "--deployments", "prod", "--tokens-file", str(folder / "tokens.toml"),
        "--tls-cert", certificate, "--tls-key", key, "--admin-listen", f"127.0.0.1:{admin}", "--airflow-python", "3.12",
    )  # fmt: skip
    processes: list[Any] = [server]
    scraping = None
    try:
        server.ready()
        flags = ("--deployment", "prod", "--token-file", str(folder / "sync"), "--ca-file", certificate)
        pods = [Sidecar(server.url, folder / f"pod-{number}", *flags) for number in range(2)]
        processes += pods
        scraping = Prometheus(folder, {"dagferry-server": [admin], "dagferry-sidecar": [pod.port for pod in pods]})
        eventually("the first scrape of all", scraping.answers)
        for body in (b"n = 1\n", b"n = 2\n", b"n = 2\n", b"n = (\n"):
            archive = pack({"dag.py": b"from airflow import DAG\n" + body})
            server.request("/prod/dags/upload", archive, Authorization=tokens["deploy"].secret)
        current = json.loads(server.get("/prod/dags/current", Authorization=tokens["sync"].secret)[1])
        body = json.dumps(report(current["log_id"], parsed(current))).encode()
        headers = {"Content_Type": "application/json", "Authorization": tokens["sync"].secret}
        assert server.request("/prod/dags/reports", body, **headers)[0] == HTTP_OK
        yield scraping
    finally:
        if scraping:
            scraping.process.kill()
            scraping.process.wait()
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_has_a_result(prometheus: Prometheus, name: str) -> None:
    if name in EMPTY:
        assert prometheus.result(QUERIES[name]) == []
    else:
        eventually(f"a result of {QUERIES[name]}", lambda: prometheus.result(QUERIES[name]))


@pytest.mark.slow
def test_the_state_of_the_fleet_and_the_certificate_are_what_they_are(prometheus: Prometheus) -> None:
    states = QUERIES["State-A"]
    eventually("the state", lambda: [one["metric"]["state"] for one in prometheus.result(states)] == ["HEALTHY"])
    [left] = prometheus.result(QUERIES["Expires in-B"])
    assert 0.9 * MONTH_SECONDS < float(left["value"][1]) < MONTH_SECONDS


@pytest.mark.slow
def test_every_alert_is_evaluated_and_none_fires_while_all_is_well(prometheus: Prometheus) -> None:
    def rules() -> list[Any]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    eventually("an evaluation", lambda: all(rule["health"] == "ok" for rule in rules()))
    assert {rule["name"]: rule["state"] for rule in rules() if rule["state"] == "firing"} == {}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_there_are(name: str) -> None:
    asked = metrics_in(QUERIES[name])
    assert asked
    for metric, labels in asked:
        assert labels.keys() <= METRICS[metric], metric
        known = set().union(*(METRICS[found] for found, _ in asked))
        grouped = re.findall(r"by \(([^)]*)\)", QUERIES[name])
        assert {label for group in grouped for label in group.split(", ")} <= known


def test_a_legend_names_labels_that_the_result_has() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            known = set().union(*(METRICS[metric] for metric, _ in metrics_in(target["expr"])))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known, panel["title"]


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
