"""Programs are built once per version, from modules that are pinned by hash, and named when they are missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import programs
from cluster.programs import PROGRAMS, SOURCES, NotBuilt, Program

SCRIPT = Path(programs.__file__)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(programs, "CACHE", tmp_path)
    return tmp_path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources of a program that needs nothing."""
    folder = tmp_path / "programs" / "small"
    (folder / "hello").mkdir(parents=True)
    (folder / "go.mod").write_text("module small\n\ngo 1.24\n\nrequire example.com/x v1.2.3\n")
    (folder / "go.sum").write_text("")
    (folder / "hello" / "main.go").write_text("package main\n\nfunc main() {}\n")
    monkeypatch.setattr(programs, "SOURCES", tmp_path / "programs")
    return folder


def hello() -> Program:
    return Program("small", "./hello", "example.com/x", ("hello", "goodbye"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.names[0])
def test_a_program_s_version_is_in_its_module_and_every_module_has_a_hash(program: Program) -> None:
    assert f"{program.version_of} {program.version} h1:" in (SOURCES / program.module / "go.sum").read_text()


def test_no_name_is_there_twice() -> None:
    names = [name for program in PROGRAMS for name in program.names]
    assert len(set(names)) == len(names)


def test_what_is_not_built_is_named_with_the_command_that_builds_it(empty: Path) -> None:
    with pytest.raises(NotBuilt, match=r"kubectl is not built: run python tests/cluster/programs.py kubectl"):
        programs.find("kubectl")


def test_what_is_built_is_found_by_each_of_its_names(
    empty: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PROGRAMS", (hello(),))
    programs._program.cache_clear()
    hello().folder.mkdir()
    for name in ("hello", "goodbye"):
        (hello().folder / name).touch()
        assert programs.build([name]) == [programs.find(name)] == [hello().folder / name]
    programs._program.cache_clear()


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "hello/main.go"])
def test_a_change_of_what_it_is_built_from_asks_for_a_new_build(empty: Path, module: Path, changed: str) -> None:
    before = hello().folder
    (module / changed).write_text((module / changed).read_text() + "\n// changed\n")
    assert hello().folder != before


def test_a_change_of_another_program_of_the_module_does_not(empty: Path, module: Path) -> None:
    before = hello().folder
    (module / "other").mkdir()
    (module / "other" / "main.go").write_text("package main\n")
    assert hello().folder == before
    assert before.name.startswith("hello-v1.2.3-")


def test_without_go_the_script_says_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "DAGFERRY_CLUSTER_CACHE": str(tmp_path)}
    ran = subprocess.run([sys.executable, SCRIPT, "helm"], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "there is no Go here to build with" in ran.stderr


def test_the_script_names_the_programs_there_are() -> None:
    ran = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "kube-apiserver" in ran.stderr
