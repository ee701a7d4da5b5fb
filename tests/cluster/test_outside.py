"""Where a cluster cannot run, it is said why, with what to install or to build."""

from pathlib import Path

import pytest

from cluster import outside, programs


@pytest.fixture
def able(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with everything, as far as is looked at."""
    monkeypatch.setattr(outside.os, "geteuid", lambda: 0)
    monkeypatch.setattr(outside.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(programs, "CACHE", tmp_path)
    for name in (*programs.CONTROL, *programs.NODE, *programs.ADDONS):
        path = programs._program(name).folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


@pytest.mark.usefixtures("able")
def test_a_machine_that_has_everything_has_no_obstacle() -> None:
    assert outside.obstacle() is None


@pytest.mark.usefixtures("able")
def test_a_user_who_is_not_root_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside.os, "geteuid", lambda: 1000)
    assert "needs root" in str(outside.obstacle())


@pytest.mark.usefixtures("able")
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside.shutil, "which", lambda name: None if name in {"runc", "ctr"} else name)
    assert outside.obstacle() == "a cluster needs these packages: containerd runc"


@pytest.mark.usefixtures("able")
def test_a_missing_program_is_named_with_the_command_that_builds_it() -> None:
    (programs._program("kubelet").folder / "kubelet").unlink()
    assert outside.obstacle() == "kubelet is not built: run python tests/cluster/programs.py kubelet"
