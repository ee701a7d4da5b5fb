"""A pinned process is led to the tree that was live, and to nothing else."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dagferry_airflow import pin as pins

OLD, NEW = "20261120T064501Z-000042", "20261120T064622Z-000043"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = (tmp_path / "root").resolve()
    for number, version in enumerate((OLD, NEW)):
        (root / ".trees" / f"{number:016x}" / version / "sub").mkdir(parents=True)
    (root / "current").symlink_to(f".trees/{0:016x}/{OLD}")
    return root


def tree(root: Path, number: int = 0, version: str = OLD) -> str:
    return f"{root}/.trees/{number:016x}/{version}"


def versions(pinned: list[pins.Pinned]) -> list[str]:
    return [one.version for one in pinned]


def swap(root: Path) -> None:
    (root / "current").unlink()
    (root / "current").symlink_to(f".trees/{1:016x}/{NEW}")


def test_the_dags_folder_the_import_path_and_the_environment_are_pinned(root) -> None:
    folder = f"{root}/current"
    settings = SimpleNamespace(DAGS_FOLDER=folder)
    environment = {"PYTHONPATH": f"/opt/x{os.pathsep}{folder}/sub", "HOME": folder}
    path = ["/usr/lib", folder, f"{folder}/sub", f"{folder}ly"]
    assert versions(pins.pin(settings, None, environment, path)) == [OLD]
    assert tree(root) == settings.DAGS_FOLDER
    assert path == ["/usr/lib", tree(root), f"{tree(root)}/sub", f"{folder}ly"]
    assert environment == {
        "AIRFLOW__CORE__DAGS_FOLDER": tree(root), "PYTHONPATH": f"/opt/x{os.pathsep}{tree(root)}/sub", "HOME": folder,
        "DAGFERRY_TASK_VERSION": f"dagferry version={OLD} chosen=newest root={root}",
    }  # fmt: skip


def test_a_pinned_process_stays_pinned_after_a_swap(root) -> None:
    settings, environment = SimpleNamespace(DAGS_FOLDER=f"{root}/current"), {}
    pins.pin(settings, None, environment, [])
    swap(root)
    assert pins.pin(settings, None, environment, []) == []
    assert settings.DAGS_FOLDER == environment["AIRFLOW__CORE__DAGS_FOLDER"] == tree(root)


def test_the_next_process_is_pinned_to_what_is_live_then(root) -> None:
    swap(root)
    assert versions(pins.pin(SimpleNamespace(DAGS_FOLDER=f"{root}/current"), None, {}, [])) == [NEW]


def test_a_folder_within_the_dags_folder_is_pinned(root) -> None:
    settings = SimpleNamespace(DAGS_FOLDER=f"{root}/current/sub/")
    path = [f"{root}/current/sub"]
    assert versions(pins.pin(settings, None, {}, path)) == [OLD]
    assert path == [settings.DAGS_FOLDER] == [f"{tree(root)}/sub"]


def test_the_paths_of_local_dag_bundles_are_pinned(root) -> None:
    def bundles(path: str) -> list[object]:
        return [
            {"name": "a", "classpath": "Local", "kwargs": {"path": path}},
            {"name": "b", "kwargs": {"bucket": "x"}},
            7,
        ]

    environment: dict[str, str] = {}
    settings = SimpleNamespace(DAGS_FOLDER="/opt/airflow/dags")
    assert versions(pins.pin(settings, bundles(f"{root}/current"), environment, [])) == [OLD]
    assert json.loads(environment[pins.BUNDLES_VARIABLE]) == bundles(tree(root))
    assert settings.DAGS_FOLDER == "/opt/airflow/dags"


@pytest.mark.parametrize("config", [None, {}, [None], [{"kwargs": None}], [{"kwargs": {"path": 3}}]])
def test_a_folder_that_no_sidecar_keeps_is_left_alone(tmp_path, config) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "current").symlink_to("elsewhere")
    settings, environment, path = (
        SimpleNamespace(DAGS_FOLDER=str(tmp_path / "current")),
        {},
        [str(tmp_path / "current")],
    )
    assert pins.pin(settings, config, environment, path) == []
    assert (settings.DAGS_FOLDER, environment, path) == (str(tmp_path / "current"), {}, [str(tmp_path / "current")])
