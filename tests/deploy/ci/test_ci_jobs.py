"""The jobs in ``deploy/ci`` and in the pages about CI deploy what the checkout has, and are red if they did not."""

import json
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from ci_jobs import Done, Jenkins, Step, azure, bitbucket, blocks, circleci, codebuild, gitlab, run_steps
from ci_site import BINARIES, DAG, IDENTITY, Site
from deployfiles import HOME
from harness import tree
from login_page import login_page
from pages import files_of

pytestmark = pytest.mark.slow

TEMPLATES = HOME / "deploy" / "ci"
PAGES = HOME / "docs" / "how-to"
OTHER = {text.splitlines()[0].removeprefix("# "): text for text in blocks(PAGES / "deploy-from-other-ci.md", "yaml")}
INCLUDE, CHANGED = blocks(PAGES / "deploy-from-gitlab.md", "yaml")
SCRIPT = re.findall(r"^    (sh deploy/ci/deploy\.sh .*)$", (PAGES / "deploy-from-ci.md").read_text(), re.MULTILINE)
Job = Callable[[Site], Done]


def gitlab_job(site: Site, shell: str, job: str = "deploy-dags", include: str = INCLUDE, **variables: str) -> Done:
    """A job of the template as the project's own file includes it: GitLab merges the two."""
    template = yaml.safe_load((TEMPLATES / "gitlab" / "deploy.yml").read_text())
    own = yaml.safe_load(site.here(include))
    for name, value in own.items():
        template[name] = {**template.get(name, {}), **value} if isinstance(value, dict) else value
    identity = {"DAGFERRY_ID_TOKEN": site.token} if "id_tokens" in template[job] else {}
    environment = {**site.environment, "GITLAB_CI": "true", **identity, **variables}
    return run_steps(gitlab(yaml.safe_dump(template), job, shell), site.checkout, environment)


def jenkins(site: Site) -> Jenkins:
    path = site.checkout / "Jenkinsfile"
    path.write_text(site.here((TEMPLATES / "jenkins" / "Jenkinsfile").read_text()))
    made = Jenkins(path, site.checkout, {**site.environment, "WORKSPACE_TMP": str(site.checkout.parent / "temp")})
    made.credentials["dagferry-prod"] = site.token
    return made


def other(site: Site, name: str, shell: str = "bash") -> Done:
    """The example of the page for a file of this name."""
    text = site.here(OTHER[name])
    secret = {"DAGFERRY_TOKEN": site.token}
    if name == ".circleci/config.yml":
        return run_steps(list(circleci(text, "deploy-dags")), site.checkout, site.environment)
    if name == "azure-pipelines.yml":
        return run_steps(list(azure(text, secret)), site.checkout, site.environment)
    if name == "bitbucket-pipelines.yml":
        return run_steps(bitbucket(text, "main", shell), site.checkout, {**site.environment, **secret})
    assert name == "buildspec.yml"
    return run_steps(codebuild(text), site.checkout, site.environment)


def script(site: Site) -> Done:
    """The line of the overview, in a job that sets the three variables."""
    variables = {"DAGFERRY_SERVER": site.server.url, "DAGFERRY_DEPLOYMENT": "prod", "DAGFERRY_TOKEN": site.token}
    return run_steps([Step(("sh", "-e"), "\n".join(SCRIPT))], site.checkout, {**site.environment, **variables})


JOBS: dict[str, Job] = {
    "script": script,
    "gitlab-bash": lambda site: gitlab_job(site, "bash"),
    "gitlab-sh": lambda site: gitlab_job(site, "dash"),
    "jenkins": lambda site: jenkins(site).build(BRANCH_NAME="main"),
    "circleci": lambda site: other(site, ".circleci/config.yml"),
    "azure": lambda site: other(site, "azure-pipelines.yml"),
    "bitbucket-bash": lambda site: other(site, "bitbucket-pipelines.yml"),
    "bitbucket-sh": lambda site: other(site, "bitbucket-pipelines.yml", "dash"),
    "codebuild": lambda site: other(site, "buildspec.yml"),
}
each_job = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)


def test_every_example_of_the_page_is_run() -> None:
    assert set(OTHER) == {".circleci/config.yml", "azure-pipelines.yml", "bitbucket-pipelines.yml", "buildspec.yml"}
    assert len(SCRIPT) == 1


@each_job
def test_it_deploys_waits_until_the_pod_has_it_and_a_second_time_changes_nothing(site, job) -> None:
    done = job(site)
    assert done.code == 0, done.log
    assert site.version in done.log or any(site.version.encode() in kept for kept in done.kept.values())
    assert site.pod.live == site.version
    assert tree(site.pod.root / "current") == tree(site.checkout / "dags")
    assert site.token not in done.log
    first = site.version
    again = job(site)
    assert (again.code, site.version) == (0, first), again.log


@contextmanager
def no_folder(site: Site) -> Iterator[Site]:
    (site.checkout / "dags").rename(site.checkout / "others")
    yield site
    (site.checkout / "others").rename(site.checkout / "dags")


@contextmanager
def no_script(site: Site) -> Iterator[Site]:
    script = site.checkout / "deploy" / "ci" / "deploy.sh"
    script.rename(script.with_suffix(".old"))
    yield site
    script.with_suffix(".old").rename(script)


@contextmanager
def no_python(site: Site) -> Iterator[Site]:
    names = ("dagferry", "python3", "python", *(f"python3.{minor}" for minor in range(10, 15)))
    for name in names:
        site.command(name, "exit 1")
    yield site
    for name in names:
        (site.checkout.parent / "bin" / name).unlink()


@contextmanager
def dag_does_not_parse(site: Site) -> Iterator[Site]:
    (site.checkout / "dags" / "etl.py").write_text(DAG + "def\n")
    yield site
    (site.checkout / "dags" / "etl.py").write_text(DAG)


@contextmanager
def token_is_not_known(site: Site) -> Iterator[Site]:
    for name in IDENTITY:
        site.command(name, "echo dgf_wrong")
    yield site._replace(token="dgf_wrong")
    for name in IDENTITY:
        site.command(name, f"echo {site.token}")


@contextmanager
def page_to_log_in(site: Site) -> Iterator[Site]:
    with login_page(200, {"Content-Type": "text/html"}, b'<html>"version" Log in</html>') as url:
        real, site.server.url = site.server.url, url
        yield site
        site.server.url = real


FAILURES = [no_folder, no_script, no_python, dag_does_not_parse, token_is_not_known, page_to_log_in]


@each_job
def test_it_is_red_and_says_why_whenever_nothing_was_deployed(site, job) -> None:
    for failure in FAILURES:
        with failure(site) as broken:
            done = job(broken)
        assert done.code != 0, failure
        assert done.log.strip(), failure
        assert site.version == "", failure
    assert job(site).code == 0, "all is repaired"


def test_it_is_red_without_a_server(site) -> None:
    site.server.stop()
    assert script(site).code == 5


@pytest.mark.parametrize("name", [".circleci/config.yml", "buildspec.yml"])
def test_it_is_red_without_an_identity(site, name) -> None:
    for command in IDENTITY:
        site.command(command, "exit 1")
    assert other(site, name).code != 0
    assert site.version == ""


def test_it_is_red_without_the_secret_in_azure(site) -> None:
    done = run_steps(list(azure(site.here(OTHER["azure-pipelines.yml"]), {})), site.checkout, site.environment)
    assert done.code != 0
    assert site.version == ""


def test_the_lines_that_use_the_installed_command_check_and_stop_if_it_cannot_be_installed(site) -> None:
    page = (PAGES / "deploy-from-ci.md").read_text()
    lines = re.search(r"^    dagferry=.*\n    .*\n", page, re.MULTILINE)
    assert lines
    steps = [Step(("sh", "-e"), textwrap.dedent(lines[0]))]
    assert run_steps(steps, site.checkout, site.environment).code == 0
    for failure, code in ((dag_does_not_parse, 3), (no_python, 2)):
        with failure(site):
            assert run_steps(steps, site.checkout, site.environment).code == code


# --- GitLab


HOSTILE = ["it's; $(touch made) `touch made` \"", "-x --help", "ä"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_in_gitlab_the_title_of_a_commit_is_recorded_and_not_executed(site, text) -> None:
    # An image without Git, such as the template's.
    for name in ("bash", "sh", "dirname", "sed"):
        (site.checkout.parent / "bin" / name).symlink_to(str(shutil.which(name)))
    path = f"{site.checkout.parent / 'bin'}:{BINARIES}"
    commit = {"CI_COMMIT_SHA": "a" * 40, "CI_COMMIT_TITLE": text, "CI_COMMIT_REF_NAME": text, "CI_COMMIT_AUTHOR": text}
    done = gitlab_job(site, "bash", PATH=path, **commit)
    assert done.code == 0, done.log
    [deploy] = json.loads(site.server.get("/prod/dags/deploys")[1])["deploys"]
    assert deploy["description"] == f"{'a' * 7} {text}"
    assert sorted(os.listdir(site.checkout)) == ["dags", "deploy"]


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_in_gitlab_a_merge_request_is_checked_without_server_and_token(site, shell) -> None:
    site.server.stop()
    checked = gitlab_job(site, shell, "check-dags")
    assert checked.code == 0, checked.log
    for failure, code in ((dag_does_not_parse, 3), (no_python, 2)):
        with failure(site):
            assert gitlab_job(site, shell, "check-dags").code == code


def test_in_gitlab_a_project_changes_a_part_as_the_page_shows(site) -> None:
    (site.checkout / "airflow").mkdir()
    (site.checkout / "dags").rename(site.checkout / "airflow" / "dags")
    changed = CHANGED.replace("DAGFERRY_DEPLOYMENT: staging", "DAGFERRY_DEPLOYMENT: prod")
    assert changed != CHANGED
    done = gitlab_job(site, "bash", include=changed)
    assert done.code == 0, done.log
    assert site.pod.live == site.version


def test_the_template_has_an_identity_where_it_deploys_and_nowhere_else() -> None:
    template = yaml.safe_load((TEMPLATES / "gitlab" / "deploy.yml").read_text())
    assert template["deploy-dags"]["id_tokens"] == {"DAGFERRY_ID_TOKEN": {"aud": "dagferry"}}
    assert "id_tokens" not in template["check-dags"]
    assert "id_tokens" not in template[".dagferry"]
    head = (TEMPLATES / "gitlab" / "deploy.yml").read_text()
    shown = "".join(f"{line[6:]}\n" for line in head.splitlines() if line.startswith("#     "))
    assert yaml.safe_load(shown) == yaml.safe_load(INCLUDE)


# --- Jenkins


def test_jenkins_only_checks_other_branches_and_deploys_main_and_jobs_without_branches(site) -> None:
    job = jenkins(site)
    assert job.build(BRANCH_NAME="PR-7").code == 0
    assert (job.stages, site.version) == (["Check DAGs"], "")
    assert job.build(BRANCH_NAME="mainline").code == 0
    assert (job.stages, site.version) == (["Check DAGs"], "")
    done = job.build()
    assert done.code == 0, done.log
    assert job.stages == ["Check DAGs", "Deploy DAGs"]
    assert site.pod.live == site.version != ""


def test_jenkins_keeps_the_answer_of_a_deploy_and_of_none(site) -> None:
    done = jenkins(site).build(BRANCH_NAME="main")
    answer = json.loads(done.kept["dagferry-answer.json"])
    assert answer["deployed"]["version"] == site.version
    assert answer["live"] is True
    (site.checkout / "dagferry-answer.json").unlink()
    job = jenkins(site)
    job.credentials.clear()
    failed = job.build(BRANCH_NAME="main")
    assert (failed.code, failed.kept) == (1, {}), "the credential is missing"


def test_jenkins_is_red_if_the_pod_does_not_get_it_and_has_the_version(site) -> None:
    site.pod.stop(None)
    job = jenkins(site)
    text = job.path.read_text()
    job.path.write_text(text.replace("--wait=5m", "--wait=1s"))
    assert job.path.read_text() != text
    done = job.build(BRANCH_NAME="main")
    assert done.code == 1
    assert site.version.encode() in done.kept["dagferry-answer.json"]


def test_a_jenkinsfile_with_a_block_that_jenkins_does_not_have_would_be_noticed(site) -> None:
    job = jenkins(site)
    job.path.write_text(job.path.read_text().replace("when {", "whenever {"))
    with pytest.raises(AssertionError, match="whenever is not known in stage"):
        job.build(BRANCH_NAME="main")


# --- What is said about them


FILES = [TEMPLATES / "gitlab" / "deploy.yml", TEMPLATES / "jenkins" / "Jenkinsfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_head_of_a_template_says_what_is_run_and_linted(path: Path) -> None:
    head = path.read_text().partition("\n\n.dagferry")[0].partition("\npipeline")[0]
    assert "Run by tests:" in head
    assert "Linted with" in head
    assert "Not tested:" in head
    [page] = re.findall(r"docs/how-to/[\w-]+\.md", head)
    assert path.name in (HOME / page).read_text()


def test_the_readme_names_every_file() -> None:
    readme = (TEMPLATES / "README.md").read_text()
    for path in files_of("deploy/ci"):
        if path.name != "README.md":
            assert f"`{path.relative_to(TEMPLATES)}`" in readme, path
