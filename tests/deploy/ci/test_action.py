"""The GitHub Action, run as the runner does it, against a real server: green only if the server has the content."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from action_jobs import BAD, DAGS, GOOD, assert_red, commit, git
from dagferry_core import __version__
from github_runner import MASKED, Done
from harness import Sidecar
from issuer import github_claims
from localtrees import write
from login_page import login_page

pytestmark = pytest.mark.slow


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_deploy_has_its_outputs_and_a_summary(job) -> None:
    write(job.workspace / "dags", {"helper.py": b"def (\n"})
    done = job.run()
    assert done.is_green, done.log
    assert job.is_deployed()
    current = job.current()
    [warning] = done.outputs["warnings"].splitlines()
    assert done.outputs == {
        "version": current["version"],
        "digest": current["digest"],
        "sequence": str(current["sequence"]),
        "unchanged": "false",
        "added": "6",
        "changed": "0",
        "removed": "0",
        "warnings": warning,
        "live": "",
        "parsed": "",
        "import-errors": "",
    }
    assert done.warnings() == [warning]
    assert "helper.py" in warning
    assert done.summary.startswith(f"### Deployed to <code>{job.deployment}</code>\n")
    assert "6 added, 0 changed, 0 removed" in done.summary.replace("&#44;", ",")
    assert "<pre>\nA  a.py\nA  b.py\n" in done.summary
    assert "Warnings:" in done.summary
    assert "Whether it is live in every pod was not waited for" in done.summary
    assert done.errors() == []


def test_the_same_content_is_green_and_says_unchanged(job) -> None:
    first = job.run()
    commit(job.workspace, "Something else")
    again = job.run()
    assert again.is_green
    assert (first.outputs["unchanged"], again.outputs["unchanged"]) == ("false", "true")
    assert again.outputs["version"] == first.outputs["version"] == job.current()["version"]
    assert again.summary.startswith("### Unchanged:")
    assert "has exactly this content already" in again.log


def test_the_token_is_masked_and_the_commands_are_the_ones_that_are_meant(job) -> None:
    write(job.workspace / "dags", {"helper.py": b"def (\n"})
    done = job.run()
    assert job.place.deploy not in done.log
    assert done.commands == ["add-mask", "stop-commands", "resume", "warning"]
    leaked = job.run({"message": job.place.deploy, "path": job.place.deploy})
    assert job.place.deploy not in leaked.log
    assert MASKED in leaked.log


def test_the_token_of_the_comment_is_for_the_comment_alone(job, tmp_path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "dagferry"
    program.write_text(f'#!/bin/sh\nenv >>"{tmp_path}/seen"\nexec "{Path(sys.executable).parent}/dagferry" "$@"\n')
    program.chmod(0o755)
    path = f"{programs}:{job.runner.environment['PATH']}"
    # A variable that is in the environment already stays in it, with what it is set to.
    assert job.run({"comment": "true"}, PATH=path, github_token="x", **job.pull_request()).is_green
    seen = (tmp_path / "seen").read_text()
    assert "DAGFERRY_TOKEN=" in seen
    assert job.runner.github_token not in seen
    assert len(job.place.github.comments) == 1


# --- who asks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyless(job) -> Callable[..., Done]:
    """Run the job without a token, with its own identity; the claims are those of its token."""

    def run(inputs: Mapping[str, str] | None = None, **claims: Any) -> Done:
        api = job.place.github
        api.identity = lambda: job.place.issuer.token(**github_claims(**claims))
        return job.run({"token": "", **(inputs or {})}, **api.environment())

    return run


def test_without_a_token_the_job_is_its_own_identity(job, keyless) -> None:
    done = keyless()
    assert done.is_green, done.log
    assert job.is_deployed()
    assert job.newest()["actor"].startswith("github:repo:acme@1/dags@123:ref:refs/heads/main")
    assert "add-mask" not in done.commands


def test_a_token_is_used_before_the_identity(job, keyless) -> None:
    assert keyless({"token": job.place.deploy}).is_green
    assert job.newest()["actor"].startswith("token:")


@pytest.mark.parametrize(
    "claims", [{"ref": "refs/heads/x"}, {"repository_id": "9"}, {"ref": "refs/heads/other"}, {"exp": 1}, {"aud": "x"}]
)
def test_an_identity_that_no_rule_covers_is_red(job, keyless, claims) -> None:
    assert_red(keyless(**claims))
    assert not job.current()["version"]


def test_a_token_that_does_not_cover_the_deployment_is_red(job) -> None:
    assert_red(job.run({"token": job.place.elsewhere}))
    assert_red(job.run({"token": job.place.deploy + "x"}))
    assert_red(job.run({"token": "two words"}), "is not a token")
    assert not job.is_deployed()


def test_without_a_token_and_an_identity_the_error_says_what_to_add(job) -> None:
    assert_red(job.run({"token": ""}), "Let the job ask for a token: permissions: { id-token: write }.")


# --- what the gates refuse --------------------------------------------------------------------------------------------


def test_a_dag_that_does_not_parse_is_red_at_its_line(job) -> None:
    write(job.workspace / "dags", {"sub/broken.py": GOOD + b"\n1 = 2\n"})
    done = job.run()
    assert_red(done, "DAG files do not parse: 1 error.")
    [general, at_the_file] = done.annotations
    assert general.properties == {"title": "Dagferry"}
    assert (at_the_file.properties["file"], at_the_file.properties["line"]) == ("dags/sub/broken.py", "3")
    assert int(at_the_file.properties["col"]) > 0
    assert "sub/broken.py:3:" in done.summary
    assert not job.is_deployed()


def test_so_is_one_that_the_server_refuses(job) -> None:
    # This machine knows only that some Python may parse it; the server's Airflow runs on 3.12.
    write(job.workspace / "team", {"dags/sub/broken.py": GOOD + b"t'{x}'\n"})
    done = job.run({"path": "team", "under": "team-a"})
    assert_red(done)
    assert job.run({"path": "team", "check": "only"}).is_green
    [_, at_the_file] = done.annotations
    assert (at_the_file.properties["file"], at_the_file.properties["line"]) == ("team/dags/sub/broken.py", "2")


def test_the_file_is_the_one_in_the_repository(job) -> None:
    checkout = write(job.workspace / "checkout", {"project/shared/broken.py": BAD})
    git(checkout, "init", "-q")
    (checkout / "project" / "dags").symlink_to("shared")
    done = job.run({"path": "checkout/project"})
    assert_red(done)
    assert done.annotations[1].properties["file"] == "project/shared/broken.py"


def test_of_many_errors_some_are_at_files_and_all_in_the_summary(job) -> None:
    write(job.workspace / "dags", {f"broken{number:02}.py": BAD for number in range(15)})
    done = job.run()
    assert_red(done, "15 errors")
    assert len(done.annotations) == 10
    assert done.summary.count("broken") == 15


def test_check_refuses_before_anything_is_sent_and_override_goes_on(job) -> None:
    assert job.run({"override": "true", "token": job.place.override}).is_green
    write(job.workspace / "dags", {"broken.py": BAD})
    version = job.current()["version"]
    assert_red(job.run({"check": "true"}), "do not parse")
    assert job.current()["version"] == version
    done = job.run({"check": "true", "override": "true", "token": job.place.override})
    assert done.is_green, done.log
    assert job.is_deployed()
    # Not sent again, so deploy alone does not check it again.
    assert job.run().outputs["unchanged"] == "true"
    assert_red(job.run({"check": "true"}), "do not parse")


def test_check_only_needs_no_server_and_no_credentials(job) -> None:
    nowhere = {"server": "", "deployment": "", "token": "", "check": "only"}
    done = job.run(nowhere)
    assert done.is_green, done.log
    assert done.outputs["digest"] == job.digest()
    assert done.outputs["version"] == ""
    assert done.summary.startswith("### Checked")
    assert "Nothing was deployed" in done.summary
    assert not job.current()["version"]
    write(job.workspace / "dags", {"broken.py": BAD})
    done = job.run(nowhere)
    assert_red(done, "do not parse")
    assert done.annotations[1].properties["file"] == "dags/broken.py"


def test_a_dry_run_says_what_would_change_and_deploys_nothing(job) -> None:
    done = job.run({"dry-run": "true", "wait": "60s", "undo-on-failure": "true"})
    assert done.is_green, done.log
    assert done.outputs["added"] == str(len(DAGS))
    assert done.summary.startswith("### This would change")
    assert "Nothing was deployed" in done.summary
    assert not job.current()["version"]


def test_too_many_removals_are_red_until_they_are_overridden(job) -> None:
    assert job.run().is_green
    for name in "abcd":
        (job.workspace / "dags" / f"{name}.py").unlink()
    done = job.run()
    assert_red(done)
    assert "DAG files that would be removed:" in done.summary
    assert "\na.py\nb.py\n" in done.summary
    assert not job.is_deployed()
    assert_red(job.run({"override": "true"}))
    assert job.run({"override": "true", "token": job.place.override}).is_green
    assert job.is_deployed()


def test_a_freeze_is_red_until_it_is_overridden(job) -> None:
    body = json.dumps({"reason": "the year-end close <b>"}).encode()
    path = f"/{job.deployment}/dags/freeze"
    status, _ = job.server.request(path, body, Content_Type="application/json")
    assert status == 200
    assert_red(job.run(), "the year-end close <b>")
    assert not job.is_deployed()
    assert job.run({"override": "true", "token": job.place.override}).is_green
    assert job.is_deployed()


# --- what is not the server -------------------------------------------------------------------------------------------

PAGES = {
    "login page": (200, {"Content-Type": "text/html"}, b"<html>Log in</html>"),
    "empty": (200, {}, b""),
    "other JSON": (200, {"Content-Type": "application/json"}, b'{"version": "1", "digest": "2", "unchanged": true}'),
    "redirect": (302, {"Location": "/login"}, b""),
    "error page": (502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>"),
    "not found": (404, {"Content-Type": "text/html"}, b"<h1>Not found</h1>"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_is_not_the_server_is_red(job, page) -> None:
    with login_page(*page) as url:
        assert_red(job.run({"server": url}))
    assert not job.is_deployed()


# --- live -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(job, tmp_path) -> Iterator[Sidecar]:
    token = tmp_path / "pod-token"
    token.write_text(job.place.sync)
    flags = ("--deployment", job.deployment, "--token-file", str(token))
    sidecar = Sidecar(job.server.url, tmp_path / "pod-0", *flags)
    yield sidecar
    sidecar.process.send_signal(signal.SIGCONT)
    sidecar.stop(None)


def test_it_waits_until_every_pod_has_it_and_names_those_that_do_not(job, pod) -> None:
    del job.inputs["wait"]
    done = job.run()
    assert done.is_green, done.log
    assert pod.live == done.outputs["version"]
    assert done.outputs["live"] == "true"
    assert "It is live in every pod." in done.summary
    pod.process.send_signal(signal.SIGSTOP)
    write(job.workspace / "dags", {"a.py": GOOD + b"a = 1\n"})
    late = job.run({"wait": "2s"})
    assert_red(late, "is not live in every pod", "pod-0")
    assert late.outputs["live"] == "false"
    assert late.outputs["version"] == job.current()["version"]
    assert "not known to be live in every pod" in late.summary
    write(job.workspace / "dags", {"a.py": GOOD + b"a = 2\n"})
    undone = job.run({"wait": "2s", "undo-on-failure": "true"})
    assert_red(undone, "pod-0")
    assert "It was undone" in undone.summary
    assert job.newest()["kind"] == "rollback"


def test_it_is_red_if_no_pod_is_known(job) -> None:
    done = job.run({"wait": "1s"})
    assert_red(done, "no pod is known")
    assert job.is_deployed()
    assert_red(job.run({"wait": "1s"}), "no pod is known")


# --- the comment ------------------------------------------------------------------------------------------------------


def test_a_pull_request_has_one_comment_for_each_deployment(job) -> None:
    comments = job.place.github.comments
    event = job.pull_request()
    assert job.run({"comment": "true"}, **event).is_green
    write(job.workspace / "dags", {"a.py": BAD})
    assert_red(job.run({"comment": "true"}, **event))
    [one] = comments
    assert "failed" in one["body"]
    assert "a.py:2" in one["body"]
    assert "https://github.com/acme/dags/actions/runs/77" in one["body"]
    other = f"d{next(job.place.names)}"
    write(job.workspace / "dags", {"a.py": GOOD})
    assert job.run({"comment": "true", "deployment": other}, **event).is_green
    assert len(comments) == 2
    assert f"Deployed to <code>{other}</code>" in comments[1]["body"]


def test_without_being_asked_for_there_is_none(job) -> None:
    asked = len(job.place.github.asked)
    assert job.run(**job.pull_request()).is_green
    assert len(job.place.github.asked) == asked


def test_a_comment_that_fails_is_a_warning_and_changes_no_result(job) -> None:
    job.runner.github_token = "ghs_ofafork"
    job.place.github.tokens["ghs_ofafork"] = None
    event = job.pull_request()
    done = job.run({"comment": "true"}, **event)
    assert done.is_green
    assert job.is_deployed()
    assert "HTTP Error 403" in done.warnings()[-1]
    assert "pull-requests: write" in done.warnings()[-1]
    write(job.workspace / "dags", {"a.py": BAD})
    assert_red(job.run({"comment": "true"}, **event))
    done = job.run({"comment": "true"}, GITHUB_EVENT_PATH=os.devnull)
    assert "does not run for a pull request" in done.warnings()[-1]


# --- what it is started with ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", ["exit 0", "echo '{}'", "echo pip is broken >&2; exit 1", "echo '{\"deployed\": {}}'"]
)
def test_a_dagferry_that_does_nothing_is_red(job, tmp_path, script) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    asked = f'if [ "$1" = --version ]; then echo "dagferry {__version__}"; exit; fi'
    (programs / "dagferry").write_text(f"#!/bin/sh\n{asked}\n{script}\n")
    (programs / "dagferry").chmod(0o755)
    assert_red(job.run(PATH=f"{programs}:{job.runner.environment['PATH']}"))


def test_a_python_with_airflow_imports_before_anything_is_sent(job, tmp_path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    asked = tmp_path / "asked"
    (programs / "dagferry").write_text(
        f"#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "dagferry {__version__}"; exit; fi\n'
        f'echo "$*" >>"{asked}"\n'
        f"""case $1 in check) echo '{{"digest": "d"}}' ;; *) exit 3 ;; esac\n"""
    )
    (programs / "dagferry").chmod(0o755)
    python = {"import-python": "/opt/air flow/bin/python"}
    path = f"{programs}:{job.runner.environment['PATH']}"
    assert not job.run({**python, "wait-parsed": "5m"}, PATH=path).is_green
    assert job.run({**python, "check": "only"}, PATH=path).is_green
    assert not job.run({**python, "override": "true"}, PATH=path).is_green
    check = "check --json --import --import-python=/opt/air flow/bin/python -- dags"
    assert asked.read_text().splitlines() == [
        check,
        "deploy --json --wait-parsed=5m -- dags",
        check,
        "deploy --json --skip-gate --skip-import-check --allow-removals --override-freeze -- dags",
    ]


def test_without_input_server_the_variables_and_the_file_decide(job) -> None:
    nothing = {"server": "", "deployment": "", "token": ""}
    variables = {"DAGFERRY_SERVER": job.server.url, "DAGFERRY_DEPLOYMENT": job.deployment}
    done = job.run(nothing, **variables, DAGFERRY_TOKEN=job.place.deploy)
    assert done.is_green, done.log
    assert job.is_deployed()
    write(
        job.workspace,
        {"dagferry.toml": b'server = "%s"\ndeployment = "%s"\n' % tuple(map(str.encode, variables.values()))},
    )
    done = job.run({**nothing, "token": job.place.deploy})
    assert done.is_green, done.log
    assert done.outputs["unchanged"] == "true"
    (job.workspace / "dagferry.toml").unlink()
    assert_red(job.run(nothing), "No server was given.")
