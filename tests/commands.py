"""Runs ``dagferry-server`` as a process, to its end."""

import os
import subprocess
import sys

PATIENCE_SECONDS = 30
NEW_TOKEN = ["token", "new", "--name", "ci", "--scopes", "read", "--deployments", "*"]


def run(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "dagferry_server"]), *arguments]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )
