"""A sidecar process and a volume that others write into: damage is reported and repaired."""

import os
import shutil
import subprocess
import sys

import pytest

from harness import OTHER_USER, eventually, others_can_run_python
from pods import A, B, holds, leftovers, outcome, ready

pytestmark = pytest.mark.slow

HARMS = {
    "a file rewritten": lambda root: (root / "current/other.py").write_bytes(b"import evil\n"),
    "a file removed": lambda root: (root / "current/team/helper.py").unlink(),
    "a folder removed": lambda root: shutil.rmtree((root / "current").resolve() / "team"),
    "the tree removed": lambda root: shutil.rmtree((root / "current").resolve()),
    "a file added": lambda root: (root / "current/extra.py").write_bytes(b""),
    "the link removed": lambda root: (root / "current").unlink(),
    "the link made a file": lambda root: [(root / "current").unlink(), (root / "current").write_text("")],
    "the link made another": lambda root: [(root / "current").unlink(), (root / "current").symlink_to("/nowhere")],
    "the link made absolute": lambda root: [
        tree := (root / "current").resolve(),
        (root / "current").unlink(),
        (root / "current").symlink_to(tree),
    ],
    "the trees' folder removed": lambda root: shutil.rmtree(root / ".trees"),
    "the root removed": shutil.rmtree,
    "all removed": lambda root: [shutil.rmtree(entry) for entry in os.scandir(root / ".trees") if entry.is_dir()],
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "while it was away"])
def test_a_damaged_tree_is_repaired_by_the_next_cycle(fake, pod, tmp_path, harm, restarted) -> None:
    root = tmp_path / "pod"
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    if restarted:
        sidecar.stop()
    harm(root)
    if restarted:
        sidecar = pod()
    eventually("the tree to be whole", lambda: sidecar.live == version and holds(root, A))
    eventually("readiness", lambda: ready(sidecar)["ready"] and ready(sidecar)["error"] is None)
    sidecar.runs(fake.deploy(B))
    assert sidecar.tree() == B


NEEDS_NO_SERVER = [harm for harm in HARMS if harm == "a file added" or harm.startswith("the link")]


@pytest.mark.parametrize("harm", [HARMS[harm] for harm in NEEDS_NO_SERVER], ids=NEEDS_NO_SERVER)
@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "while it was away"])
def test_what_needs_no_server_is_repaired_without_one(fake, pod, tmp_path, harm, restarted) -> None:
    root = tmp_path / "pod"
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    eventually("readiness", lambda: ready(sidecar)["ready"])
    if restarted:
        sidecar.stop()
    fake.stop()
    harm(root)
    if restarted:
        sidecar = pod()
    eventually("the tree to be whole", lambda: sidecar.live == version and holds(root, A))
    eventually("readiness", lambda: ready(sidecar)["ready"])


@pytest.mark.parametrize("harm", ["a file rewritten", "a file removed", "a folder removed"])
def test_corrupt_files_make_it_unready_without_a_server_too(fake, pod, tmp_path, harm) -> None:
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    eventually("readiness", lambda: ready(sidecar)["ready"])
    fake.stop()
    HARMS[harm](tmp_path / "pod")
    eventually("the finding", lambda: (ready(sidecar)["error"] or {}).get("code") == "tree_damaged")
    assert sidecar.probe("/readyz")[0] == 503
    assert sidecar.metric("dagferry_sidecar_published") == 0
    assert sidecar.live == version, "Airflow goes on with what there is"
    before = sidecar.cpu_seconds()
    attempts = outcome(sidecar, "server_unreachable")
    fake.start()
    eventually("readiness", lambda: ready(sidecar)["ready"])
    assert sidecar.tree() == A
    assert sidecar.cpu_seconds() - before < 1
    assert attempts < 20


def test_a_folder_in_the_place_of_the_link_is_reported_with_what_to_do(fake, pod, tmp_path) -> None:
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    link = tmp_path / "pod" / "current"
    link.unlink()
    link.mkdir()
    eventually("the error", lambda: (ready(sidecar)["error"] or {}).get("code") == "root_unusable")
    error = ready(sidecar)["error"]
    assert error["message"] == f"{link} is a folder, not a symbolic link."
    assert error["hint"].startswith("Move it away")
    link.rmdir()
    eventually("readiness", lambda: ready(sidecar)["ready"])


def test_bytecode_in_the_live_tree_is_left_alone(fake, pod, tmp_path) -> None:
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path / "pod" / "current"], check=True)
    inode = (tmp_path / "pod" / "current").resolve()
    before = fake.asked("/current")
    eventually("two more cycles", lambda: fake.asked("/current") >= before + 3)
    assert (tmp_path / "pod" / "current").resolve() == inode
    assert outcome(sidecar, "tree_damaged") == 0


def test_a_tree_removed_by_hand_makes_it_unready_at_once_and_reports_it(fake, pod, tmp_path) -> None:
    sidecar = pod("--poll-wait", "30").runs(fake.deploy(A))
    eventually("readiness", lambda: ready(sidecar)["ready"])
    shutil.rmtree((tmp_path / "pod" / "current").resolve())
    assert sidecar.probe("/readyz")[0] == 503
    assert sidecar.metric("dagferry_sidecar_published") == 0


def test_damage_found_at_start_keeps_it_unready_until_it_is_repaired(fake, pod, tmp_path) -> None:
    version = fake.deploy(A)
    pod().runs(version).stop()
    (tmp_path / "pod" / "current" / "other.py").write_bytes(b"import e\n")
    fake.stop()
    sidecar = pod()
    eventually("the finding", lambda: outcome(sidecar, "tree_damaged") >= 1)
    assert sidecar.probe("/readyz")[0] == 503
    error = ready(sidecar)["error"]
    assert (error["code"], error["message"]) == ("tree_damaged", "Not as published: other.py.")
    fake.start()
    eventually("readiness", lambda: ready(sidecar)["ready"])
    assert sidecar.tree() == A


def test_a_full_volume_keeps_the_tree_and_the_deploy_is_applied_when_there_is_room(fake, pod, tmp_path) -> None:
    sidecar = pod(wrapper=("prlimit", "--fsize=100000:200000")).runs(fake.deploy(A))
    big = {**A, "big.sql": os.urandom(150_000)}
    version = fake.deploy(big)
    eventually("failures", lambda: outcome(sidecar, "volume_failed") >= 2)
    error = ready(sidecar)["error"]
    assert error["code"] == "volume_failed"
    assert "big.sql" in error["message"]
    assert "File too large" in error["message"]
    assert sidecar.tree() == A
    assert leftovers(tmp_path / "pod") == set()
    subprocess.run(["prlimit", f"--pid={sidecar.process.pid}", "--fsize=200000"], check=True)
    sidecar.runs(version)
    assert sidecar.tree() == big


def test_a_tight_umask_makes_nothing_unreadable(fake, pod, tmp_path) -> None:
    pod(wrapper=("sh", "-c", 'umask 077; exec "$@"', "sh")).runs(fake.deploy(A))
    for path in [tmp_path / "pod", *(tmp_path / "pod").rglob("*")]:
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == (0o055 if path.is_dir() else 0o044), path


def test_foreign_files_in_the_root_are_left_alone(fake, pod, tmp_path) -> None:
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "notes.txt").write_text("mine")
    pod().runs(fake.deploy(A)).stop()
    assert (tmp_path / "pod" / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not others_can_run_python(), reason="cannot play another user here")
def test_files_of_another_user_are_copied_instead_of_linked(fake, pod, tmp_path) -> None:
    pod().runs(fake.deploy(A)).stop()
    for path in [tmp_path / "pod", *(tmp_path / "pod").rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o777)
    (tmp_path / "pod" / ".trees" / "lock").chmod(0o666)
    for parent in [tmp_path, *list(tmp_path.parents)[:-1]]:
        parent.chmod(parent.stat().st_mode | 0o055)
    sidecar = pod(wrapper=OTHER_USER)
    before = (tmp_path / "pod" / "current" / "other.py").stat()
    sidecar.runs(fake.deploy(B))
    after = (tmp_path / "pod" / "current" / "other.py").stat()
    assert sidecar.tree() == B
    assert after.st_uid == 4321
    assert after.st_mtime_ns == before.st_mtime_ns
