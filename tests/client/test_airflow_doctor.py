"""Each fault that Helm installs without a word is found in values that are right but for it, and nothing else is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from dagferry_client.airflow_chart import Setup, read_values
from dagferry_client.airflow_doctor import NAMES, examine
from deployfiles import AIRFLOW, WAYS

Values = dict[str, Any]
EXECUTORS = ("CeleryExecutor", "LocalExecutor", "KubernetesExecutor", "CeleryKubernetesExecutor")


def shipped(*names: str, **more: Any) -> Values:
    return {**read_values([str(AIRFLOW / name) for name in names]), **more}


def states(values: Values, version: tuple[int, int] | None = (1, 22)) -> dict[str, tuple[str, str]]:
    checks = list(examine(Setup(values, version)))
    assert tuple(check.name for check in checks) == NAMES
    assert all(bool(check.hint) == (check.state in ("warning", "failed")) for check in checks)
    return {check.name: (check.state, f"{check.message} {check.hint}".strip()) for check in checks}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_wrong_with_what_we_ship(way, executor) -> None:
    found = states(shipped(*WAYS[way], executor=executor))
    assert {state for state, _ in found.values()} <= {"ok", "skipped"}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", ["sidecar", "seeded"])
def test_nothing_is_wrong_with_it_for_airflow_2(way, executor) -> None:
    found = states(shipped(*WAYS[way], executor=executor, airflowVersion="2.11.2"), (1, 21))
    assert {state for state, _ in found.values()} <= {"ok", "skipped"}
    assert (found["dag-processor"][0], found["scheduler"][0]) == ("skipped", "ok")


# --- the chart --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(1, 19), (1, 20)])
def test_charts_that_silently_leave_out_the_init_container_of_task_pods(version) -> None:
    values = shipped("sidecar.yaml", executor="KubernetesExecutor")
    state, text = states(values, version)["task-pods"]
    assert state == "failed"
    assert "does not use workers.kubernetes.extraInitContainers" in text
    assert "Set workers.extraInitContainers, or upgrade the chart to 1.21." in text
    values["workers"]["extraInitContainers"] = values["workers"]["kubernetes"]["extraInitContainers"]
    assert states(values, version)["task-pods"][0] == "ok"
    assert states({**values, "executor": "CeleryExecutor"}, version)["workers"][0] == "ok"


def test_a_chart_that_is_not_known_is_said() -> None:
    state, text = states(shipped("sidecar.yaml"), None)["chart"]
    assert state == "warning"
    assert "--chart-version" in text


# --- one fault at a time ----------------------------------------------------------------------------------------------


def init(values: Values) -> list[Any]:
    found: list[Any] = values["dagProcessor"]["extraInitContainers"]
    return found


def no_folder(values: Values) -> None:
    del values["config"]["core"]["dags_folder"]


def root_itself(values: Values) -> None:
    values["config"]["core"]["dags_folder"] = "/dags"


def no_mount(values: Values) -> None:
    values["volumeMounts"] = []


def sub_path(values: Values) -> None:
    values["volumeMounts"][0]["subPath"] = "current"


def writable(values: Values) -> None:
    del values["volumeMounts"][0]["readOnly"]


def other_volume(values: Values) -> None:
    values["volumeMounts"][0]["name"] = "dags"


def other_root(values: Values) -> None:
    for container in values["workers"]["celery"]["extraInitContainers"]:
        container["args"][2] = "--root=/other"


def git_sync(values: Values) -> None:
    values["dags"] = {"gitSync": {"enabled": True}}


def persistence(values: Values) -> None:
    values["dags"] = {"persistence": {"enabled": True}}


def no_sidecar(values: Values) -> None:
    del init(values)[1]


def nothing_at_all(values: Values) -> None:
    values["dagProcessor"]["extraInitContainers"] = []


def never_ends(values: Values) -> None:
    del init(values)[1]["restartPolicy"]


def too_early(values: Values) -> None:
    init(values).reverse()


def other_deployment(values: Values) -> None:
    init(values)[1]["args"][1] = "--deployment=dev"


def seed_of_one(values: Values) -> None:
    init(values)[0]["args"] += ["--when-empty=seed", "--seed=/seed"]


def beside_without_once(values: Values) -> None:
    follower = init(values)[1]
    del follower["restartPolicy"]
    values["dagProcessor"] = {"extraContainers": [follower]}


def triggerer_alone(values: Values) -> None:
    values["triggerer"]["extraInitContainers"] = []


def no_path(values: Values) -> None:
    values["triggerer"]["env"] = []


def set_without(values: Values) -> None:
    values["workers"]["celery"]["sets"] = [{"name": "heavy", "extraInitContainers": [init(values)[0]]}]


def task_without(values: Values) -> None:
    values["workers"]["kubernetes"] = {}


def task_followed(values: Values) -> None:
    values["workers"]["kubernetes"]["extraInitContainers"] = init(values)


def task_with_one_beside(values: Values) -> None:
    values["workers"]["kubernetes"]["extraContainers"] = [init(values)[1]]


def task_that_gives_up(values: Values) -> None:
    [once] = values["workers"]["kubernetes"]["extraInitContainers"]
    once["args"] = [word for word in once["args"] if not word.startswith("--once-timeout")]


def task_that_gives_up_before_a_patient_airflow(values: Values) -> None:
    values["config"]["scheduler"]["task_queued_timeout"] = "3600.0"


def own_template(values: Values) -> None:
    values["podTemplate"] = "apiVersion: v1\nkind: Pod\n"


def scheduler_without(values: Values) -> None:
    values["executor"] = "LocalExecutor"
    values["scheduler"] = {}


FAULTS: list[tuple[Callable[[Values], None], str, str, str]] = [
    (
        no_folder,
        "folder",
        "failed",
        "Airflow reads the chart's default folder, but the sidecar publishes to /dags/current",
    ),
    (root_itself, "folder", "failed", "Airflow reads /dags, but"),
    (no_mount, "folder", "failed", "does not mount the volume at /dags"),
    (sub_path, "folder", "failed", "subPath, so it never sees a deploy"),
    (
        other_volume,
        "folder",
        "failed",
        "dagferry-once of dagProcessor.extraInitContainers does not write to the volume",
    ),
    (
        other_root,
        "folder",
        "failed",
        "workers.celery.extraInitContainers does not write to the volume",
    ),
    (writable, "folder", "warning", "Airflow may write to /dags/current"),
    (git_sync, "folder", "warning", "nothing reads the DAGs that dags.gitSync.enabled brings"),
    (persistence, "folder", "warning", "nothing reads the DAGs that dags.persistence.enabled brings"),
    (no_sidecar, "dag-processor", "failed", "no deploy after that: dagProcessor.extraInitContainers has no sidecar"),
    (nothing_at_all, "dag-processor", "failed", "It gets no DAGs"),
    (never_ends, "dag-processor", "failed", "never ends, so the pod stays in Init"),
    (too_early, "dag-processor", "failed", "dagferry-sidecar is started before dagferry-once"),
    (other_deployment, "dag-processor", "failed", "differ in --deployment."),
    (seed_of_one, "dag-processor", "failed", "differ in --when-empty, --seed."),
    (beside_without_once, "dag-processor", "warning", "Airflow starts before its DAGs are there"),
    (triggerer_alone, "triggerer", "failed", "It gets no DAGs"),
    (no_path, "triggerer", "warning", "/dags/current is not on its PYTHONPATH"),
    (scheduler_without, "scheduler", "failed", "It gets no DAGs"),
    (set_without, "workers", "failed", "workers.celery.sets[0].extraInitContainers has no sidecar"),
    (task_without, "task-pods", "failed", "has no init container with --once"),
    (task_followed, "task-pods", "warning", "swaps files under a task that runs"),
    (task_with_one_beside, "task-pods", "failed", "the pod of a finished task stays"),
    (
        task_that_gives_up,
        "task-pods",
        "warning",
        "gives up after 300 s, before Airflow, which starts a pod that waits for 600",
    ),
    (task_that_gives_up_before_a_patient_airflow, "task-pods", "warning", "after 3600 s, before Airflow"),
    (own_template, "task-pods", "failed", "The chart uses podTemplate as it is"),
]


@pytest.mark.parametrize(("spoil", "name", "state", "said"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_fault_is_found_and_nothing_else(spoil, name, state, said) -> None:
    # What the file has once, by an anchor, must not be changed everywhere.
    values = unshared(shipped("sidecar.yaml", executor="CeleryKubernetesExecutor"))
    spoil(values)
    found = states(values)
    assert found[name][0] == state
    assert said in found[name][1]
    assert {other for other, (is_, _) in found.items() if is_ in ("failed", "warning")} == {name}


def unshared(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: unshared(value) for key, value in part.items()}
    return [unshared(value) for value in part] if isinstance(part, list) else copy.copy(part)


def test_values_that_have_nothing_of_ours() -> None:
    state, text = states({"executor": "CeleryExecutor"})["folder"]
    assert state == "failed"
    assert "neither a sidecar nor the DAG bundle" in text


def test_a_pod_template_of_one_s_own_with_the_init_container_is_fine() -> None:
    text = "spec: {initContainers: [{name: dagferry-once, args: [--once]}]}"
    values = shipped("sidecar.yaml", executor="KubernetesExecutor", podTemplate=text)
    assert states(values)["task-pods"][0] == "ok"


def test_dags_below_the_published_folder_and_a_mount_of_each_component_are_fine() -> None:
    values = shipped("sidecar.yaml")
    values["config"]["core"]["dags_folder"] = "/dags/current/dags/"
    values["dagProcessor"]["extraVolumeMounts"] = values.pop("volumeMounts")
    assert states(values)["folder"][0] == "ok"


# --- the bundle -------------------------------------------------------------------------------------------------------


def test_airflow_2_has_no_bundles() -> None:
    state, text = states(shipped("bundle.yaml", airflowVersion="2.11.2"), (1, 21))["folder"]
    assert state == "failed"
    assert "Airflow 2 has none" in text


def test_a_bundle_beside_a_sidecar_shows_each_dag_twice() -> None:
    both = {**shipped("sidecar.yaml"), "config": shipped("bundle.yaml")["config"]}
    state, text = states(both)["dag-processor"]
    assert state == "warning"
    assert "each DAG is there twice" in text


def test_a_triggerer_beside_a_bundle_has_no_modules_without_a_sidecar() -> None:
    values = shipped("bundle.yaml")
    values["triggerer"] = {}
    state, text = states(values)["triggerer"]
    assert state == "warning"
    assert "does not use bundles" in text


def test_a_bundle_in_the_chart_s_own_list_is_seen() -> None:
    bundles = [{"name": "a", "classpath": "dagferry_airflow.DagferryBundle", "kwargs": {}}]
    assert "The DAG bundle is used" in states({"dagProcessor": {"dagBundleConfigList": bundles}})["folder"][1]
