"""The GitHub Action with every text, folder and event that others can give it: none is executed, skipped or guessed."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from action_jobs import BAD, DAGS, GOOD, Job, assert_red, commit, git
from localtrees import read, write

pytestmark = pytest.mark.slow


# --- texts of others --------------------------------------------------------------------------------------------------

HOSTILE = {
    "apostrophe": "Don't load twice",
    "quotes": "'; touch pwned; '",
    "double quotes": '"; touch pwned; "',
    "substitution": "$(touch pwned)",
    "backticks": "`touch pwned`",
    "variable": "${IFS}$HOME\\",
    "expression": "${{ github.token }}",
    "option": "--help",
    "command": "::error::red\n::set-env name=X::y\n##[add-mask]deploy",
    "lines": "first\nversion=1\nunchanged<<EOF\ntrue\nEOF\n",
    "html": "<script>alert(1)</script></pre></code> [x](http://x) @ann #1",
    "non-ASCII": "Lädt Umsätze 🚀 \u202e\u200b",
    "glob": "* ? [a-z] ~",
    "percent": "%0A::error::x %s %d",
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_message_may_be_anything(job, text) -> None:
    done = job.run({"message": text})
    assert done.is_green, done.log
    assert job.is_deployed()
    assert job.newest()["description"][:500] == text[:500]
    assert done.outputs["version"] == job.current()["version"]
    assert done.outputs["unchanged"] == "false"
    assert done.errors() == []


@pytest.mark.parametrize("text", [text for name, text in HOSTILE.items() if name != "long"], ids=lambda text: text[:9])
def test_so_may_the_message_of_a_commit(job, text) -> None:
    sha = commit(job.workspace, text)
    assert job.run().is_green
    assert job.is_deployed()
    assert job.newest()["description"].startswith(f"{sha[:7]} {text.splitlines()[0][:9]}".strip())


@pytest.mark.parametrize("name", ["$(touch${IFS}pwned)", "it's", "--help", "ünï", "a/b;touch${IFS}pwned", "::error::x"])
def test_so_may_the_name_of_a_branch(job, name) -> None:
    if not name.startswith(("-", ":")):
        git(job.workspace, "checkout", "-qb", name)
    done = job.run(GITHUB_REF_NAME=name, GITHUB_HEAD_REF=name, GITHUB_REF=f"refs/heads/{name}")
    assert done.is_green, done.log
    assert job.is_deployed()


NAMES = {
    "non-ASCII": "lädt ümsätze.py",
    "blanks": "two words/and  three.py",
    "quotes": 'it\'s "so".py',
    "substitution": "$(touch pwned).py",
    "command": "::error::x.py",
    "markdown": "[a](b) **c** `d` | <img src=x>.py",
    "mention": "@ann #1.py",
    "percent": "100%0A::error::.py",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_files_may_have_any_name_that_can_be_deployed(job, name) -> None:
    write(job.workspace / "dags", {name: GOOD + b"\n"})
    done = job.run()
    assert done.is_green, done.log
    assert job.is_deployed()
    assert f"A  {name}".replace("<", "&lt;").replace(">", "&gt;") in done.summary
    assert done.errors() == []
    write(job.workspace / "dags", {name: BAD})
    done = job.run()
    assert_red(done, "DAG files do not parse")
    [_, at_the_file] = [one for one in done.annotations if one.kind == "error"]
    assert at_the_file.properties["file"] == f"dags/{name}"
    assert "<img" not in done.summary


INPUTS = {
    "path": ["", "nowhere", "--help", "dags/a.py", "$(touch pwned)", "'; touch pwned; '", "dags\n"],
    "server": ["-x", "http://127.0.0.1:1", "https://127.0.0.1:1", "'; touch pwned; '"],
    "deployment": ["nowhere", "../d0", "--help", "$(touch pwned)", "d0\n"],
    "wait": ["0", "$(touch pwned)", "--help"],
    "under": ["../x", "/"],
    "airflow-python": ["2.7", "--help"],
    "airflow": ["1"],
    "ca-file": ["nowhere.pem", "--help"],
    "check": ["True", "$(touch pwned)"],
    "dry-run": ["yes", "--help"],
    "override": ["yes"],
    "undo-on-failure": ["true"],
    "wait-parsed": ["soon", "--help"],
    "comment": ["yes"],
}
"""What each input cannot be."""


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in INPUTS.items() for value in values],
    ids=lambda value: value[:12],
)
def test_an_input_that_makes_no_sense_is_red(job, name, value) -> None:
    server = "https://127.0.0.1:1" if name == "ca-file" else job.server.url
    done = job.run({"server": server, name: value})
    assert_red(done)
    assert done.outputs["version"] == done.outputs["unchanged"] == ""
    assert "failed" in done.summary or "Nothing was deployed" in done.summary
    assert not job.is_deployed()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            ["message", "path", "under", "wait", "check", "override", "dry-run", "airflow", "airflow-python"]
        ),
        st.sampled_from(
            [
                "",
                "true",
                "false",
                "--help",
                "--dry-run",
                "-h",
                "dags",
                "./dags",
                "other",
                ".",
                "only",
                "3",
                "3.12",
                "1s",
            ]
            + [text for text in HOSTILE.values() if len(text) < 1000]
        ),
        max_size=4,
    ),
    st.dictionaries(
        st.sampled_from(["a.py", "dags/x.py", *NAMES.values()]), st.sampled_from([GOOD, BAD, b""]), max_size=3
    ),
)
def test_no_input_makes_it_green_with_nothing_deployed(job, inputs, files) -> None:
    job.deployment = f"d{next(job.place.names)}"
    write(job.workspace / "other", files)
    write(job.workspace / "dags", files)
    done = job.run({**inputs, "deployment": job.deployment})
    asked_not_to = inputs.get("dry-run") == "true" or inputs.get("check") == "only"
    if done.is_green and not asked_not_to:
        path = inputs.get("path", "dags")
        at = Path(path) if path != "." else Path("dags")
        if under := inputs.get("under"):
            sent = read(job.workspace / at, hashes=job.workspace.parent / "hashes").manifest.files
            assert paths_of(job) == {f"{under.rstrip('/')}/{name}" for name in sent}
        else:
            assert job.is_deployed(str(at))
            assert done.outputs["digest"] == job.digest(str(at))
    if asked_not_to:
        assert not job.current()["version"]


# --- which folder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["dags", "./dags", "dags/", ".", "./", "../workspace/dags", "$PWD"])
def test_a_folder_may_be_written_in_any_way(job, path) -> None:
    assert job.run({"path": path.replace("$PWD", str(job.workspace))}).is_green
    assert job.is_deployed()


def test_a_folder_whose_name_ends_alike_is_another_one(job) -> None:
    write(job.workspace / "mydags", {"other.py": GOOD})
    assert job.run({"path": "mydags"}).is_green
    assert job.is_deployed("mydags")
    assert job.run({"path": "./mydags"}).outputs["unchanged"] == "true"
    assert job.run().is_green
    assert job.is_deployed("dags")


def test_only_a_folder_of_the_deployment_is_replaced(job) -> None:
    assert job.run().is_green
    write(job.workspace / "team", {"t.py": GOOD})
    assert job.run({"path": "team", "under": "team-a/"}).is_green
    assert paths_of(job) == {*DAGS, "team-a/t.py"}


def paths_of(job: Job) -> set[str]:
    version = job.current()["version"]
    body = json.loads(job.server.get(f"/{job.deployment}/dags/versions/{version}/files")[1])
    return {one["path"] for one in body["files"]}


# --- events: the content decides, whatever happened in git ------------------------------------------------------------


def detached(job: Job) -> None:
    git(job.workspace, "checkout", "-q", "--detach")


def shallow(job: Job) -> None:
    commit(job.workspace, "Another")
    upstream = job.workspace.parent / "upstream"
    job.workspace.rename(upstream)
    git(upstream.parent, "clone", "-q", "--depth", "1", upstream.as_uri(), "workspace")


def merge_of_a_pull_request(job: Job) -> None:
    git(job.workspace, "checkout", "-qb", "feature")
    write(job.workspace, {"dags/new.py": GOOD})
    commit(job.workspace, "Add new")
    git(job.workspace, "checkout", "-q", "main")
    git(job.workspace, "merge", "-q", "--no-ff", "-m", "Merge 1 into 2", "feature")
    detached(job)


def several_commits(job: Job) -> None:
    write(job.workspace, {"dags/new.py": GOOD})
    commit(job.workspace, "Add new")
    write(job.workspace, {"README.md": b"no DAG"})
    commit(job.workspace, "Write about it")


def force_push(job: Job) -> None:
    several_commits(job)
    git(job.workspace, "reset", "-q", "--hard", "HEAD~2")
    write(job.workspace, {"dags/a.py": GOOD + b"other"})
    commit(job.workspace, "Do it otherwise")


def new_branch(job: Job) -> None:
    git(job.workspace, "checkout", "-qb", "new")


def no_git(job: Job) -> None:
    subprocess.run(["rm", "-rf", job.workspace / ".git"], check=True)


EVENTS = {
    "new branch": (new_branch, "push"),
    "manual dispatch": (detached, "workflow_dispatch"),
    "schedule": (detached, "schedule"),
    "force push": (force_push, "push"),
    "pull request": (merge_of_a_pull_request, "pull_request"),
    "several commits": (several_commits, "push"),
    "fetch-depth 1": (shallow, "push"),
    "no git": (no_git, "repository_dispatch"),
}


@pytest.mark.parametrize(("change", "event"), EVENTS.values(), ids=EVENTS)
def test_every_event_deploys_the_content(job, change, event) -> None:
    change(job)
    done = job.run(GITHUB_EVENT_NAME=event)
    assert done.is_green, done.log
    assert job.is_deployed()
    if change is not no_git:
        line = git(job.workspace, "log", "-1", "--format=%s")
        assert job.newest()["description"] == f"{git(job.workspace, 'rev-parse', 'HEAD')[:7]} {line}"
