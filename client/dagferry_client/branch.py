"""The git branch that is checked out: it selects a target."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

GIT_SECONDS = 10.0
"""How long git may take."""


def current_branch(folder: Path, environment: Mapping[str, str]) -> str:
    """Return the branch of ``folder``, in CI that of the job; empty if there is none, as for a tag or a pull request.

    A CI job has no branch checked out, so its variables say it. Those of a pull request are ignored: anybody can name
    the branch of a fork ``main``.
    """
    if environment.get("GITHUB_ACTIONS"):
        return environment.get("GITHUB_REF_NAME", "") if environment.get("GITHUB_REF_TYPE") == "branch" else ""
    if environment.get("GITLAB_CI"):
        return environment.get("CI_COMMIT_BRANCH", "")
    try:
        asked = subprocess.run(
            ["git", "symbolic-ref", "--quiet", "--short", "HEAD"],  # noqa: S607 - git is where PATH has it
            cwd=folder,
            check=False,
            capture_output=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return os.fsdecode(asked.stdout).strip() if asked.returncode == 0 else ""
