"""A dags folder becomes the bundle that a server would make of it."""

import os
from pathlib import Path

import pytest

import treemaker
from dagferry_client.local import tree as trees
from dagferry_client.local.errors import FolderChanged, FolderInvalid
from dagferry_client.local.scan import LocalFile
from dagferry_client.local.tree import bundle_warnings
from localtrees import read, write

FILES = {"a.py": b"a = 1\n", "team/b.py": b"", "team/data.csv": bytes(700_000)}


def test_the_digest_is_that_of_the_bundle(tmp_path: Path) -> None:
    tree = read(write(tmp_path / "dags", FILES))
    assert tree.manifest.digest == treemaker.manifest_of(FILES).digest
    assert tree.sources == {path: str(tmp_path / "dags" / path) for path in FILES}


def test_the_order_of_the_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = read(write(tmp_path / "dags", FILES))
    real = sorted
    monkeypatch.setattr("dagferry_client.local.scan.sorted", lambda *a, **k: real(*a, **k)[::-1], raising=False)
    assert read(tmp_path / "dags").manifest.digest == tree.manifest.digest


def test_content_is_read_again_only_if_it_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dags = write(tmp_path / "dags", FILES)
    monkeypatch.setattr("dagferry_client.local.hash_cache.RACY_NS", -(10**15))
    first = read(dags, hashes=tmp_path / "cache")
    hashed: list[str] = []
    real = trees._sha256

    def counted(file: LocalFile) -> str:
        hashed.append(file.path)
        return real(file)

    monkeypatch.setattr(trees, "_sha256", counted)
    assert read(dags, hashes=tmp_path / "cache").manifest.digest == first.manifest.digest
    assert hashed == []
    (dags / "a.py").write_bytes(b"a = 2\n")
    assert read(dags, hashes=tmp_path / "cache").manifest.digest != first.manifest.digest
    assert hashed == ["a.py"]


def test_unreadable_files_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dags = write(tmp_path / "dags", FILES)

    def refused(file: LocalFile) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trees, "_sha256", refused)
    with pytest.raises(FolderInvalid) as caught:
        read(dags)
    assert [problem.path for problem in caught.value.problems] == list(FILES)
    assert "permissions" in caught.value.hint


@pytest.mark.parametrize("size", [None, 5, 7])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch, size: int | None) -> None:
    dags = write(tmp_path / "dags", FILES)
    real = trees._sha256

    def late(file: LocalFile) -> str:
        if size is None:
            os.unlink(file.source)
        else:
            os.truncate(file.source, size)
        return real(file)

    monkeypatch.setattr(trees, "_sha256", late)
    with pytest.raises(FolderChanged, match=r"'a\.py' was changed or removed"):
        read(dags)


def test_a_whole_repository_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "repo", {"airflow/dags/a.py": b"", "airflow/dags/b.py": b""})
    [warning] = read(tmp_path / "repo").warnings
    assert warning == (
        f"All files lie in the folder 'airflow'. If the dags folder is in there, deploy "
        f"{str(tmp_path / 'repo/airflow')!r} instead."
    )
    assert read(write(tmp_path / "dags", FILES)).warnings == []


def test_the_bundle_has_the_warnings_that_a_server_gives() -> None:
    manifest = treemaker.manifest_of({"airflow.py": b"", "x.pem": b"", "R.py": b"", "r.py": b"", "\u202ea.py": b""})
    shadows, turned, case, secrets = sorted(bundle_warnings(manifest), key=lambda text: ("airflow" not in text, text))
    assert "airflow.py" in shadows
    assert "'R.py' and 'r.py'" in turned + case
    assert "x.pem" in turned + case + secrets
    assert bundle_warnings(treemaker.manifest_of(FILES)) == []
