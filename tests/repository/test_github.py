"""What GitHub reads is well formed, does what a contributor does by hand, and asks for no right it does not need."""

import re

import pytest
import yaml

from deployfiles import HOME

FOLDER = HOME / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (FOLDER / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def jobs(name: str) -> dict:
    return yaml.safe_load((FOLDER / "workflows" / name).read_text())["jobs"]


def commands(name: str) -> str:
    return "\n".join(step.get("run", "") for job in jobs(name).values() for step in job["steps"])


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yml")), ids=lambda path: path.name)
def test_it_is_yaml(path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_ci_calls_what_must_pass_before_a_change_lands() -> None:
    assert re.search(r"\.ci/run$", commands("ci.yml"), re.MULTILINE)
    # In YAML 1.1 the key "on" is a boolean.
    assert set(yaml.safe_load((FOLDER / "workflows" / "ci.yml").read_text())[True]) == {"push", "pull_request"}


def test_ci_has_the_history_that_the_previous_release_is_built_from() -> None:
    [checkout] = [
        step for job in jobs("ci.yml").values() for step in job["steps"] if "checkout" in step.get("uses", "")
    ]
    assert checkout["with"]["fetch-depth"] == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_secrets_and_only_the_rights_that_it_names(path) -> None:
    text = path.read_text()
    assert "secrets." not in text
    workflow = yaml.safe_load(text)
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        rights = job.get("permissions", workflow["permissions"])
        assert set(rights) <= (
            {"contents"} if path.name == "ci.yml" else {"contents", "id-token", "attestations", "packages"}
        )
        assert rights.get("contents", "read") == "read"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_name_their_version(path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_a_release_is_built_by_make_dist_and_published_without_a_token() -> None:
    release = jobs("release.yml")
    assert "make dist" in commands("release.yml")
    assert release["publish"]["needs"] == "build"
    assert release["publish"]["permissions"]["id-token"] == "write"
    assert "password" not in str(release["publish"])
    for dockerfile in HOME.glob("Dockerfile.*"):
        assert dockerfile.suffix[1:] in release["images"]["strategy"]["matrix"]["command"]
    assert "scripts/make_images.py --engine docker" in commands("release.yml")
    assert "--platforms linux/amd64,linux/arm64" in commands("release.yml")


def test_dependabot_looks_where_versions_are() -> None:
    updates = yaml.safe_load((FOLDER / "dependabot.yml").read_text())["updates"]
    found = {update["package-ecosystem"]: update["directory"] for update in updates}
    assert found == {"pip": "/requirements", "github-actions": "/", "docker": "/", "gomod": "/tests/deploy/actionlint"}
    assert list(HOME.glob("requirements/*.txt"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_what_github_asks_for(path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    for field in form["body"]:
        assert field["type"] in {"markdown", "textarea", "input"}
        assert ("value" if field["type"] == "markdown" else "label") in field["attributes"]
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(ids)) == len(ids) > 0


def test_the_links_are_those_of_the_project() -> None:
    for path in FOLDER.rglob("*.*"):
        for url in re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text()):
            assert url == "https://github.com/dagferry/dagferry", path
