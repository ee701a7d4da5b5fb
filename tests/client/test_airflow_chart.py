"""Values are merged as Helm merges them, and what the chart makes of them is what is judged."""

import pytest
import yaml

from dagferry_client import airflow_chart
from dagferry_client.airflow_chart import Setup, parse_version, read_values
from dagferry_core.errors import SetupError

ONCE = {"name": "dagferry-once", "image": "x", "args": ["--root=/dags", "--once"]}
FOLLOWER = {"name": "dagferry-sidecar", "image": "x", "restartPolicy": "Always", "args": ["--root", "/dags"]}


BOMB = "a0: &a0 {x: y}\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 30)
)


def names(setup: Setup, component: str) -> list[list[str]]:
    return [[ours.name for ours in pod.init] for pod in setup.pods(component)]


def test_files_are_merged_as_helm_merges_them(tmp_path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    first.write_text(
        "executor: CeleryExecutor\nscheduler: {a: 1, b: 2, list: [1, 2]}\ndags: {gitSync: {enabled: true}}\n"
    )
    second.write_text("scheduler: {b: 3, list: [4]}\ndags: null\n")
    third.write_text("# nothing\n")
    assert read_values([str(first), str(second), str(third)]) == {
        "executor": "CeleryExecutor",
        "scheduler": {"a": 1, "b": 3, "list": [4]},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read: while parsing"),
        ("- a", "has no values"),
        ("apiVersion: v1\nkind: Pod", "not what Helm renders"),
        ("a: !!python/name:os.system ''", "cannot be read: could not determine a constructor"),
        ("\udcff", "cannot be read"),
        ("a: 2024-99-99", "cannot be read: month must be"),
        ("a: !!int x", "cannot be read: invalid literal"),
        ("a: &a {b: *a}", "more than 200000 parts"),
        (BOMB, "more than 200000 parts"),
    ],
)
def test_a_file_that_has_no_values_is_named(tmp_path, text, said) -> None:
    path = tmp_path / "values.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SetupError) as error:
        read_values([str(path)])
    assert str(path) in error.value.message
    assert said in f"{error.value.message} {error.value.hint}"


def test_a_file_that_is_too_large_or_absent_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(airflow_chart, "MAX_VALUES_BYTES", 5)
    (tmp_path / "large").write_text("a: 123")
    with pytest.raises(SetupError, match="larger than 5 bytes"):
        read_values([str(tmp_path / "large")])
    with pytest.raises(SetupError, match="absent cannot be read"):
        read_values([str(tmp_path / "absent")])


def test_versions_are_read_as_helm_prints_them() -> None:
    assert [parse_version(text) for text in ("1.22.0", "v1.9", "1.21.0-rc1")] == [(1, 22), (1, 9), (1, 21)]
    for text in ("", "airflow-1.22.0", "1", "1.x"):
        with pytest.raises(SetupError, match="chart-version"):
            parse_version(text)


@pytest.mark.parametrize(
    ("values", "version", "airflow", "has_processor"),
    [
        ({}, None, 3, True),
        ({}, (1, 22), 3, True),
        ({}, (1, 16), 2, False),
        ({"defaultAirflowTag": "20240101-abc"}, (1, 16), 2, False),
        ({"airflowVersion": "2.11.2"}, (1, 21), 2, False),
        ({"defaultAirflowTag": "2.11.2-python3.11"}, (1, 21), 2, False),
        ({"airflowVersion": "2.11.2", "dagProcessor": {"enabled": True}}, (1, 21), 2, True),
        ({"airflowVersion": "3.1.0", "dagProcessor": {"enabled": False}}, (1, 21), 3, False),
        ({"airflowVersion": "3.1.0"}, (1, 16), 3, True),
    ],
)
def test_the_version_of_airflow_decides_whether_there_is_a_dag_processor(
    values, version, airflow, has_processor
) -> None:
    setup = Setup(values, version)
    assert (setup.airflow, setup.has_processor) == (airflow, has_processor)


@pytest.mark.parametrize(
    ("executor", "readers"),
    [
        ("CeleryExecutor", {"dag-processor", "triggerer", "workers"}),
        ("LocalExecutor", {"dag-processor", "triggerer", "scheduler"}),
        ("KubernetesExecutor", {"dag-processor", "triggerer", "task-pods"}),
        ("CeleryKubernetesExecutor", {"dag-processor", "triggerer", "workers", "task-pods"}),
        ("LocalExecutor,KubernetesExecutor", {"dag-processor", "triggerer", "scheduler", "task-pods"}),
    ],
)
def test_the_executor_decides_what_reads_dags(executor, readers) -> None:
    setup = Setup({"executor": executor}, (1, 22))
    assert {name for name in airflow_chart.COMPONENTS if setup.reads_dags(name)} == readers
    without = Setup({"executor": executor, "dagProcessor": {"enabled": False}, "triggerer": {"enabled": False}}, None)
    expected = readers - {"dag-processor", "triggerer"} | {"scheduler"}
    assert {name for name in airflow_chart.COMPONENTS if without.reads_dags(name)} == expected


@pytest.mark.parametrize(
    ("version", "workers", "tasks"),
    [
        (None, "dagferry-sidecar", "dagferry-once"),
        ((1, 21), "dagferry-sidecar", "dagferry-once"),
        ((1, 20), "dagferry-sidecar", "of both"),
        ((1, 19), "dagferry-sidecar", "of both"),
        ((1, 18), "of both", "of both"),
    ],
)
def test_older_charts_have_one_key_for_both_kinds_of_workers(version, workers, tasks) -> None:
    parts = {"celery": {"extraInitContainers": [FOLLOWER]}, "kubernetes": {"extraInitContainers": [ONCE]}}
    both = {"extraInitContainers": [{**ONCE, "name": "of both", "image": "dagferry"}]}
    setup = Setup({"workers": {**both, **parts}}, version)
    assert (names(setup, "workers"), names(setup, "task-pods")) == ([[workers]], [[tasks]])
    alone = Setup({"workers": parts}, version)
    ignored = {pod.ignored for name in ("workers", "task-pods") for pod in alone.pods(name)}
    assert ("workers.kubernetes.extraInitContainers" in ignored) == (tasks == "of both")
    assert ("workers.celery.extraInitContainers" in ignored) == (workers == "of both")


def test_newer_charts_take_the_common_key_where_there_is_no_own_one() -> None:
    setup = Setup({"workers": {"extraInitContainers": [ONCE]}}, (1, 22))
    assert names(setup, "workers") == names(setup, "task-pods") == [["dagferry-once"]]


def test_a_set_of_workers_with_init_containers_of_its_own_is_a_pod_of_its_own() -> None:
    other = {"name": "c", "extraInitContainers": [{"name": "mine", "image": "x"}]}
    sets = [{"name": "a"}, {"name": "b", "extraInitContainers": []}, other]
    pods = Setup({"workers": {"celery": {"extraInitContainers": [FOLLOWER], "sets": sets}}}, (1, 22)).pods("workers")
    assert [(pod.key, len(pod.init)) for pod in pods] == [
        ("workers.celery.extraInitContainers", 1),
        ("workers.celery.sets[2].extraInitContainers", 0),
    ]


def test_our_containers_are_known_by_their_name_or_image_and_what_they_are_told() -> None:
    others = [
        {"name": "wait", "image": "airflow", "args": ["--root=/x"]},
        {"name": "dagferry-seed", "image": "airflow", "args": ["cp"]},
        "no container",
    ]
    told = [{"name": "DAGFERRY_ROOT", "value": "/dags"}, {"name": "DAGFERRY_DEPLOYMENT", "value": "a"}, {"name": "X"}]
    by_image = {"name": "x", "image": "r/dagferry-sidecar:1", "env": told, "args": ["--deployment", "b", "--once"]}
    mounted = {**FOLLOWER, "volumeMounts": [{"name": "v", "mountPath": "/dags"}]}
    setup = Setup({"scheduler": {"extraInitContainers": [*others, by_image], "extraContainers": [mounted]}}, None)
    [pod] = setup.pods("scheduler")
    [first], [second] = pod.init, pod.beside
    assert (first.name, first.once, first.native) == ("x", True, False)
    assert (first.flags["--root"], first.flags["--deployment"]) == ("/dags", "b")
    assert (second.once, second.native, second.flags["--root"], second.mounts) == (False, True, "/dags", {"/dags": "v"})


def test_values_of_odd_shapes_are_no_reason_to_fail() -> None:
    text = "{workers: [], scheduler: x, volumeMounts: y, dagProcessor: {extraInitContainers: {}, env: 3}, env: [1]}"
    setup = Setup(yaml.safe_load(text), None)
    assert [names(setup, component) for component in airflow_chart.COMPONENTS] == [[[]]] * 5
    assert setup.mounts() == []
