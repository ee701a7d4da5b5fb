"""The values for Airflow's chart agree with each other, are locked down, and a seed is copied whole or not at all."""

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dagferry_airflow.arguments import ARGUMENTS
from deployfiles import AIRFLOW, airflow_values, containers

SIDECAR, BUNDLE = airflow_values("sidecar.yaml"), airflow_values("bundle.yaml")
SEEDED = airflow_values("sidecar.yaml", "image-dags.yaml")
PLACES = (("dagProcessor",), ("scheduler",), ("triggerer",), ("workers", "celery"), ("workers", "kubernetes"))
SEED = ["--when-empty=seed", "--seed=/seed/dags"]
SEED_MOUNT = {"name": "dagferry-seed", "mountPath": "/seed", "readOnly": True}
VALUES = {"sidecar": SIDECAR, "seeded": SEEDED, "bundle": BUNDLE}


def init(values: Any, place: tuple[str, ...]) -> list[dict[str, Any]]:
    for key in place:
        values = values.get(key, {})
    found: list[dict[str, Any]] = values.get("extraInitContainers", [])
    return found


def everything(values: Any) -> list[dict[str, Any]]:
    return [container for place in PLACES for container in init(values, place)]


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("way", VALUES)
def test_what_they_add_to_pods_is_valid(way: str, version: str) -> None:
    values = VALUES[way]
    volumes = [*values["volumes"], *values["triggerer"].get("extraVolumes", [])]
    for place in PLACES:
        airflow = {"name": "a", "image": "a", "volumeMounts": values["volumeMounts"]}
        spec = {"initContainers": init(values, place), "containers": [airflow], "volumes": volumes}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("way", VALUES)
def test_every_container_keeps_to_the_restricted_standard(way: str) -> None:
    for container in everything(VALUES[way]):
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("way", ["sidecar", "seeded"])
def test_airflow_and_not_an_init_container_decides_how_long_a_task_may_wait(way: str) -> None:
    """A pod of a task is not restarted. Airflow starts it anew after its ``task_queued_timeout``, 600 s by default."""
    for container in everything(VALUES[way]):
        if "--once" in container["args"]:
            assert "--once-timeout=3600" in container["args"]


def test_they_need_nothing_but_what_the_user_gives_under_dagferry() -> None:
    for name in ("sidecar.yaml", "bundle.yaml"):
        assert yaml.safe_load((AIRFLOW / name).read_text())["dagferry"].keys() == {"server", "deployment", "image"}
        others = {"server": "https://d.example.com/x", "deployment": "lab", "image": "dagferry-sidecar:other"}
        values = airflow_values(name, **others)
        text = json.dumps(values)
        assert not [default for default in ("dagferry-server", '"prod', "0.1.0") if default in text]
        for container in containers(values):
            assert container["image"] == others["image"]
            assert container["args"][:2] == ["--server=https://d.example.com/x", "--deployment=lab"]


# --- the DAGs of the image --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_the_image_s_dags_are_copied_first_and_the_rest_stays_but_for_the_seed(place: tuple[str, ...]) -> None:
    copying, *others = init(SEEDED, place)
    assert (copying["name"], copying["image"].partition(":")[0]) == ("dagferry-seed", "apache/airflow")
    assert copying["volumeMounts"] == [{"name": "dagferry-seed", "mountPath": "/seed"}]
    for container, before in zip(others, init(SIDECAR, place), strict=True):
        assert [argument for argument in container["args"] if argument not in SEED] == before["args"]
        assert [argument for argument in container["args"] if argument in SEED] == SEED
        assert container["volumeMounts"] == [*before["volumeMounts"], SEED_MOUNT]
        assert {**container, "args": 0, "volumeMounts": 0} == {**before, "args": 0, "volumeMounts": 0}


def test_nothing_else_differs_but_the_volume_of_the_seed() -> None:
    assert [volume for volume in SEEDED["volumes"] if volume["name"] != "dagferry-seed"] == SIDECAR["volumes"]
    assert len(SEEDED["volumes"]) == len(SIDECAR["volumes"]) + 1
    for key in ("volumeMounts", "config"):
        assert SEEDED[key] == SIDECAR[key]
    assert SEEDED["triggerer"]["env"] == SIDECAR["triggerer"]["env"]


def copy(tmp_path: Path, image: Path) -> subprocess.CompletedProcess[str]:
    """Run what the init container runs, with ``tmp_path``/seed as its volume."""
    copying = init(SEEDED, ("dagProcessor",))[0]
    [script] = copying["args"]
    (tmp_path / "seed").mkdir(exist_ok=True)
    command = [*copying["command"], script.replace("/seed", f"{tmp_path}/seed")]
    environment = {"PATH": "/usr/bin:/bin", "IMAGE_DAGS": str(image)}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_has_every_file_once_more_after_an_attempt_that_was_cut_short(tmp_path: Path) -> None:
    image = tmp_path / "image"
    (image / "team").mkdir(parents=True)
    (image / "team" / "dag.py").write_text("a")
    (image / ".airflowignore").write_text("b")
    (tmp_path / "elsewhere.py").write_text("c")
    (image / "link.py").symlink_to(tmp_path / "elsewhere.py")  # in the sidecar's container it would lead nowhere
    (tmp_path / "seed" / "dags").mkdir(parents=True)
    (tmp_path / "seed" / "dags" / "half.py").write_text("d")
    assert copy(tmp_path, image).returncode == 0
    assert tree(tmp_path / "seed" / "dags") == {"team/dag.py": "a", ".airflowignore": "b", "link.py": "c"}
    assert not (tmp_path / "seed" / "dags" / "link.py").is_symlink()


def test_an_image_without_dags_leaves_an_empty_folder_for_which_the_sidecar_waits(tmp_path: Path) -> None:
    assert copy(tmp_path, tmp_path / "absent").returncode == 0
    assert list((tmp_path / "seed" / "dags").iterdir()) == []


def test_a_copy_that_is_not_whole_fails_so_that_nothing_is_published(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    (image / "dangling.py").symlink_to("nowhere")
    done = copy(tmp_path, image)
    assert done.returncode != 0
    assert "dangling.py" in done.stderr


# --- the bundle -------------------------------------------------------------------------------------------------------


def test_airflow_gets_the_bundle_with_arguments_that_it_has() -> None:
    settings = BUNDLE["config"]["dag_processor"]
    [bundle] = json.loads(settings["dag_bundle_config_list"])
    known = {argument.name for argument in ARGUMENTS}
    assert bundle["kwargs"].keys() - {"refresh_interval"} <= known
    assert (bundle["classpath"], bundle["name"]) == ("dagferry_airflow.DagferryBundle", bundle["kwargs"]["deployment"])
    mounts = {mount["mountPath"]: mount for mount in BUNDLE["volumeMounts"]}
    assert not mounts[settings["dag_bundle_storage_path"]].get("readOnly")
    assert mounts[str(Path(bundle["kwargs"]["token_file"]).parent)]["name"] == "dagferry-token"


def test_beside_the_bundle_only_the_triggerer_has_a_sidecar_and_it_is_the_same() -> None:
    assert [place for place in PLACES if init(BUNDLE, place)] == [("triggerer",)]
    assert init(BUNDLE, ("triggerer",)) == init(SIDECAR, ("triggerer",))
    assert BUNDLE["triggerer"]["env"] == SIDECAR["triggerer"]["env"]
    assert BUNDLE["triggerer"]["extraVolumes"] == [SIDECAR["volumes"][0]]
    assert BUNDLE["triggerer"]["extraVolumeMounts"] == SIDECAR["volumeMounts"]


def test_both_ways_set_what_makes_changes_show_soon() -> None:
    for section in ("core", "dag_processor"):
        shared = SIDECAR["config"][section].keys() & BUNDLE["config"][section].keys()
        assert shared
        for key in shared:
            assert SIDECAR["config"][section][key] == BUNDLE["config"][section][key]
