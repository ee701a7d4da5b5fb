"""Measure how much of each module its own tests cover (lines and branches), and enforce the floors.

``make coverage`` measures the modules of the packages in ``tests/coverage_floors.toml`` and ends with 1 if one is below
its floor, or has none. ``python scripts/branch_coverage.py patch tar`` measures some of them, by words in
their paths.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirror import HOME, modules, own_tests, read_toml

FLOORS = HOME / "tests" / "coverage_floors.toml"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def covered(module: str, folder: Path) -> float:
    """Return the percentage of a module's lines and branches that its own tests cover; 0 if it has no tests."""
    tests = own_tests(module)
    if not (HOME / tests[0]).is_file():
        return 0.0
    data, report = f"--data-file={folder / 'data'}", folder / "report.json"
    python = [sys.executable, "-m"]
    # From the start: some modules are imported with the fixtures, before any test.
    _run([*python, "coverage", "run", data, "--branch", f"--include={HOME / module}", *PYTEST, *tests])
    _run([*python, "coverage", "json", data, "-q", "-o", str(report)])
    percent: float = json.loads(report.read_text())["totals"]["percent_covered"]
    return percent


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def floors() -> dict[str, int]:
    """Return the floor of each module that has one, in percent, by the module's path."""
    known: dict[str, Any] = read_toml(FLOORS)
    return dict(known["floors"])


def measured() -> list[str]:
    """Return the modules that must have a floor."""
    return [module for package in read_toml(FLOORS)["packages"] for module in modules(package)]


def main(arguments: Sequence[str]) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure what each module's own tests cover.")
    parser.add_argument("words", nargs="*", help="only modules whose path has one of these words")
    words = parser.parse_args(arguments).words
    low, known = [], floors()
    sys.stdout.write("per cent  floor  module\n")
    with tempfile.TemporaryDirectory() as folder:
        for module in measured():
            if words and not any(word in module for word in words):
                continue
            percent = covered(module, Path(folder))
            floor = known.get(module, 100)
            sys.stdout.write(f"{percent:8.1f}  {floor:5}  {module}{'  BELOW ITS FLOOR' if percent < floor else ''}\n")
            sys.stdout.flush()
            if percent < floor:
                low.append(module)
    if low:
        sys.stdout.write(f"Below the floor of {FLOORS.relative_to(HOME)}: {', '.join(low)}\n")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
