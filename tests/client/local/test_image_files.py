"""What belongs into an image and changed since the last deploy is named, wherever that deploy was made."""

import os
from pathlib import Path

import pytest

from dagferry_client.local import image_files
from dagferry_client.local.folder import find_dags_folder
from dagferry_client.local.image_files import changed_image_files, image_note, image_record
from localtrees import read, write

PROJECT = {
    "dags/a.py": b"a = 1\n",
    "Dockerfile": b"FROM airflow\n",
    "requirements.txt": b"pandas\n",
    "packages.txt": b"",
    "plugins/p.py": b"",
    "include/x.py": b"x",
    "README.md": b"",
    "tests/t.py": b"",
}


def record(project: Path) -> str:
    return image_record(find_dags_folder(str(project)), read(project).outside)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", PROJECT)


def test_the_record_has_a_short_hash_of_each(project: Path, tmp_path: Path) -> None:
    found = record(project)
    assert [item.partition("=")[0] for item in found.split()] == [
        *("Dockerfile", "include", "packages.txt", "plugins", "requirements.txt")
    ]
    assert len(found) < 200
    assert record(write(tmp_path / "elsewhere", PROJECT)) == found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Dockerfile", "Dockerfile"),
        ("requirements.txt", "requirements.txt"),
        ("requirements-dev.txt", "requirements-dev.txt"),
        ("plugins/p.py", "plugins"),
        ("plugins/deep/new.py", "plugins"),
        ("include/x.py", "include"),
    ],
)
def test_a_change_is_named(project: Path, path: str, name: str) -> None:
    before = record(project)
    write(project, {path: b"other"})
    assert changed_image_files(before, record(project)) == [name]


def test_what_is_gone_or_renamed_is_a_change(project: Path) -> None:
    before = record(project)
    (project / "Dockerfile").unlink()
    (project / "plugins/p.py").rename(project / "plugins/q.py")
    assert changed_image_files(before, record(project)) == ["Dockerfile", "plugins"]


def test_nothing_else_is_a_change(project: Path) -> None:
    before = record(project)
    write(project, {"README.md": b"x", "plugins/__pycache__/p.pyc": b"x", "dags/b.py": b"", "tests/u.py": b""})
    os.utime(project / "Dockerfile", (1, 1))
    assert changed_image_files(before, record(project)) == []


def test_without_a_record_of_the_last_deploy_nothing_is_said(project: Path) -> None:
    assert changed_image_files("", record(project)) == []


def test_what_is_deployed_with_the_dags_needs_no_image(project: Path) -> None:
    before = record(project)
    (project / "dags" / "include").symlink_to("../include")
    linked = record(project)
    assert "include=dags" in linked
    write(project, {"include/x.py": b"y"})
    assert changed_image_files(linked, record(project)) == []
    assert changed_image_files(before, linked) == []
    (project / "dags" / "include").unlink()
    assert changed_image_files(linked, record(project)) == []


def test_a_dags_folder_in_one_of_them_is_no_part_of_the_image(tmp_path: Path) -> None:
    write(tmp_path, {"plugins/dags/a.py": b""})
    (tmp_path / "dags").symlink_to("plugins/dags")
    assert record(tmp_path) == ""


@pytest.mark.parametrize(("limit", "value"), [("MAX_IMAGE_FILES", 1), ("MAX_IMAGE_BYTES", 10)])
def test_what_is_too_large_to_look_at_is_not_recorded(project: Path, monkeypatch, limit: str, value: int) -> None:
    write(project, {"plugins/p.py": b"12345678", "plugins/q.py": b"12345678", "Dockerfile": b"FROM x"})
    monkeypatch.setattr(image_files, limit, value)
    assert "plugins" not in record(project)
    assert "Dockerfile=" in record(project)


def test_the_number_of_names_is_limited(project: Path) -> None:
    write(project, {f"requirements-{number}.txt": b"" for number in range(50)})
    assert len(record(project).split()) == image_files.MAX_NAMES


@pytest.mark.parametrize("text", ["x", "=", "a=b c", "Dockerfile=1 Dockerfile=2", "\0"])
def test_any_record_can_be_read(text: str) -> None:
    assert isinstance(changed_image_files(text, "Dockerfile=1a2b3c4d"), list)


def test_a_project_that_cannot_be_read_has_no_record(project: Path, monkeypatch) -> None:
    folder = find_dags_folder(str(project))
    assert image_record(folder._replace(project=str(project / "gone")), []) == ""


def test_the_note_says_what_to_do() -> None:
    assert image_note([]) == ""
    assert image_note(["Dockerfile", "plugins"]) == (
        "These need an image deploy; DAGs alone were sent: Dockerfile, plugins changed since the last deploy."
    )


def test_a_record_is_never_longer_than_a_server_takes(project: Path) -> None:
    write(project, {f"requirements-{'x' * 60}{n}.txt": b"" for n in range(4)})
    found = record(project)
    assert len(found) <= 200
    assert found.startswith("Dockerfile=")
    assert all(len(item.partition("=")[2]) == 8 for item in found.split())


@pytest.mark.parametrize(
    "name", ["requirements a.txt", "requirements=a.txt", "requirements\n.txt", "requirements\u2028.txt"]
)
def test_a_name_that_would_break_the_record_is_left_out(project: Path, name: str) -> None:
    before = record(project)
    write(project, {name: b""})
    assert record(project) == before
