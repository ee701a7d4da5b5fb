"""Airflow's official chart makes of our values, and of six lines of the user's, what each component needs."""

import json
import re

import pytest
import yaml

from airflow_charts import (
    EXECUTORS,
    READERS,
    airflow_chart,
    ours,
    page_values,
    pods,
    refuses_airflow,
    rendered,
    settings,
)
from charts import render
from dagferry_client.airflow_chart import Setup, read_values
from dagferry_client.airflow_doctor import examine
from deployfiles import AIRFLOW, WAYS

MAX_LINES = 6
FOLLOWING, ONCE = ["dagferry-once", "dagferry-sidecar"], ["dagferry-once"]
SIDECAR = "registry.example.com/dagferry/dagferry-sidecar:0.1.0"


def test_the_user_s_own_values_are_six_lines_at_most() -> None:
    shown = page_values()
    assert shown.keys() == {"sidecar.yaml", "bundle.yaml"}
    for text in shown.values():
        assert len(text.splitlines()) <= MAX_LINES
        assert yaml.safe_load(text)["dagferry"]["image"] == SIDECAR


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", ["sidecar", "seeded"])
def test_every_pod_that_reads_dags_syncs_once_then_follows(way: str, executor: str) -> None:
    found = pods(rendered(way, executor))
    seed = ["dagferry-seed"] if way == "seeded" else []
    assert found.keys() & READERS == READERS - (set() if "Celery" in executor else {"worker"})
    for component, pod in found.items():
        expected = ONCE if component == "task" else FOLLOWING if component in READERS else []
        assert [each["name"] for each in ours(pod)] == (seed + expected if expected else []), component
        for container in ours(pod):
            image = SIDECAR if container["name"] != "dagferry-seed" else r"apache/airflow:\d.*"
            assert re.fullmatch(image, container["image"])
            assert "{{" not in json.dumps(container)
    assert ("task" in found) == ("Kubernetes" in executor)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", WAYS)
def test_airflow_mounts_what_it_reads_and_the_volumes_are_there(way: str, executor: str) -> None:
    for component, pod in pods(rendered(way, executor)).items():
        if component not in READERS | {"task"}:
            continue
        spec, name = pod["spec"], "base" if component == "task" else component
        [airflow] = [container for container in spec["containers"] if container["name"] == name]
        mounts = {mount["mountPath"]: mount for mount in airflow["volumeMounts"]}
        used = {mount["name"] for each in [airflow, *ours(pod)] for mount in each["volumeMounts"]}
        claims = {"logs"}  # of a StatefulSet
        assert used <= {volume["name"] for volume in spec["volumes"]} | claims
        if way == "bundle":
            assert not mounts["/bundles"].get("readOnly")
            assert "/var/run/secrets/dagferry" in mounts
        if way != "bundle" or component == "triggerer":
            assert mounts["/dags"] == {"name": "dagferry", "mountPath": "/dags", "readOnly": True}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_beside_the_bundle_only_the_triggerer_has_a_sidecar(executor: str) -> None:
    found = {
        component: [each["name"] for each in ours(pod)] for component, pod in pods(rendered("bundle", executor)).items()
    }
    assert {component: names for component, names in found.items() if names} == {"triggerer": FOLLOWING}


@pytest.mark.parametrize("way", WAYS)
def test_the_triggerer_imports_what_is_deployed(way: str) -> None:
    [airflow] = [
        each
        for each in pods(rendered(way, "CeleryExecutor"))["triggerer"]["spec"]["containers"]
        if each["name"] == "triggerer"
    ]
    assert {"name": "PYTHONPATH", "value": "/dags/current"} in airflow["env"]


def test_airflow_s_settings_name_what_is_published() -> None:
    assert "dags_folder = /dags/current\n" in settings(rendered("sidecar", "CeleryExecutor"))
    [line] = re.findall(r"dag_bundle_config_list = (.*)", settings(rendered("bundle", "CeleryExecutor")))
    [bundle] = json.loads(line)
    assert (bundle["name"], bundle["kwargs"]["server"]) == ("prod", "http://dagferry-server:8000")


def test_the_doctor_finds_nothing_wrong_with_what_the_page_shows(tmp_path) -> None:
    for name, text in page_values().items():
        (tmp_path / "mine.yaml").write_text(text)
        checks = examine(Setup(read_values([str(AIRFLOW / name), str(tmp_path / "mine.yaml")]), (1, 22)))
        assert {check.state for check in checks} <= {"ok", "skipped"}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", WAYS)
def test_the_doctor_judges_all_values_of_a_release_as_it_judges_ours(way: str, executor: str) -> None:
    ours_alone = [str(AIRFLOW / name) for name in WAYS[way]]
    found = [
        list(examine(Setup({**read_values(files), "executor": executor}, (1, 22))))
        for files in (ours_alone, [str(airflow_chart() / "values.yaml"), *ours_alone])
    ]
    assert found[0] == found[1]


def test_a_set_of_workers_follows_too_unless_it_has_init_containers_of_its_own() -> None:
    sets = [
        {"name": "heavy", "extraInitContainers": []},
        {"name": "other", "extraInitContainers": [{"name": "mine", "image": "x"}]},
    ]
    values = read_values([str(AIRFLOW / "sidecar.yaml")])
    values["workers"]["celery"]["sets"] = sets
    values |= {"postgresql": {"enabled": False}}
    found = render(values, release="airflow", chart=airflow_chart())
    names = {
        document["metadata"]["name"]: [each["name"] for each in ours(document["spec"]["template"])]
        for document in found.values()
        if document["kind"] in ("Deployment", "StatefulSet") and document["metadata"]["labels"]["component"] == "worker"
    }
    assert names == {"airflow-worker": FOLLOWING, "airflow-worker-heavy": FOLLOWING, "airflow-worker-other": []}


def test_a_pod_template_of_one_s_own_is_taken_as_it_is() -> None:
    values = {**read_values([str(AIRFLOW / "sidecar.yaml")]), "postgresql": {"enabled": False}}
    values |= {"executor": "KubernetesExecutor", "podTemplate": "apiVersion: v1\nkind: Pod\nspec: {containers: []}\n"}
    assert ours(pods(render(values, release="airflow", chart=airflow_chart()))["task"]) == []


def test_the_page_says_whether_the_chart_takes_airflow_2() -> None:
    refused = refuses_airflow("2.11.2", airflow_chart())
    assert not refused or "Airflow version 3.1.0 and above" in refused
