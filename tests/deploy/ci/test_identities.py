"""The rules in deploy/ci/github/stories/issuers.toml, on a real server with tokens as GitHub issues them.

Each workflow may do exactly its part; another branch, environment, workflow, event or repository, and a fork, nothing.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from harness import Server, pack
from issuer import LocalIssuer, issuer_in_a_thread
from workflows import HOME, read

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

pytestmark = pytest.mark.slow

STORIES = HOME / "deploy" / "ci" / "github" / "stories"
REPOSITORY_ID = "123456"
WORKFLOW_FILES = {
    **dict.fromkeys(
        (
            "one-branch",
            "branches",
            "two-repositories-dags",
            "deploy-dags",
            "image-and-dags",
            "test-dags",
        ),
        "deploy-dags.yml",
    ),
    "promote": "promote.yml",
    "preview": "preview.yml",
    "preview-cleanup": "preview-cleanup.yml",
}
"""The name that each workflow has in a repository, where it asks for an identity: its rule names it."""


class Site(NamedTuple):
    server: Server
    issuer: LocalIssuer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("identities")
    with issuer_in_a_thread() as issuer:
        rules = (STORIES / "issuers.toml").read_text()
        assert rules.count("https://token.actions.githubusercontent.com") == 1
        file = folder / "issuers.toml"
        file.write_text(rules.replace("https://token.actions.githubusercontent.com", issuer.url))
        server = Server(folder / "data", "--issuers-file", str(file), "--deployments", "prod,staging")
        yield Site(server.ready(), issuer)
        server.stop()


def claims(
    workflow: str,
    event: str = "push",
    ref: str = "refs/heads/main",
    environment: str = "",
    *,
    repository: str = "acme/airflow",
    repository_id: str = REPOSITORY_ID,
) -> dict[str, Any]:
    """What GitHub puts into the token of a job: https://docs.github.com/actions/reference/security/oidc."""
    owner = repository.partition("/")[0]
    what = "pull_request" if event == "pull_request" else f"ref:{ref}"
    if environment:
        what = f"environment:{environment}"
    workflow_ref = f"{repository}/.github/workflows/{workflow}@{ref}"
    found = {
        "jti": "6f4e2b0c-8f3d-4a56-a7a0-0d2a5c1f3b11",
        "sub": f"repo:{repository}:{what}",
        "environment": environment or None,
        "ref": ref,
        "ref_type": "tag" if ref.startswith("refs/tags/") else "branch",
        "ref_protected": "true" if ref == "refs/heads/main" else "false",
        "sha": "7d1c0f0f4f0b4d7a9c6f1d7a5f2a7d3b1c9e8f60",
        "repository": repository,
        "repository_id": repository_id,
        "repository_owner": owner,
        "repository_owner_id": "65",
        "repository_visibility": "private",
        "enterprise": "acme",
        "run_id": "77",
        "run_number": "10",
        "run_attempt": "2",
        "runner_environment": "github-hosted",
        "actor": "octocat",
        "actor_id": "12",
        "workflow": "Deploy DAGs",
        "workflow_ref": workflow_ref,
        "workflow_sha": "7d1c0f0f4f0b4d7a9c6f1d7a5f2a7d3b1c9e8f60",
        "job_workflow_ref": workflow_ref,
        "job_workflow_sha": "7d1c0f0f4f0b4d7a9c6f1d7a5f2a7d3b1c9e8f60",
        "head_ref": "feature" if event.startswith("pull_request") else "",
        "base_ref": "main" if event.startswith("pull_request") else "",
        "event_name": event,
    }
    return {name: value for name, value in found.items() if value is not None}


def allowed(site: Site, found: dict[str, Any]) -> set[str]:
    """What a token with these claims may do, of all that any of the workflows does, found out by doing it."""
    token = {"Authorization": f"Bearer {site.issuer.token(**found)}"}
    can = set()
    for name in ("prod", "staging", "preview-a-0123456789ab", "other"):
        for method in ("POST", "DELETE"):
            status, _ = site.server.request(f"/-/deployments/{name}", method=method, **token)
            if status == 200:
                can.add(f"{'create' if method == 'POST' else 'delete'} {name}")
            if method == "POST":
                status, _ = site.server.request(f"/{name}/dags/upload", pack({"a.py": b"a = 1\n"}), **token)
                if status == 200:
                    can.add(f"deploy {name}")
                if site.server.get(f"/{name}/dags/deploys", **token)[0] == 200:
                    can.add(f"read {name}")
                body = json.dumps({"reason": "x"}).encode()
                if (
                    site.server.request(f"/{name}/dags/freeze", body, Content_Type="application/json", **token)[0]
                    == 200
                ):
                    can.add(f"freeze {name}")
                    site.server.request(f"/{name}/dags/freeze", method="DELETE", **token)
                if site.server.get(f"/{name}/dags/current", **token)[0] == 200:
                    can.add(f"sync {name}")
    return can


PROD = {"deploy prod", "read prod"}
STAGING = {"deploy staging", "read staging"}
PREVIEW = {f"{what} preview-a-0123456789ab" for what in ("create", "delete", "deploy", "read", "freeze")}
CLEANUP = {f"{what} preview-a-0123456789ab" for what in ("create", "delete", "freeze")}
DEVELOP = "refs/heads/develop"

MAY = {
    "deploy-dags": (claims("deploy-dags.yml", environment="prod"), PROD),
    "deploy-dags-by-hand": (claims("deploy-dags.yml", "workflow_dispatch", environment="prod"), PROD),
    "branches-develop": (claims("deploy-dags.yml", ref=DEVELOP, environment="staging"), STAGING),
    "promote-staging": (claims("promote.yml", environment="staging"), STAGING),
    "promote-prod": (claims("promote.yml", environment="prod"), PROD | {"read staging"}),
    "preview-push": (claims("preview.yml", ref="refs/heads/feature/x"), PREVIEW),
    "preview-delete": (claims("preview.yml", "delete"), PREVIEW),
    "preview-cleanup": (claims("preview-cleanup.yml", "schedule"), CLEANUP),
}


@pytest.mark.parametrize("case", MAY)
def test_each_workflow_may_do_exactly_its_part(site, case) -> None:
    found, may = MAY[case]
    assert allowed(site, found) == may


NOTHING = {
    "image-workflow": claims("build-image.yml", environment="image"),
    "image-workflow-that-takes-prod": claims("build-image.yml", environment="prod"),
    "another-workflow-that-takes-prod": claims("lint.yml", environment="prod"),
    "no-environment": claims("deploy-dags.yml"),
    "environment-of-the-image": claims("deploy-dags.yml", environment="image"),
    "environment-of-another-case": claims("deploy-dags.yml", environment="Prod"),
    "another-branch": claims("deploy-dags.yml", ref="refs/heads/feature", environment="prod"),
    "branch-that-ends-in-main": claims("deploy-dags.yml", ref="refs/heads/x/refs/heads/main", environment="prod"),
    "develop-to-prod": claims("deploy-dags.yml", ref=DEVELOP, environment="prod"),
    "main-to-staging-by-the-wrong-workflow": claims("deploy-dags.yml", environment="staging"),
    "tag-main": claims("deploy-dags.yml", ref="refs/tags/main", environment="prod"),
    "pull-request": claims("deploy-dags.yml", "pull_request", "refs/pull/5/merge"),
    "pull-request-in-prod": claims("deploy-dags.yml", "pull_request", "refs/pull/5/merge", "prod"),
    "pull-request-target-in-prod": claims("deploy-dags.yml", "pull_request_target", environment="prod"),
    "schedule-in-prod": claims("deploy-dags.yml", "schedule", environment="prod"),
    "fork": claims("deploy-dags.yml", environment="prod", repository="mallory/airflow", repository_id="999"),
    "same-name-again": claims("deploy-dags.yml", environment="prod", repository_id="999"),
    "repository-of-the-image": claims("image.yml", environment="prod", repository="acme/image", repository_id="234567"),
    "preview-of-a-fork": claims(
        "preview.yml", ref="refs/heads/x", repository="mallory/airflow", repository_id="999"
    ),
    "preview-by-a-pull-request": claims("preview.yml", "pull_request", "refs/pull/5/merge"),
    "preview-by-pull-request-target": claims("preview.yml", "pull_request_target"),
    "preview-by-a-tag": claims("preview.yml", ref="refs/tags/x"),
    "preview-by-another-workflow": claims("lint.yml", ref="refs/heads/x"),
    "cleanup-by-a-push": claims("preview-cleanup.yml"),
    "staging-by-another-workflow": claims("lint.yml", ref=DEVELOP, environment="staging"),
    "staging-by-pull-request-target": claims("deploy-dags.yml", "pull_request_target", DEVELOP, "staging"),
    "promote-by-pull-request-target-to-staging": claims("promote.yml", "pull_request_target", environment="staging"),
    "promote-by-pull-request-target-to-prod": claims("promote.yml", "pull_request_target", environment="prod"),
    "promote-without-an-environment": claims("promote.yml"),
    "cleanup-on-a-branch": claims("preview-cleanup.yml", "workflow_dispatch", "refs/heads/x"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING)
def test_all_others_may_do_nothing(site, case) -> None:
    token = {"Authorization": f"Bearer {site.issuer.token(**NOTHING[case])}"}
    status, body = site.server.get("/-/whoami", **token)
    assert (status, "No rule for 'github' matches" in body.decode()) == (401, True)
    assert allowed(site, NOTHING[case]) == set()


def jobs() -> Iterator[tuple[str, str]]:
    for path in sorted(STORIES.glob("*.yml")):
        for name, job in read(path)["jobs"].items():
            if "id-token" in job["permissions"]:
                yield path.stem, name


@pytest.mark.parametrize(("story", "job"), list(jobs()))
def test_a_job_that_asks_for_an_identity_may_deploy_where_it_says_and_nowhere_else(site, story, job) -> None:
    """The claims are those that follow from the workflow itself, for each branch and event that starts it."""
    workflow = read(STORIES / f"{story}.yml")
    environment = workflow["jobs"][job].get("environment", "")
    branches = {"branches": ("main", "develop"), "preview": ("feature/x",)}.get(story, ("main",))
    events = {"preview-cleanup": "schedule", "preview": "delete" if job == "delete" else "push"}
    assert events.get(story, "push") in workflow["on"]
    for branch in branches:
        ref = "refs/heads/main" if job == "delete" else f"refs/heads/{branch}"
        if environment.startswith("${{"):
            assert environment == "${{ github.ref == 'refs/heads/main' && 'prod' || 'staging' }}"
            environment_here = "prod" if branch == "main" else "staging"
        else:
            environment_here = environment
        found = claims(WORKFLOW_FILES[story], events.get(story, "push"), ref, environment_here)
        deploys = {what for what in allowed(site, found) if what.startswith("deploy ")}
        wanted = f"deploy {environment_here}" if environment_here else "deploy preview-a-0123456789ab"
        assert deploys == (set() if story == "preview-cleanup" else {wanted})


PAGES = ["organize-repositories", "preview-deployments"]


@pytest.mark.parametrize("page", PAGES)
def test_the_rules_that_a_page_shows_are_those_that_are_tested(page) -> None:
    [tested] = tomllib.loads((STORIES / "issuers.toml").read_text())["issuers"]
    text = (HOME / "docs" / "how-to" / f"{page}.md").read_text()
    shown = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "issuers.rules" in block]
    assert shown
    for block in shown:
        [rule] = tomllib.loads(block)["issuers"]["rules"]
        same = [one for one in tested["rules"] if {**one, "claims": 0} == {**rule, "claims": 0}]
        assert any(one["claims"].keys() == rule["claims"].keys() for one in same)
        for claim, value in rule["claims"].items():
            assert any(value == one["claims"][claim] or value in one["claims"][claim] for one in same), claim
