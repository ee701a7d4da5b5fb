"""The hooks before a commit are the commands of ``make check``, from the same environment."""

import re
import subprocess

import yaml

from deployfiles import HOME

HOOKS = [
    hook
    for repository in yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
]


def test_they_are_what_make_check_runs() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", "check", "VENV=.venv"],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    checks = re.findall(r"^\.venv/bin/(?:ruff|mypy).*", shown, re.MULTILINE)
    assert len(checks) >= 3
    assert {hook["entry"] for hook in HOOKS} == {*checks, "git diff --cached --check"}


def test_they_download_nothing() -> None:
    assert {hook["language"] for hook in HOOKS} == {"system"}
    assert yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text())["repos"][0]["repo"] == "local"
