"""The credentials and CI jobs in docs/how-to can be used as printed, and the threat model names tests that exist."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dagferry_server.auth.issuers import parse_issuers
from dagferry_server.auth.tokens import parse_tokens
from dagferry_server.http.openapi import WHO_ERRORS

HOME = Path(__file__).parents[2]
CREDENTIALS = (HOME / "docs" / "how-to" / "set-up-credentials.md").read_text()
JOBS = (HOME / "docs" / "how-to" / "deploy-from-ci.md").read_text()
THREATS = (HOME / "docs" / "explanation" / "threat-model.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", CREDENTIALS, re.DOTALL)
ISSUERS = [block for block in BLOCKS if "[[issuers]]" in block]
TOKENS = [block for block in BLOCKS if "tokens = [" in block]


def test_the_tokens_files_are_taken() -> None:
    plain, with_users = TOKENS
    for number in range(2):
        plain = plain.replace("…", f"{number}" * 64, 1)
    assert [token.name for token in parse_tokens(plain.encode(), with_users=False).tokens] == ["ci", "pods"]
    assert len(parse_tokens(with_users.encode(), with_users=True).users) == 2


def test_the_issuers_are_taken_and_every_rule_binds_who_and_which_branch_or_environment() -> None:
    issuers = parse_issuers("\n".join(ISSUERS).encode())
    assert {issuer.kind for issuer in issuers} == {"github", "gitlab", "kubernetes"}
    for issuer in issuers:
        for rule in issuer.rules:
            if issuer.kind == "kubernetes":
                assert set(rule.claims) == {"sub"}
            else:
                assert set(rule.claims) & {"ref", "environment"}
                assert set(rule.claims) & {"repository_id", "project_id"}


def test_the_jobs_ask_for_the_audience_of_the_issuers_and_print_why_they_are_refused(tmp_path) -> None:
    audiences = {issuer.kind: issuer.audience for issuer in parse_issuers("\n".join(ISSUERS).encode())}
    *_, github, gitlab = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", JOBS, re.DOTALL))
    [run] = [step["run"] for step in github["steps"] if "run" in step]
    assert f"&audience={audiences['github']}" in run
    job = gitlab["deploy-dags"]
    assert job["id_tokens"] == {"DAGFERRY_TOKEN": {"aud": audiences["gitlab"]}}
    # A curl that asks for nothing and is refused.
    curl = tmp_path / "curl"
    curl.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        '*--fail-with-body*"Bearer secret"*/prod/dags/upload) echo \'{"code":"forbidden"}\'; exit 22;;\n'
        """*'&audience=dagferry') echo '{"value": "secret"}';;\n*) exit 99;;\nesac\n"""
    )
    curl.chmod(0o755)
    (tmp_path / "jq").write_text("#!/bin/sh\ncat >/dev/null\necho secret\n")
    (tmp_path / "jq").chmod(0o755)
    (tmp_path / "dags").mkdir()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DAGFERRY_TOKEN": "secret"}
    for script in (run, "\n".join(job["script"])):
        ended = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
        )
        assert (ended.returncode, ended.stdout) == (22, '{"code":"forbidden"}\n'), ended.stderr


def test_the_jobs_with_the_command_have_the_identity_that_it_looks_for() -> None:
    audiences = {issuer.kind: issuer.audience for issuer in parse_issuers("\n".join(ISSUERS).encode())}
    github, gitlab, *_ = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", JOBS, re.DOTALL))
    assert github["permissions"]["id-token"] == "write"
    job = gitlab["deploy-dags"]
    assert job["id_tokens"] == {"DAGFERRY_ID_TOKEN": {"aud": audiences["gitlab"]}}
    assert github["steps"][-1]["run"] == job["script"][-1]
    assert job["script"][-1].startswith("dagferry deploy --server https://")


@pytest.mark.parametrize("error", WHO_ERRORS, ids=lambda error: error.code)
def test_the_errors_of_callers_are_in_the_table(error) -> None:
    assert f"`{error.code}`" in (HOME / "docs" / "reference" / "errors.md").read_text()


def test_every_threat_names_a_test_that_exists() -> None:
    rows = [line for line in THREATS.splitlines() if line.startswith("| ") and "`tests/" in line]
    assert len(rows) >= 25
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", THREATS):
        assert (HOME / path).exists(), path
        assert not name or f"def {name}(" in (HOME / path).read_text(), f"{path}::{name}"
    table = THREATS.partition("## Threats")[2].partition("\n## ")[0]
    for line in table.splitlines():
        if line.startswith("| ") and not line.startswith(("| threat", "| ---", "|---")):
            assert "`tests/" in line, line
