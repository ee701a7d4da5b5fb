"""The dags folder is the one that was meant, or there is an error that names others."""

import os
from pathlib import Path

import pytest

from dagferry_client.local.errors import FolderNotFound
from dagferry_client.local.folder import MAX_FOLDERS_SEARCHED, bounds, checkout, find_dags_folder, is_within
from localtrees import write

DAG = {"a.py": b"a = 1\n"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_without_a_path_it_is_the_folder_dags_here(here: Path) -> None:
    write(here / "dags", DAG)
    assert find_dags_folder(None) == (str(here / "dags"), "dags", str(here), "dags")


def test_without_a_path_it_is_the_current_folder_if_that_is_named_so(here: Path, monkeypatch) -> None:
    monkeypatch.chdir(write(here / "dags", DAG))
    assert find_dags_folder(None).path == str(here / "dags")


def test_without_a_path_a_folder_of_another_name_is_never_taken(here: Path) -> None:
    write(here, DAG)
    with pytest.raises(FolderNotFound, match="There is no folder 'dags' in"):
        find_dags_folder(None)


def test_the_error_suggests_dags_folders_below(here: Path) -> None:
    write(here / "airflow" / "dags", DAG)
    write(here / ".hidden" / "dags", DAG)
    write(here / "too" / "deep" / "down" / "dags", DAG)
    with pytest.raises(FolderNotFound) as caught:
        find_dags_folder(None)
    assert caught.value.hint == f"Name the dags folder, for example: dagferry deploy {os.path.join('airflow', 'dags')}"
    with pytest.raises(FolderNotFound) as caught:
        find_dags_folder("dagz")
    assert caught.value.message == "There is no folder 'dagz'."
    assert caught.value.hint == "These are here: airflow/dags"


def test_the_search_for_suggestions_ends(here: Path) -> None:
    for number in range(MAX_FOLDERS_SEARCHED + 10):
        (here / f"f{number:04}").mkdir()
    write(here / "f9999" / "dags", DAG)
    with pytest.raises(FolderNotFound) as caught:
        find_dags_folder(None)
    assert "for example" not in caught.value.hint.removesuffix("PATH.")


@pytest.mark.parametrize("given", ["project", "project/", "./project/.", "project/dags", "project/dags/"])
def test_of_a_project_it_is_its_dags_folder(here: Path, given: str) -> None:
    write(here / "project", {"dags/a.py": b"", "Dockerfile": b""})
    found = find_dags_folder(given)
    assert (found.path, found.project, found.name) == (str(here / "project/dags"), str(here / "project"), "dags")


def test_a_folder_without_dags_in_it_is_itself_the_dags_folder(here: Path) -> None:
    write(here / "team-a", DAG)
    assert find_dags_folder("team-a") == (str(here / "team-a"), "team-a", str(here), "team-a")


def test_dags_in_dags_is_a_folder_like_any_other(here: Path) -> None:
    write(here / "dags" / "dags", DAG)
    assert find_dags_folder("dags").path == str(here / "dags")


def test_a_link_is_followed_and_the_project_is_where_the_link_is(here: Path) -> None:
    write(here / "elsewhere" / "real", DAG)
    (here / "project").mkdir()
    (here / "project" / "dags").symlink_to("../elsewhere/real")
    found = find_dags_folder("project")
    assert (found.path, found.project, found.name) == (str(here / "elsewhere/real"), str(here / "project"), "dags")


@pytest.mark.parametrize("given", [None, ".", "dags"])
def test_a_link_to_nothing_is_an_error_that_says_so(here: Path, given: str | None) -> None:
    (here / "dags").symlink_to("gone")
    with pytest.raises(FolderNotFound, match="is a link to 'gone', which does not exist"):
        find_dags_folder(given)


def test_a_file_is_an_error_that_says_what_to_do(here: Path) -> None:
    write(here, {"dags.tar.gz": b"x"})
    with pytest.raises(FolderNotFound, match="is a file, not a folder") as caught:
        find_dags_folder("dags.tar.gz")
    assert "curl" in caught.value.hint


def test_links_may_lead_into_the_project_and_the_checkout(here: Path) -> None:
    write(here / "repository" / "airflow" / "dags", DAG)
    (here / "repository" / ".git").mkdir()
    found = bounds(find_dags_folder("repository/airflow"))
    assert set(found) == {str(here / "repository" / rest) for rest in ("airflow/dags", "airflow", ".")}


def test_the_home_folder_is_no_project(here: Path, monkeypatch) -> None:
    write(here / "dags", DAG)
    (here / ".git").mkdir()
    monkeypatch.setenv("HOME", str(here))
    assert bounds(find_dags_folder("dags")) == (str(here / "dags"),)


def test_a_checkout_is_known_by_its_git_folder_or_file(here: Path) -> None:
    (here / "a" / "b").mkdir(parents=True)
    assert checkout(str(here / "a" / "b")) == checkout(str(here))
    (here / "a" / ".git").write_text("gitdir: elsewhere")
    assert checkout(str(here / "a" / "b")) == str(here / "a")


def test_a_folder_is_not_within_one_whose_name_starts_its_own() -> None:
    assert is_within("/a/b", "/a/b")
    assert is_within("/a/b/c", "/a/b")
    assert is_within("/a", "/")
    assert not is_within("/a/bc", "/a/b")
