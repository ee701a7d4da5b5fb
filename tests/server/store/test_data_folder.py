"""The data folder belongs to one server and is nobody else's business; what is received leaves nothing behind."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_gate.ruff import FOLDER_PREFIX
from dagferry_server.errors import StoreAway, StoreInUse
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.files import TEMPORARY
from dagferry_server.store.local import LocalStore
from harness import OTHER_USER, others_can_run_python

DIGEST = "sha256:" + "0" * 64


def test_it_is_made_with_its_parents(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path / "a" / "b"))):
        assert (tmp_path / "a" / "b").is_dir()


def test_a_second_server_is_refused_until_the_first_is_gone(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))), pytest.raises(StoreInUse, match=str(tmp_path)):
        DataFolder(str(tmp_path))
    DataFolder(str(tmp_path)).close()


def test_a_place_that_is_no_folder_is_refused_with_an_explanation(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/data"):
        with pytest.raises(SetupError, match="is not a folder"):
            DataFolder(str(tmp_path / place))


def test_a_scratch_file_has_no_name(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))) as folder:
        folder.prepare("prod")
        with folder.scratch_file("prod") as file:
            file.write(b"something")
            assert os.listdir(tmp_path / "prod" / "incoming") == []


def test_dag_files_that_a_killed_server_was_checking_are_removed(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))) as folder:
        (tmp_path / f"{FOLDER_PREFIX}x1" / "sub").mkdir(parents=True)
        (tmp_path / f"{FOLDER_PREFIX}x1" / "sub" / "0.py").write_text("secret = 1")
        (tmp_path / "check-1").mkdir()
        folder.remove_checks()
        assert sorted(os.listdir(tmp_path)) == [".lock", "check-1"]


def test_scratch_files_of_a_server_that_was_killed_are_swept(tmp_path) -> None:
    with closing(DataFolder(str(tmp_path))) as folder:
        folder.prepare("prod")
        left = tmp_path / "prod" / "incoming" / (TEMPORARY + "x")
        left.write_text("half")
        foreign = tmp_path / "prod" / "incoming" / "README"
        foreign.write_text("not ours")
        folder.prepare("prod")
        assert not left.exists()
        assert foreign.exists()


# --- who may look ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o022, 0o002, 0o000], ids=oct)
def _umask(request) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def filled(root: Path) -> list[Path]:
    """A data folder that a server has used."""
    with closing(DataFolder(str(root))) as folder:
        folder.prepare("prod")
        store = LocalStore(folder.root)
        store.prepare("prod")
        if not store.bundles("prod"):
            store.put_bundle("prod", DIGEST, lambda file: bytes(file.write(b"bundle")))
        store.create_entry("prod", 1, b"{}")
    return [path for path in [root, *root.rglob("*")] if not path.is_symlink()]


@pytest.mark.usefixtures("_umask")
def test_what_a_server_makes_is_for_its_owner_alone(tmp_path) -> None:
    made = filled(tmp_path / "a" / "data")
    assert {path.name for path in made} > {"data", "prod", "bundles", "incoming", "deploys", ".lock", "log.json"}
    for path in made:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert mode(tmp_path / "a") & 0o500 == 0o500  # a parent is not only ours


def test_a_folder_of_an_older_version_is_closed_to_others(tmp_path) -> None:
    for path in filled(tmp_path):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in filled(tmp_path):
        if path.is_dir() or path.parent.name == "bundles":
            assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_the_group_of_a_setgid_folder_keeps_its_share(tmp_path) -> None:
    tmp_path.chmod(0o2775)
    filled(tmp_path)
    (tmp_path / "prod" / "bundles").chmod(0o2775)
    (tmp_path / "prod" / "bundles" / f"{DIGEST[7:]}.tar.zst").chmod(0o664)
    filled(tmp_path)
    assert mode(tmp_path) == mode(tmp_path / "prod" / "bundles") == 0o2770
    assert mode(tmp_path / "prod" / "bundles" / f"{DIGEST[7:]}.tar.zst") == 0o660


@pytest.mark.usefixtures("_umask")
def test_what_a_server_makes_in_a_setgid_folder_is_for_every_user_of_the_group(tmp_path) -> None:
    tmp_path.chmod(0o2770)
    for path in filled(tmp_path):
        assert path.stat().st_mode & 0o7777 == (0o2770 if path.is_dir() else 0o660), path


def test_a_volume_that_refuses_modes_is_used_as_it_is(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(0o777)
    monkeypatch.setattr(os, "chmod", refuse)
    assert filled(tmp_path)
    assert mode(tmp_path) == 0o777


SHARED = (("--regid=0", "--groups=5000"), ("--regid=5000", "--clear-groups"))
"""Users a pod of Kubernetes may run as, with fsGroup 5000."""


@pytest.mark.parametrize("groups", SHARED, ids=str)
def test_a_volume_that_kubernetes_gave_to_a_group_is_used_by_users_of_it(groups) -> None:
    if not others_can_run_python():
        pytest.skip("needs root, and a Python that others can run")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = Path(folder, "data")
        root.mkdir()
        os.chown(root, 0, 5000)
        root.chmod(0o2775)  # as the kubelet leaves a volume with fsGroup
        for _ in range(2):
            subprocess.run(["setpriv", "--reuid=4321", *groups, sys.executable, "-c", FILL, root], check=True)
        assert mode(root) == 0o2775
        assert {path.stat().st_uid for path in root.rglob("*")} == {4321}


FILL = """
import sys
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.local import LocalStore
folder = DataFolder(sys.argv[1])
folder.prepare("prod")
LocalStore(folder.root).prepare("prod")
LocalStore(folder.root).check_writable()
"""


def test_what_root_writes_for_another_user_is_theirs() -> None:
    if not others_can_run_python():
        pytest.skip("needs root, and a Python that others can run")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        fill = [*OTHER_USER, sys.executable, "-c", FILL, f"{folder}/data"]
        subprocess.run(fill, check=True)
        command = [sys.executable, "-m", "dagferry_server", "new-log-id", "--data-dir", f"{folder}/data"]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(fill, check=True)


@pytest.mark.parametrize("name", ["", "data", "a/data"])
def test_a_folder_without_rights_says_how_to_choose_another(name) -> None:
    if not others_can_run_python():
        pytest.skip("needs root, and a Python that others can run")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        command = [sys.executable, "-m", "dagferry_server", "--listen", "127.0.0.1:0", "--data-dir", f"{folder}/{name}"]
        ended = subprocess.run([*OTHER_USER, *command], check=False, capture_output=True, text=True)
    assert ended.returncode == 5
    assert ended.stderr.endswith("Permission denied. Choose a folder you can write: --data-dir DIR\n")


def test_a_read_only_image_without_a_volume_says_so_too(tmp_path, monkeypatch) -> None:
    def refuse(path: str, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(StoreAway, match="Read-only file system") as caught:
        DataFolder(str(tmp_path / "data"))
    assert "--data-dir" in caught.value.hint
