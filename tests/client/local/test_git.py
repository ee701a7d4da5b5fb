"""What is recorded of a commit: from Git or the CI job, without secrets, and never at the price of a deploy."""

import os
import subprocess
from pathlib import Path

import pytest

from dagferry_client.local import git
from dagferry_client.local.git import (
    MAX_FACT_CHARACTERS,
    GitFailed,
    Source,
    commit_url,
    from_job,
    parse_status,
    read_source,
    run_git,
    without_secrets,
)
from localtrees import write

ANN = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.com"}
ANN |= {"GIT_COMMITTER_NAME": "Bob", "GIT_COMMITTER_EMAIL": "bob@example.com"}


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **ANN}
    )
    return done.stdout.strip()


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    folder = write(tmp_path / "repository" / "dags", {"a.py": b"a = 1\n"})
    run(folder.parent, "init", "-q", "-b", "main")
    run(folder.parent, "add", ".")
    run(folder.parent, "commit", "-qm", "Fix the sales load\n\nIt was slow.")
    return folder


def source(dags: Path, **environ: str) -> Source:
    found, note = read_source(str(dags), environ)
    assert note == ""
    return found


def test_commit_branch_author_and_message(dags: Path) -> None:
    commit = run(dags, "rev-parse", "HEAD")
    assert source(dags) == Source(commit, "main", "Ann <ann@example.com>", "", "", "Fix the sales load", False)
    assert source(dags).description() == f"{commit[:7]} Fix the sales load"
    assert source(dags).facts() == {"commit": commit, "branch": "main", "author": "Ann <ann@example.com>"}


def test_the_repository_and_the_page_of_the_commit(dags: Path) -> None:
    run(dags, "remote", "add", "origin", "https://ann:s3cret@github.com/acme/dags.git")
    found = source(dags)
    assert found.repository == "https://github.com/acme/dags.git"
    assert found.url == f"https://github.com/acme/dags/commit/{found.commit}"
    assert found.facts().keys() == {"commit", "branch", "author", "repository", "url"}


@pytest.mark.parametrize("path", ["dags/a.py", "dags/new.py"])
def test_changes_in_the_dags_folder_are_told(dags: Path, path: str) -> None:
    write(dags.parent, {path: b"a = 2\n"})
    found = source(dags)
    assert found.changed
    assert found.description().endswith(" Fix the sales load (with changes that are not committed)")


def test_changes_elsewhere_and_files_that_git_ignores_do_not_count(dags: Path) -> None:
    write(dags.parent, {"README.md": b"x", "dags/a.pyc": b"", ".git/info/exclude": b"*.pyc\n"})
    assert not source(dags).changed


def test_the_branch_of_a_detached_checkout_is_known_to_the_job(dags: Path) -> None:
    run(dags, "checkout", "-q", "--detach")
    commit = run(dags, "rev-parse", "HEAD")
    assert source(dags).branch == ""
    job = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": commit, "GITHUB_REF_NAME": "main", "GITHUB_ACTOR": "ann"}
    job |= {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/dags"}
    assert source(dags, **job).branch == "main"
    assert source(dags, **job).url == f"https://github.com/acme/dags/commit/{commit}"
    assert source(dags, **{**job, "GITHUB_SHA": "f" * 40}).branch == "", "it is the branch of another commit"


def test_outside_of_a_repository_nothing_is_known(tmp_path: Path) -> None:
    assert source(tmp_path, GITHUB_ACTIONS="true", GITHUB_SHA="f" * 40) == Source()
    assert Source().description() == ""
    assert Source().facts() == {}


def test_before_the_first_commit_nothing_is_known(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q")
    assert source(tmp_path) == Source()


def test_the_repository_of_a_hook_is_not_that_of_the_dags_folder(dags: Path, tmp_path: Path, monkeypatch) -> None:
    run(tmp_path, "init", "-q", "other")
    for name, path in {"GIT_DIR": ".git", "GIT_WORK_TREE": ".", "GIT_INDEX_FILE": ".git/index"}.items():
        monkeypatch.setenv(name, str(tmp_path / "other" / path))
    assert source(dags).message == "Fix the sales load"


@pytest.mark.parametrize(
    "setting",
    [
        "core.fsmonitor={program}",
        "core.pager={program}",
        "core.askPass={program}",
        "core.hooksPath={folder}",
        "gpg.program={program}\nlog.showSignature=true",
        "core.untrackedCache=true\ncore.fsmonitor={program}",
    ],
)
def test_no_program_that_the_repository_names_is_run(dags: Path, tmp_path: Path, setting: str) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("program", "post-index-change", "pre-commit", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    signing = hooks / "signing"
    signing.write_text(
        "#!/bin/sh\ncat >/dev/null\necho '\n[GNUPG:] SIG_CREATED ' >&2\necho '-----BEGIN PGP SIGNATURE-----'\n"
    )
    signing.chmod(0o755)
    run(dags, "-c", f"gpg.program={signing}", "commit", "-q", "--amend", "--no-edit", "-S")
    for line in setting.format(program=hooks / "program", folder=hooks).split("\n"):
        run(dags, "config", *line.split("=", 1))
    os.utime(dags / "a.py", (1, 1))
    assert source(dags).message == "Fix the sales load"
    assert not (tmp_path / "ran").exists()


def test_a_dags_folder_that_looks_like_a_repository_is_not_taken_for_one(dags: Path, tmp_path: Path) -> None:
    run(dags, "init", "-q", "--bare", ".")
    own = ("--git-dir=.", "--work-tree=.")
    for line in ("core.bare=false", "core.worktree=.", f"filter.x.clean=touch {tmp_path}/ran; cat"):
        run(dags, *own, "config", *line.split("=", 1))
    (dags / ".gitattributes").write_text("*.py filter=x\n")
    run(dags, *own, "-c", "filter.x.clean=cat", "add", "a.py")
    os.utime(dags / "a.py", (1, 1))
    run(dags, "status")
    assert (tmp_path / "ran").exists(), "Git itself runs it"
    (tmp_path / "ran").unlink()
    found, note = read_source(str(dags), {})
    assert not (tmp_path / "ran").exists()
    assert found == Source()
    assert "bare repository" in note


def test_the_index_is_not_written(dags: Path) -> None:
    before = (dags.parent / ".git" / "index").read_bytes()
    os.utime(dags / "a.py", (1, 1))
    source(dags)
    assert (dags.parent / ".git" / "index").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_checkout_of_somebody_else_is_a_note_with_what_to_do(dags: Path) -> None:
    for path in (dags.parent, dags.parent / ".git"):
        os.chown(path, 4321, 4321)
    found, note = read_source(str(dags), GITLAB)
    assert found == Source()
    assert note.endswith(f"git config --global --add safe.directory {dags.parent}")


def test_git_that_takes_too_long_is_a_note(dags: Path, monkeypatch) -> None:
    monkeypatch.setattr(git, "GIT_SECONDS", 0)
    assert read_source(str(dags), {}) == (Source(), "Commit and author are not recorded: git took more than 0 s.")


def test_a_broken_repository_is_a_note(dags: Path) -> None:
    (dags.parent / ".git" / "HEAD").write_text("ref: refs/heads/../x")
    (dags.parent / ".git" / "config").write_text("[core")
    found, note = read_source(str(dags), {})
    assert found == Source()
    assert note.startswith("Commit and author are not recorded: fatal: bad config")


GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": "a" * 40,
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_AUTHOR": "Ann <ann@example.com>",
    "CI_COMMIT_TITLE": "Fix the sales load",
    "CI_PROJECT_URL": "https://gitlab.example.com/acme/dags",
}


def test_in_a_container_without_git_the_job_knows_the_commit(dags: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source(dags, **GITLAB) == Source(
        "a" * 40,
        "main",
        "Ann <ann@example.com>",
        "https://gitlab.example.com/acme/dags",
        f"https://gitlab.example.com/acme/dags/-/commit/{'a' * 40}",
        "Fix the sales load",
    )
    assert source(dags) == Source()


def test_a_git_in_the_current_folder_is_not_run(dags: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho mine\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{tmp_path}")
    with pytest.raises(GitFailed, match="not installed"):
        run_git(str(dags), "status")


def test_a_pull_request_s_branch_is_the_one_it_comes_from() -> None:
    job = {"GITHUB_ACTIONS": "true", "GITHUB_HEAD_REF": "fix", "GITHUB_REF_NAME": "12/merge"}
    assert from_job(job).branch == "fix"
    assert from_job({**job, "GITHUB_HEAD_REF": ""}).branch == "12/merge"
    assert from_job({"HOME": "/"}) == Source()


def test_facts_are_short_and_on_one_line() -> None:
    found = from_job({**GITLAB, "CI_COMMIT_TITLE": "a\nb\x1b\u2028[31m" + "c" * 500})
    assert found.message.startswith("a b [31mcc")
    assert len(found.message) == MAX_FACT_CHARACTERS


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b"# branch.oid 1a\0# branch.head main\0", ("main", False)),
        (b"# branch.oid 1a\0# branch.head (detached)\0", ("", False)),
        (b"# branch.head f/x\0# branch.upstream o/f\x001 .M N... 100644 100644 100644 1 1 a.py\0", ("f/x", True)),
        (b"# branch.head main\0? # new.py\0", ("main", True)),
    ],
)
def test_the_status(output: bytes, expected: tuple[str, bool]) -> None:
    assert parse_status(output) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/acme/dags.git\n", "https://github.com/acme/dags.git"),
        ("https://x-access-token:ghs_S3cret@github.com/acme/dags?token=x#y", "https://github.com/acme/dags"),
        ("https://S3cret@dev.azure.com:8443/acme", "https://dev.azure.com:8443/acme"),
        ("ssh://git@host.example.com:2222/acme/dags.git", "ssh://host.example.com:2222/acme/dags.git"),
        ("git@github.com:acme/dags.git", "ssh://github.com/acme/dags.git"),
        ("host.example.com:acme/dags", "ssh://host.example.com/acme/dags"),
        ("/home/ann/dags.git", ""),
        ("../dags", ""),
        ("C:\\dags", ""),
        ("file:///home/ann/dags", ""),
        ("https://[broken/dags", ""),
        ("https://host:port/dags", ""),
        ("", ""),
    ],
)
def test_a_repository_s_url_has_no_secrets_and_no_paths_of_this_machine(url: str, expected: str) -> None:
    assert without_secrets(url) == expected


@pytest.mark.parametrize(
    ("repository", "page"),
    [
        ("https://github.com/a/b.git", "https://github.com/a/b/commit/1a"),
        ("ssh://github.com/a/b.git", "https://github.com/a/b/commit/1a"),
        ("https://github.example.com/a/b", "https://github.example.com/a/b/commit/1a"),
        ("https://gitlab.com/a/b/c", "https://gitlab.com/a/b/c/-/commit/1a"),
        ("https://git.example.com/a/b", ""),
        ("https://notgithub.com/a/b", ""),
        ("https://github.com/", ""),
        ("", ""),
    ],
)
def test_the_page_of_a_commit_is_known_for_known_hosts(repository: str, page: str) -> None:
    assert commit_url(repository, "1a") == page
    assert commit_url(repository, "") == ""
