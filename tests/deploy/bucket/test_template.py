"""The template for AWS is valid, and fits the function."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import deployer
import function
from buckets import FOLDER

TEMPLATE = FOLDER / "template.yaml"
HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "deploy-from-a-bucket.md"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """Reads the short forms of CloudFormation's functions as their arguments."""

    def argument(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None

    Loader.add_multi_constructor("!", argument)
    found = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]
    return {name: one["Properties"] for name, one in found.items()}


@pytest.mark.slow
def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    command = shutil.which("cfn-lint", path=str(Path(sys.executable).parent))
    if not command:
        pytest.skip("there is no cfn-lint")
    regions = ("--regions", "us-east-1", "eu-central-1")
    done = subprocess.run([command, *regions, "--", TEMPLATE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    broken = tmp_path / "template.yaml"
    broken.write_text(TEMPLATE.read_text().replace("MemorySize: 1024", "MemorySize: much"))
    assert subprocess.run([command, *regions, "--", broken], capture_output=True, check=False).returncode != 0


def longest_run_seconds() -> float:
    return (
        deployer.MAX_PREPARE_SECONDS
        + deployer.MAX_SETTLE_SECONDS
        + deployer.QUESTION_SECONDS * 2
        + deployer.DEPLOY_SECONDS
    )


def test_the_function_has_the_time_of_its_longest_run_and_the_queue_waits_longer(resources) -> None:
    timeout = resources["Function"]["Timeout"]
    window = resources["Trigger"]["MaximumBatchingWindowInSeconds"]
    assert longest_run_seconds() <= timeout
    assert timeout + window <= resources["Events"]["VisibilityTimeout"]
    assert timeout <= 540  # the most that a function has in Google Cloud, where it gets the same


def test_what_the_template_names_is_there(resources) -> None:
    module, _, handler = resources["Function"]["Handler"].partition(".")
    assert (module, getattr(function, handler)) == ("function", function.on_aws)
    variables = set(resources["Function"]["Environment"]["Variables"])
    assert all(f"`{name}`" in HOW_TO.read_text() for name in variables)
    assert all(name in (function.__doc__ or "") for name in variables)


def test_every_setting_is_in_the_how_to_and_in_the_head_comment() -> None:
    sources = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    names = set(re.findall(r'"(DAGFERRY_[A-Z_]+)"', sources))
    assert {"DAGFERRY_BUCKET", "DAGFERRY_PREFIX", "DAGFERRY_SETTLE_SECONDS", "DAGFERRY_TOKEN_SECRET"} <= names
    for name in names:
        assert f"`{name}`" in HOW_TO.read_text(), name
        assert name in (function.__doc__ or ""), name
