"""The workflows in deploy/ci/github/stories: what linters say, what all have in common, and their shell steps, run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from credentials import TokensFile
from deployfiles import HOME, run, tool
from github_runner import Runner, clean_environment
from harness import Server
from workflows import EXPRESSION, Done, filled, read, run_step, search_path, shell_steps, stand_in, steps

STORIES = HOME / "deploy" / "ci" / "github" / "stories"
ALL = sorted(STORIES.glob("*.yml"))
ACTION = HOME / "deploy" / "ci" / "github" / "action.yml"
IDS = {"ids": lambda path: path.stem}
NAME_OF_ACTION = "dagferry/dagferry/deploy/ci/github@"
BINARIES = Path(sys.executable).parent

# --- what can be said without running anything -----------------------------------------------------------------------


def beside_python(name: str) -> list[str]:
    """A program that pip installed into this environment, or that is in PATH."""
    return tool([str(BINARIES / name)], [name])


def test_the_stories_are_there() -> None:
    assert len(ALL) == 11


def test_actionlint_finds_nothing() -> None:
    run(*tool([os.environ.get("ACTIONLINT", "actionlint")]), *ALL)


def test_zizmor_finds_nothing() -> None:
    run(*beside_python("zizmor"), "--offline", "--no-progress", *ALL)


def test_github_s_schema_allows_them() -> None:
    run(*beside_python("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *ALL)


def test_zizmor_would_notice_a_branch_in_a_script(tmp_path) -> None:
    text = (STORIES / "preview.yml").read_text()
    assert '"$BRANCH"' in text
    (tmp_path / "preview.yml").write_text(text.replace('"$BRANCH"', '"${{ github.head_ref }}"'))
    command = [*beside_python("zizmor"), "--offline", "--no-progress", str(tmp_path / "preview.yml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("path", ALL, **IDS)
def test_no_expression_is_in_a_script(path) -> None:
    workflow = read(path)
    scripts = [step.run for job in workflow["jobs"] for step in steps(workflow, job)]
    assert not any(EXPRESSION.search(script) for script in scripts)


@pytest.mark.parametrize("path", ALL, **IDS)
def test_each_asks_for_no_right_that_it_does_not_need_and_deploys_one_after_the_other(path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow["on"]
    assert "workflow_run" not in workflow["on"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60
        group = job.get("concurrency") or workflow["concurrency"]
        assert group["group"]
        assert group["cancel-in-progress"] in {False, "${{ github.event_name == 'pull_request' }}"}
        uses = " ".join(step.uses for step in steps(workflow, name))
        runs = " ".join(step.run for step in steps(workflow, name))
        asks = NAME_OF_ACTION in uses or "deploy.sh" in runs
        allowed = {"contents"} | ({"id-token"} if asks else {"packages"} & set(job["permissions"]))
        assert set(job["permissions"]) == allowed
        assert job["permissions"]["contents"] == "read"
        assert job["permissions"].get("id-token", "write") == "write"
        protected = "environment" in job or path.stem.startswith("preview")
        assert protected or not asks, "an identity that deploys is bound to an environment"
        secrets = set(re.findall(r"secrets\.(\w+)", yaml.safe_dump(job)))
        assert secrets == ({"PIP_CONF"} if "build.sh" in runs else set())
        assert job.get("environment") == "image" or not secrets


@pytest.mark.parametrize("path", ALL, **IDS)
def test_actions_are_pinned_by_commit_and_leave_no_credentials(path) -> None:
    for action in re.findall(r"uses: (.*)", path.read_text()):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action
    workflow = read(path)
    for job in workflow["jobs"]:
        for step in steps(workflow, job):
            if step.uses.startswith("actions/checkout@"):
                assert step.inputs["persist-credentials"] == "False"


@pytest.mark.parametrize("path", ALL, **IDS)
def test_the_first_lines_say_how_it_was_tested_and_where_it_is_explained(path) -> None:
    head = re.sub(r"\n# ?", " ", path.read_text().partition("\nname:")[0])
    assert "Linted with actionlint, zizmor and GitHub's schema" in head
    [page] = re.findall(r"docs/how-to/[\w-]+\.md", head)
    assert path.name in (HOME / page).read_text()
    workflow = read(path)
    has_own_scripts = any(step.run for job in workflow["jobs"] for step in steps(workflow, job))
    assert has_own_scripts == ("commands are run by tests" in head)


@pytest.mark.parametrize("path", ALL, **IDS)
def test_the_action_has_every_input_and_output_that_is_used(path) -> None:
    action = yaml.safe_load(ACTION.read_text())
    workflow = read(path)
    for job in workflow["jobs"]:
        for step in steps(workflow, job):
            if step.uses.startswith(NAME_OF_ACTION):
                assert set(step.inputs) <= set(action["inputs"])
    used = set(re.findall(r"steps\.deploy\.outputs\.([\w-]+)", path.read_text()))
    assert used <= set(action["outputs"])


def test_branches_are_those_of_the_targets_in_its_head(tmp_path) -> None:
    """The file that the workflow shows leads each of its branches to its deployment, and no other branch anywhere."""
    head = (STORIES / "branches.yml").read_text().partition("\nname:")[0]
    shown = "\n".join(line[6:] for line in head.splitlines() if line.startswith("#     ") or line == "#")
    (tmp_path / "dagferry.toml").write_text(shown)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "a.py").write_text("a = 1\n")

    def asked(branch: str) -> str:
        variables = {"GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": branch}
        variables |= {"PATH": os.environ["PATH"], "https_proxy": "http://127.0.0.1:9", "DAGFERRY_TOKEN": "dgf_x"}
        command = [BINARIES / "dagferry", "deploy", "dags"]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        return done.stderr

    assert set(read(STORIES / "branches.yml")["on"]["push"]["branches"]) == {"develop", "main"}
    for branch in ("develop", "main"):
        assert "dags.example.com" in asked(branch), "it goes on to the server, which is not there"
    assert "deployment" in asked("feature")
    assert "cannot be reached" not in asked("feature")


# --- shell steps, as the runner runs them ----------------------------------------------------------------------------

HOSTILE = ["feature/a", "$(touch stolen)`touch stolen`", "'; touch stolen; '", '"; touch stolen; "', "-n"]
DOCKER = """
printf '%s\\n' "$*" >> "$CALLS"
case $1 in
  login) cat > /dev/null ;;
  build) [ ! -e "$CALLS.build-fails" ] ;;
  push) [ ! -e "$CALLS.push-fails" ] && touch "$CALLS.pushed" ;;
  buildx)
    [ -e "$CALLS.pushed" ] || exit 1
    [ -e "$CALLS.no-digest" ] || echo "{\\"digest\\": \\"sha256:$(printf 'a%.0s' {1..64})\\"}"
    ;;
  run) [ ! -e "$CALLS.run-fails" ] ;;
  *) exit 2 ;;
esac
"""
HELM = 'printf "helm %s\\n" "$*" >> "$CALLS"\n[ ! -e "$CALLS.helm-fails" ]\n'
GH = """
[ "$*" = "api --paginate repos/acme/airflow/branches --jq .[].name" ] || exit 2
[ "$GH_TOKEN" = ghs_token ] || exit 4
cat "$BRANCHES"
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A checkout that has deploy/ci and a dags folder."""
    folder = tmp_path / "project"
    (folder / "dags").mkdir(parents=True)
    (folder / "requirements.txt").touch()
    (folder / "packages.txt").touch()
    (folder / "dags" / "a.py").write_text("a = 1\n")
    (folder / "deploy").mkdir()
    (folder / "deploy" / "ci").symlink_to(HOME / "deploy" / "ci")
    return folder


@pytest.fixture
def previews(serve, tmp_path) -> tuple[Server, dict[str, str]]:
    """A server, and the variables of a job that may do what the rule for previews grants."""
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("previews", ["admin", "deploy"], ["preview-*"])
    reader = tokens.add("reader", ["read"], ["*"])
    server = serve("--tokens-file", str(tokens.path), "--deployments", "prod")
    server.headers = {"Authorization": reader}
    return server, {"DAGFERRY_SERVER": server.url, "DAGFERRY_TOKEN": secret}


def deployments(server: Server) -> set[str]:
    return {one["name"] for one in json.loads(server.get("/-/deployments")[1])["deployments"]}


@pytest.fixture
def job(project, tmp_path) -> Callable[..., Done]:
    """Run one shell step of a story with dagferry and stand-ins in PATH."""
    calls = tmp_path / "calls"
    calls.touch()

    def do(story: str, job: str, name: str, values: dict[str, str], **variables: str) -> Done:
        step = shell_steps(STORIES / f"{story}.yml", job)[name]
        path = search_path(tmp_path / "bin", BINARIES)
        # In the story the server is the one of the example; here it is the one of the test.
        step = step._replace(env={key: value for key, value in step.env.items() if key not in variables})
        # No pod follows the test's server, so that there is nothing to wait for.
        step = step._replace(run=step.run.replace("--wait=5m", "--wait=1s"))
        return run_step(step, project, values, path, CALLS=str(calls), **variables)

    return do


@pytest.mark.slow
@pytest.mark.parametrize("branch", HOSTILE, ids=range(len(HOSTILE)))
def test_a_preview_is_made_for_each_branch_and_deleted_with_it(job, project, previews, branch) -> None:
    server, variables = previews
    create, delete = "Create the deployment, if it is not there", "Delete the deployment"
    made = job("preview", "deploy", create, {"github.ref_name": branch}, **variables)
    assert made.code == 0, made.err
    name = made.outputs["name"]
    assert deployments(server) == {"prod", name}
    again = job("preview", "deploy", create, {"github.ref_name": branch}, **variables)
    assert (again.code, again.outputs) == (0, {"name": name})
    gone = job("preview", "delete", delete, {"github.event.ref": branch}, **variables)
    assert gone.code == 0, gone.err
    assert deployments(server) == {"prod"}
    assert job("preview", "delete", delete, {"github.event.ref": branch}, **variables).code == 0
    assert sorted(path.name for path in project.iterdir()) == ["dags", "deploy", "packages.txt", "requirements.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["token", "server"])
def test_a_preview_that_cannot_be_made_or_deleted_is_red_and_has_no_name(job, previews, wrong) -> None:
    _, variables = previews
    variables |= {"DAGFERRY_TOKEN": "dgf_wrong"} if wrong == "token" else {"DAGFERRY_SERVER": "http://127.0.0.1:9"}
    done = job("preview", "deploy", "Create the deployment, if it is not there", {"github.ref_name": "a"}, **variables)
    assert (done.code != 0, done.outputs) == (True, {})
    assert job("preview", "delete", "Delete the deployment", {"github.event.ref": "a"}, **variables).code != 0


@pytest.mark.slow
def test_previews_without_a_branch_are_cleaned_up(job, tmp_path, previews) -> None:
    server, variables = previews
    names = {}
    for branch in ("main", "feature/a", "feature/gone"):
        made = job(
            "preview", "deploy", "Create the deployment, if it is not there", {"github.ref_name": branch}, **variables
        )
        names[branch] = made.outputs["name"]
    installed = job("preview-cleanup", "clean", "Install dagferry", {})
    assert (installed.code, installed.path) == (0, [str(BINARIES)])
    stand_in(tmp_path / "bin", "gh", GH)
    (tmp_path / "branches").write_text("main\nfeature/a\n")
    clean = ("preview-cleanup", "clean", "Delete previews without a branch", {"github.token": "ghs_token"})
    variables |= {"GITHUB_REPOSITORY": "acme/airflow", "BRANCHES": str(tmp_path / "branches")}
    done = job(*clean, **variables)
    assert done.code == 0, done.err
    assert deployments(server) == {"prod", names["main"], names["feature/a"]}
    # A list of branches that could not be got deletes nothing, and is red.
    for wrong in (
        {"GITHUB_REPOSITORY": "acme/other"},
        {"BRANCHES": os.devnull},
        {"DAGFERRY_SERVER": "http://127.0.0.1:9"},
    ):
        assert job(*clean, **{**variables, **wrong}).code != 0
    assert len(deployments(server)) == 3


@pytest.mark.slow
def test_the_tested_version_is_promoted_and_a_failed_promotion_is_red(job, serve) -> None:
    server = serve("--deployments", "staging,prod")
    tested = server.deploy({"a.py": b"a = 1\n"}, "staging")
    server.deploy({"a.py": b"a = 2\n"}, "staging")
    assert job("promote", "prod", "Install dagferry", {}).path == [str(BINARIES)]
    values = {f"needs.staging.outputs.{name}": str(tested[name]) for name in ("version", "digest")}
    promote = ("promote", "prod", "Promote the version that was tested")
    done = job(*promote, values, DAGFERRY_SERVER=server.url)
    # There is no pod, so that it is live is not known: red, although it is deployed.
    assert done.code == 7, done.err
    assert server.current("prod")["digest"] == tested["digest"]
    nothing = dict.fromkeys(values, "")
    assert job(*promote, nothing, DAGFERRY_SERVER=server.url).code == 2
    assert job(*promote, values, DAGFERRY_SERVER="http://127.0.0.1:9").code == 5


def uses_of_the_action() -> list[tuple[str, str]]:
    return [
        (path.stem, job)
        for path in ALL
        for job in read(path)["jobs"]
        if any(step.uses.startswith(NAME_OF_ACTION) for step in steps(read(path), job))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("story", "name"), uses_of_the_action())
def test_the_action_deploys_where_each_story_says(project, tmp_path, serve, story, name) -> None:
    server = serve("--deployments", "prod,staging,preview-a-0123456789ab")
    [step] = [one for one in steps(read(STORIES / f"{story}.yml"), name) if one.uses.startswith(NAME_OF_ACTION)]
    values = {"steps.preview.outputs.name": "preview-a-0123456789ab"}
    inputs = {key: filled(value, values) for key, value in step.inputs.items()}
    # No pod follows the test's server, so that there is nothing to wait for.
    inputs["wait"] = ""
    where = [(inputs.get("deployment"), "main")]
    if story == "branches":
        text = (STORIES / "branches.yml").read_text().partition("\nname:")[0]
        shown = "\n".join(line[6:] for line in text.splitlines() if line.startswith("#     "))
        (project / "dagferry.toml").write_text(shown.replace("https://dags.example.com", server.url))
        where = [("prod", "main"), ("staging", "develop")]
    else:
        assert inputs["server"] == "https://dags.example.com"
        inputs["server"] = server.url
    for deployment, branch in where:
        environment = clean_environment(tmp_path / "home", BINARIES)
        environment |= {"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": branch}
        done = Runner(ACTION.parent, project, environment).run(inputs)
        assert done.is_green, done.log
        assert done.outputs["digest"] == server.current(deployment)["digest"]
    deployed = {one["name"] for one in json.loads(server.get("/-/deployments")[1])["deployments"] if one["version"]}
    assert deployed == {deployment for deployment, _ in where}


def test_what_staging_s_own_tests_say_decides(job, project) -> None:
    name = "Test what staging has now"
    assert job("promote", "staging", name, {}).code != 0, "without tests nothing goes on to prod"
    (project / "tests").mkdir()
    script = project / "tests" / "staging.sh"
    for code in (0, 3):
        script.write_text(f"#!/bin/sh\nexit {code}\n")
        script.chmod(0o755)
        assert job("promote", "staging", name, {}).code == code


BUILDS = [("two-repositories-image", "image"), ("build-image", "image"), ("image-and-dags", "image")]
BUILD_VALUES = {"github.repository": "Acme/Airflow", "github.token": "ghs_token", "secrets.PIP_CONF": "[global]\nx = y"}


@pytest.mark.parametrize(("story", "name"), BUILDS)
def test_the_image_is_built_with_a_secret_pushed_and_rolled_out_by_its_digest(job, tmp_path, story, name) -> None:
    stand_in(tmp_path / "bin", "docker", DOCKER)
    stand_in(tmp_path / "bin", "helm", HELM)
    roll_out = next(step for step in shell_steps(STORIES / f"{story}.yml", name) if step.startswith("Roll out"))
    variables = {"GITHUB_ACTOR": "ann"}
    built = job(story, name, "Build and push", BUILD_VALUES, **variables)
    assert built.code == 0, built.err
    digest = "sha256:" + "a" * 64
    assert built.outputs == {"digest": digest}
    values = {"github.repository": "acme/airflow", "steps.build.outputs.digest": digest}
    assert job(story, name, roll_out, values).code == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["login", "buildx", "build", "push", "buildx", "helm"]
    assert "--secret id=pip_conf,env=PIP_CONF" in calls[2]
    assert "ghs_token" not in str(calls)
    assert calls[5].endswith(
        f"images.airflow.repository=ghcr.io/acme/airflow --set-string images.airflow.digest={digest}"
    )
    for failure in ("build-fails", "push-fails", "no-digest"):
        (tmp_path / f"calls.{failure}").touch()
        (tmp_path / "calls.pushed").unlink(missing_ok=True)
        failed = job(story, name, "Build and push", BUILD_VALUES, **variables)
        assert (failed.code != 0, failed.outputs) == (True, {}), failure
        (tmp_path / f"calls.{failure}").unlink()
    (tmp_path / "calls.helm-fails").touch()
    assert job(story, name, roll_out, values).code != 0


CHECKS = [
    ("two-repositories-dags", "test", "Import the DAGs in Airflow's image", {"github.token": "ghs_token"}),
    ("image-and-dags", "image", "Import the DAGs in the new image, before anything is rolled out",
     {"github.repository": "acme/airflow", "steps.build.outputs.digest": "sha256:1"}),
    ("test-dags", "test", "Import the DAGs", {}),
    ("test-dags", "test", "Run pytest", {}),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=[f"{one[0]}-{one[2]}" for one in CHECKS])
def test_a_failed_check_in_the_image_is_red(job, tmp_path, check) -> None:
    stand_in(tmp_path / "bin", "docker", DOCKER)
    assert job(*check, GITHUB_ACTOR="ann").code == 0
    (tmp_path / "calls.run-fails").touch()
    assert job(*check, GITHUB_ACTOR="ann").code != 0
    ran = [call for call in (tmp_path / "calls").read_text().splitlines() if call.startswith("run ")]
    assert all("--network none" in call and ":/project:ro" in call for call in ran)


def test_an_image_that_cannot_be_built_is_red(job, tmp_path) -> None:
    stand_in(tmp_path / "bin", "docker", DOCKER)
    build = ("test-dags", "test", "Build the image with what the tests need", {})
    assert job(*build).code == 0
    (tmp_path / "calls.build-fails").touch()
    assert job(*build).code != 0


def test_image_and_dags_go_in_the_order_that_was_chosen() -> None:
    jobs = read(STORIES / "image-and-dags.yml")["jobs"]
    assert jobs["image"]["needs"] == "dags-first"
    assert jobs["dags"]["needs"] == "image"
    assert jobs["dags-first"]["if"] == "inputs.order == 'dags'"
    assert "needs.image.result == 'success'" in jobs["dags"]["if"]
    assert "inputs.order != 'dags'" in jobs["dags"]["if"]
    names = list(shell_steps(STORIES / "image-and-dags.yml", "image"))
    assert [name.split()[0] for name in names] == ["Build", "Import", "Roll"]


def test_nothing_is_deployed_before_its_tests() -> None:
    for story in ("test-dags", "two-repositories-dags"):
        jobs = read(STORIES / f"{story}.yml")["jobs"]
        assert jobs["deploy"]["needs"] == "test"
    assert read(STORIES / "test-dags.yml")["jobs"]["deploy"]["if"] == "github.event_name == 'push'"
    assert read(STORIES / "promote.yml")["jobs"]["prod"]["needs"] == "staging"


def test_every_shell_step_is_run_here() -> None:
    """A step that is added needs a test: those above name theirs."""
    tested = Path(__file__).read_text()
    for path in ALL:
        for job in read(path)["jobs"]:
            for name in shell_steps(path, job):
                assert f'"{name}"' in tested or name.startswith("Roll out"), (path.name, name)


# --- what the pages show for other CIs -------------------------------------------------------------------------------

PAGES = ["organize-repositories", "build-the-airflow-image", "test-dags-in-ci", "promote-between-deployments"]
PAGES += ["preview-deployments"]


def gitlab_blocks(page: str) -> list[str]:
    text = (HOME / "docs" / "how-to" / f"{page}.md").read_text()
    return re.findall(r"```yaml\n(# \.gitlab-ci\.yml\n.*?)```", text, re.DOTALL)


def test_gitlab_s_schema_allows_what_the_pages_show(tmp_path) -> None:
    files = []
    for page in PAGES:
        for number, block in enumerate(gitlab_blocks(page)):
            files.append(tmp_path / f"{page}-{number}.gitlab-ci.yml")
            files[-1].write_text(block)
    assert len(files) == 3
    run(*beside_python("check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", *files)


def gitlab_script(page: str, job: str) -> str:
    [block] = gitlab_blocks(page)
    return "\n".join(yaml.safe_load(block)[job]["script"])


@pytest.mark.slow
def test_gitlab_s_preview_is_made_deployed_and_deleted(project, previews, tmp_path) -> None:
    server, variables = previews
    step = next(iter(steps(read(STORIES / "preview.yml"), "deploy")))
    path = search_path(BINARIES)
    for job, expected in (("preview", 2), ("delete-preview", 1)):
        script = step._replace(run=gitlab_script("preview-deployments", job), env={})
        done = run_step(script, project, {}, path, CI_COMMIT_BRANCH="'; touch stolen; '", **variables)
        assert done.code == 0, done.err
        assert len(deployments(server)) == expected
    assert sorted(one.name for one in project.iterdir()) == ["dags", "deploy", "packages.txt", "requirements.txt"]


@pytest.mark.slow
def test_gitlab_s_version_for_prod_is_the_one_that_staging_tested(project, serve) -> None:
    server = serve("--deployments", "staging,prod")
    (project / "tests").mkdir()
    (project / "tests" / "staging.sh").write_text("#!/bin/sh\n")
    (project / "tests" / "staging.sh").chmod(0o755)
    step = next(iter(steps(read(STORIES / "preview.yml"), "deploy")))

    def do(job: str, **variables: str) -> Done:
        # No pod follows the test's server: staging cannot wait, and prod waits a second.
        script = gitlab_script("promote-between-deployments", job)
        script = script.replace(" --wait=5m", "" if job == "staging" else " --wait=1s")
        return run_step(step._replace(run=script, env={}), project, {}, search_path(BINARIES), **variables)

    done = do("staging", DAGFERRY_SERVER=server.url)
    assert done.code == 0, done.err
    tested = dict(line.split("=") for line in (project / "tested.env").read_text().splitlines())
    server.deploy({"other.py": b"b = 2\n"}, "staging")
    assert do("prod", DAGFERRY_SERVER=server.url, **tested).code == 7
    assert server.current("prod")["digest"] == tested["DIGEST"]
