"""The command ``dagferry``: what a person waits for."""

import sys

from measure import RUNS, Row, ms, row, timed


@row
def client_help() -> list[Row]:
    """``dagferry --help``: mostly imports."""
    command = [sys.executable, "-m", "dagferry_client", "--help"]
    timed(command)
    return [("`dagferry --help`", "≤ 200 ms", ms([timed(command) for _ in range(RUNS)]))]
