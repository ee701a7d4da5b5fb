"""The branch that selects a target is that of the job or of the working tree, and never one that anybody can name."""

import subprocess

import pytest

from dagferry_client.branch import current_branch


@pytest.fixture
def repository(tmp_path):
    for arguments in (["init", "-q", "-b", "feature/x"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_it_is_the_one_that_is_checked_out(repository) -> None:
    assert current_branch(repository, {}) == "feature/x"


def test_a_commit_that_no_branch_names_has_none(repository) -> None:
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=repository, check=True)
    assert current_branch(repository, {}) == ""


def test_a_folder_without_git_has_none(tmp_path) -> None:
    (tmp_path / ".git").write_text("not a repository")
    assert current_branch(tmp_path, {}) == ""


def test_a_machine_without_git_has_none(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert current_branch(tmp_path, {}) == ""


@pytest.mark.parametrize(
    ("environment", "branch"),
    [
        ({"GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}, "main"),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "main"}, ""),
        (
            {
                "GITHUB_ACTIONS": "true",
                "GITHUB_REF_TYPE": "branch",
                "GITHUB_REF_NAME": "7/merge",
                "GITHUB_HEAD_REF": "main",
            },
            "7/merge",
        ),
        ({"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "main"}, "main"),
        ({"GITLAB_CI": "true", "CI_COMMIT_TAG": "main", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main"}, ""),
    ],
)
def test_in_ci_it_is_that_of_the_job(repository, environment, branch) -> None:
    assert current_branch(repository, environment) == branch
