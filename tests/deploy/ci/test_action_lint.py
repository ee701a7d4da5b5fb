"""What linters and GitHub's own schema say of the action, and of the workflows that the docs show."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deployfiles import HOME, run, tool

pytestmark = pytest.mark.slow

ACTION = HOME / "deploy" / "ci" / "github"
PAGE = HOME / "docs" / "how-to" / "deploy-from-github-actions.md"
WORKFLOWS = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "runs-on:" in block]
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
"""An action, pinned by commit, and its version."""
HOME_OF_THE_ACTION = "dagferry/dagferry/deploy/ci/github@"


def beside_python(name: str) -> str:
    """A program that pip installed into this environment, or that is in the path."""
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else name


def actionlint() -> str:
    return tool([os.environ.get("ACTIONLINT", "actionlint")])[0]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that has the action in itself, and no workflow yet."""
    shutil.copytree(ACTION, tmp_path / "deploy" / "ci" / "github")
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def lint(repository: Path, workflow: str) -> subprocess.CompletedProcess[str]:
    """Run actionlint on a workflow; it reads what the action takes if the workflow uses that of the same repository."""
    local = re.sub(re.escape(HOME_OF_THE_ACTION) + r"[0-9a-f]{40}", "./deploy/ci/github", workflow)
    (repository / ".github" / "workflows" / "deploy.yml").write_text(local)
    return subprocess.run([actionlint(), "-no-color"], cwd=repository, capture_output=True, text=True, check=False)


def test_the_action_has_the_shape_that_github_wants() -> None:
    run(*tool([beside_python("check-jsonschema")]), "--builtin-schema", "vendor.github-actions", ACTION / "action.yml")


def test_nothing_about_the_action_is_unsafe() -> None:
    run(*tool([beside_python("zizmor")]), "--offline", "--persona=pedantic", ACTION / "action.yml")


def test_zizmor_would_notice_an_input_in_the_script(tmp_path) -> None:
    text = (ACTION / "action.yml").read_text()
    (tmp_path / "action.yml").write_text(text.replace("run: bash", "run: echo ${{ inputs.message }} && bash"))
    command = [*tool([beside_python("zizmor")]), "--offline", tmp_path / "action.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "template-injection" in done.stdout


def test_every_input_reaches_the_script_in_a_variable_alone() -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    [step] = action["runs"]["steps"]
    assert "${{" not in step["run"]
    named = {name: f"INPUT_{name.upper().replace('-', '_')}" for name in action["inputs"]}
    assert step["env"] == {variable: f"${{{{ inputs.{name} }}}}" for name, variable in named.items()}
    script = (ACTION / "run.sh").read_text() + (ACTION / "report.py").read_text()
    assert all(variable.removeprefix("INPUT_") in script for variable in named.values())


def test_the_script_is_sound_to_shellcheck() -> None:
    run(*tool(["shellcheck"]), "--severity=style", ACTION / "run.sh")


def test_the_files_say_how_they_are_tested() -> None:
    for name in ("action.yml", "run.sh", "report.py"):
        head = (ACTION / name).read_text()[:700]
        assert "Run by tests/deploy/ci/" in head, name


def test_the_page_shows_workflows() -> None:
    assert len(WORKFLOWS) >= 3


@pytest.mark.parametrize("number", range(len(WORKFLOWS)))
def test_a_workflow_of_the_page_is_one(repository, number) -> None:
    workflow = WORKFLOWS[number]
    done = lint(repository, workflow)
    assert done.returncode == 0, done.stdout + done.stderr
    (repository / "workflow.yml").write_text(workflow)
    schema = "vendor.github-workflows"
    run(*tool([beside_python("check-jsonschema")]), "--builtin-schema", schema, repository / "workflow.yml")


def test_actionlint_would_notice_an_input_that_the_action_does_not_have(repository) -> None:
    assert "pathh" in lint(repository, WORKFLOWS[0].replace("server:", "pathh:")).stdout


@pytest.mark.parametrize("number", range(len(WORKFLOWS)))
def test_a_workflow_of_the_page_is_safe(repository, number) -> None:
    path = repository / ".github" / "workflows" / "deploy.yml"
    path.write_text(WORKFLOWS[number])
    run(*tool([beside_python("zizmor")]), "--offline", path)
    workflow = yaml.safe_load(WORKFLOWS[number])
    assert "concurrency" in workflow
    assert "permissions" in workflow
    for action in re.findall(r"uses: (.*)", WORKFLOWS[number]):
        assert PINNED.fullmatch(action), action
    checkouts = [
        step
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "actions/checkout@" in step.get("uses", "")
    ]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def table(title: str) -> dict[str, list[str]]:
    """The rows of a table of the page, by the name in their first column."""
    section = re.split(rf"^## {title}\n", PAGE.read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): row[1:] for row in rows}


@pytest.mark.parametrize(("title", "kind"), [("Inputs", "inputs"), ("Outputs", "outputs")])
def test_the_page_has_every_input_and_output(title, kind) -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    documented = table(title)
    assert list(documented) == list(action[kind])
    for name, one in action[kind].items():
        if kind == "inputs":
            default = {"": "", "${{ github.token }}": "the job's own"}.get(one["default"], f"`{one['default']}`")
            assert documented[name][0] == default, name
