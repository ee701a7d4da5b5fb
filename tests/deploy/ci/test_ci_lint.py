"""What linters and schemas say of the templates in ``deploy/ci`` and of the examples in the pages about CI."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci_jobs import blocks, read_jenkinsfile
from dagferry_server.auth.issuers import Issuer, parse_issuers
from deployfiles import HOME, tool

TEMPLATES = HOME / "deploy" / "ci"
PAGES = HOME / "docs" / "how-to"
GITLAB = ("vendor.gitlab-ci", "--data-transform", "gitlab-ci")
SCHEMAS = {
    ".circleci/config.yml": ("vendor.circle-ci",),
    # Its patterns are no valid ones for Unicode.
    "azure-pipelines.yml": (
        "vendor.azure-pipelines", "--data-transform", "azure-pipelines", "--regex-variant", "nonunicode",
    ),
    "bitbucket-pipelines.yml": ("vendor.bitbucket-pipelines",),
}  # fmt: skip
OTHER = {text.splitlines()[0].removeprefix("# "): text for text in blocks(PAGES / "deploy-from-other-ci.md", "yaml")}
BUILDSPEC = {
    "": {"version", "run-as", "env", "proxy", "batch", "phases", "reports", "artifacts", "cache"},
    "env": {"shell", "variables", "parameter-store", "exported-variables", "secrets-manager", "git-credential-helper"},
    "phases": {"install", "pre_build", "build", "post_build"},
    "phase": {"run-as", "on-failure", "on-success", "runtime-versions", "commands", "finally"},
}
"""The keys of a buildspec by AWS' reference of it."""


def is_valid(text: str, schema: tuple[str, ...], folder: Path) -> bool:
    """Return whether a schema allows a file."""
    path = folder / "file.yml"
    path.write_text(text)
    own = str(Path(sys.executable).parent / "check-jsonschema")
    command = [*tool([own], ["check-jsonschema"]), "--builtin-schema", *schema, path]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- GitLab

OF_GITLAB = {
    "template": (TEMPLATES / "gitlab" / "deploy.yml").read_text(),
    **{f"page-{number}": text for number, text in enumerate(blocks(PAGES / "deploy-from-gitlab.md", "yaml"))},
}


@pytest.mark.slow
@pytest.mark.parametrize("text", OF_GITLAB.values(), ids=OF_GITLAB)
def test_gitlab_s_schema_allows(text, tmp_path) -> None:
    assert is_valid(text, GITLAB, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("aud: dagferry", "audience: dagferry"), ("action: start", "action: begin"), ("resource_group", "resource-group")],
    ids=["id_tokens", "action", "key"],
)
def test_gitlab_s_schema_would_notice(right, wrong, tmp_path) -> None:
    text = OF_GITLAB["template"]
    assert right in text
    assert not is_valid(text.replace(right, wrong), GITLAB, tmp_path)


# --- CircleCI, Azure DevOps, Bitbucket, CodeBuild


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_allows_the_example_of(name, tmp_path) -> None:
    assert is_valid(OTHER[name], SCHEMAS[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (".circleci/config.yml", "docker:", "dockers:"),
        ("azure-pipelines.yml", "runOnce", "runTwice"),
        ("bitbucket-pipelines.yml", "max-time: 15", "max-time: soon"),
    ],
    ids=SCHEMAS,
)
def test_the_schema_would_notice_a_mistake_in(name, right, wrong, tmp_path) -> None:
    assert right in OTHER[name]
    assert not is_valid(OTHER[name].replace(right, wrong), SCHEMAS[name], tmp_path)


def unknown_keys(spec: dict[str, Any]) -> set[str]:
    found = set(spec) - BUILDSPEC[""]
    found |= set(spec["env"]) - BUILDSPEC["env"]
    found |= set(spec["phases"]) - BUILDSPEC["phases"]
    return found.union(*(set(phase) - BUILDSPEC["phase"] for phase in spec["phases"].values()))


def test_the_buildspec_has_the_keys_that_aws_documents() -> None:
    spec = yaml.safe_load(OTHER["buildspec.yml"])
    assert unknown_keys(spec) == set()
    assert spec["version"] == 0.2
    [phase] = spec["phases"].values()
    assert all(isinstance(line, str) for line in phase["commands"]), "YAML reads a line with ': ' as something else"
    assert unknown_keys({**spec, "phases": {"built": {"command": []}}}) == {"built", "command"}


def test_every_example_has_a_linter() -> None:
    assert set(OTHER) == {*SCHEMAS, "buildspec.yml"}


@pytest.mark.parametrize("name", OTHER)
def test_an_example_runs_the_script_and_deploys_one_after_the_other(name) -> None:
    page = (PAGES / "deploy-from-other-ci.md").read_text()
    assert "sh deploy/ci/deploy.sh --wait=5m" in OTHER[name]
    serial = {
        ".circleci/config.yml": "serial-group: << pipeline.project.slug >>/dags-prod",
        "azure-pipelines.yml": "lockBehavior: sequential",
        "bitbucket-pipelines.yml": "concurrency-group: dags-prod",
        "buildspec.yml": "limit of concurrent builds",
    }
    assert serial[name] in (OTHER[name] if name != "buildspec.yml" else page)


# --- Jenkins


@pytest.mark.slow
def test_groovy_reads_the_jenkinsfile_and_the_parts_that_the_page_shows() -> None:
    [pipeline] = read_jenkinsfile((TEMPLATES / "jenkins" / "Jenkinsfile").read_text())["children"]
    assert pipeline["name"] == "pipeline"
    for text in blocks(PAGES / "deploy-from-jenkins.md", "groovy"):
        [options] = read_jenkinsfile(text)["children"]
        assert [one["name"] for one in options["children"]] == ["lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"), [("agent {", "agent"), ("'DAGFERRY_TOKEN'", "DAGFERRY_TOKEN")], ids=["brace", "quote"]
)
def test_groovy_would_notice(right, wrong) -> None:
    text = (TEMPLATES / "jenkins" / "Jenkinsfile").read_text()
    assert right in text
    with pytest.raises(AssertionError):
        read_jenkinsfile(text.replace(right, wrong))


def test_no_text_of_others_and_no_secret_is_put_into_a_command_by_groovy() -> None:
    text = (TEMPLATES / "jenkins" / "Jenkinsfile").read_text()
    assert '"""' not in text
    assert not re.search(r'sh\s*\(?\s*"', text)


# --- identities


def issuer(page: str, name: str) -> Issuer:
    """The issuer of this name that a page shows, as the server reads it."""
    found = parse_issuers("\n".join(blocks(PAGES / f"{page}.md", "toml")).encode())
    [one] = [one for one in found if one.name == name]
    return one


CIRCLE = "org/ORGANIZATION-ID/project/PROJECT-ID/user"
CLAIMS: dict[str, tuple[str, dict[str, Any]]] = {
    "gitlab": (
        "deploy-from-gitlab",
        {
            "sub": "project_path:acme/dags:ref_type:branch:ref:main", "project_id": "4711", "ref": "main",
            "ref_type": "branch", "ref_protected": "true", "environment": "prod",
        },
    ),
    "jenkins": ("deploy-from-jenkins", {"sub": "https://jenkins.example.com/job/dags/job/main/", "build_number": 7}),
    "circleci": (
        "deploy-from-other-ci",
        {
            "sub": f"{CIRCLE}/ANN-ID", "oidc.circleci.com/project-id": "PROJECT-ID",
            "oidc.circleci.com/vcs-ref": "refs/heads/main", "oidc.circleci.com/vcs-origin": "github.com/acme/dags",
            "oidc.circleci.com/ssh-rerun": False,
        },
    ),
    "aws": ("deploy-from-other-ci", {"sub": "arn:aws:iam::123456789012:role/deploy-dags-prod"}),
}  # fmt: skip
"""By issuer: the page, and what a token of a job on main has in it, by the documentation of each CI."""
WRONG: dict[str, list[dict[str, Any]]] = {
    "gitlab": [
        {"project_id": "4712"}, {"ref": "feature"}, {"ref_type": "tag"}, {"ref_protected": "false"},
        {"environment": "staging"}, {"environment": None},
    ],
    "jenkins": [
        {"sub": "https://jenkins.example.com/job/dags/job/PR-7/"}, {"sub": "https://jenkins.example.com/job/other/"},
    ],
    "circleci": [
        {"sub": f"{CIRCLE}/EVE-ID"}, {"oidc.circleci.com/vcs-ref": "refs/heads/feature"},
        {"oidc.circleci.com/vcs-origin": "github.com/eve/dags"}, {"oidc.circleci.com/ssh-rerun": True},
        {"oidc.circleci.com/vcs-ref": None},
    ],
    "aws": [{"sub": "arn:aws:iam::123456789012:role/other"}, {"sub": "arn:aws:iam::999:role/deploy-dags-prod"}],
}  # fmt: skip


def test_every_issuer_of_the_pages_is_tested() -> None:
    pages = {page for page, _ in CLAIMS.values()}
    shown = [parse_issuers("\n".join(blocks(PAGES / f"{page}.md", "toml")).encode()) for page in pages]
    assert sorted(one.name for found in shown for one in found) == sorted(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_job_on_main_may_deploy_to_prod_and_nothing_else(name) -> None:
    page, claims = CLAIMS[name]
    found = issuer(page, name)
    assert found.audience == "dagferry"
    [rule] = found.rules
    assert rule.allows(claims)
    assert (set(rule.grant.scopes), list(rule.grant.deployments)) == ({"deploy"}, ["prod"])


@pytest.mark.parametrize(
    ("name", "change"),
    [(name, change) for name, changes in WRONG.items() for change in changes],
    ids=[f"{name}-{number}" for name, changes in WRONG.items() for number in range(len(changes))],
)
def test_another_job_may_not(name, change) -> None:
    page, claims = CLAIMS[name]
    [rule] = issuer(page, name).rules
    assert not rule.allows({**claims, **change})


def test_the_overview_has_every_variable_of_the_script() -> None:
    names = set(re.findall(r"\bDAGFERRY_[A-Z]+\b", (TEMPLATES / "deploy.sh").read_text()))
    assert {"DAGFERRY_VENV", "DAGFERRY_SERVER"} <= names
    overview = (PAGES / "deploy-from-ci.md").read_text()
    assert all(f"`{name}`" in overview for name in names)
