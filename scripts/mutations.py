"""Break the code on purpose, one small change at a time, and see whether a module's own tests notice.

``make mutations`` applies each change of ``tests/mutations.toml`` to a copy of the source tree, never to the tree
itself, and runs the tests that must fail then. ``python scripts/mutations.py volume patch`` runs those of the files
whose path has one of these words. Ends with 1 if a change survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mirror import HOME, own_tests, packages, read_toml

LIST = HOME / "tests" / "mutations.toml"
MAX_SECONDS = 300
"""The longest that the tests of a module may take; a change that makes them hang longer is noticed."""
PASSED, FAILED = 0, 1  # exit codes of pytest; any other means that it could not run the tests
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", ".run", ".*_cache", "__pycache__", "build", "dist")


class Mutation(NamedTuple):
    """A change: ``old``, which occurs once in ``file``, becomes ``new``, and one of ``tests`` must fail."""

    file: str
    old: str
    new: str
    breaks: str
    tests: Sequence[str]


def known() -> list[Mutation]:
    """Return the changes in the order of the list. The tests are the module's own, and what is named beside them."""
    return [
        Mutation(module["file"], **change, tests=[*own_tests(module["file"]), *module.get("also", ())])
        for module in read_toml(LIST)["module"]
        for change in module["change"]
    ]


def run(tree: Path, tests: Sequence[str]) -> int | None:
    """Return the exit code of these tests of a copy of the tree, ``None`` if they take too long."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(tree / name) for name in packages())}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a file changed twice in a second would look unchanged
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=MAX_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode not in {PASSED, FAILED}:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.returncode


def survives(tree: Path, mutation: Mutation) -> bool:
    """Return whether the tests pass despite the change."""
    path = tree / mutation.file
    before = path.read_text()
    try:
        path.write_text(before.replace(mutation.old, mutation.new, 1))
        return run(tree, mutation.tests) == PASSED
    finally:
        path.write_text(before)


def main(arguments: Sequence[str]) -> int:
    """Run the chosen changes; return the exit code."""
    parser = argparse.ArgumentParser(description="Break the code on purpose and see whether its tests notice.")
    parser.add_argument("words", nargs="*", help="only changes of files whose path has one of these words")
    words = parser.parse_args(arguments).words
    chosen = [one for one in known() if not words or any(word in one.file for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(HOME, tree, symlinks=True, ignore=NOT_COPIED)
        for tests in sorted({tuple(one.tests) for one in chosen}):
            if run(tree, tests) != PASSED:
                sys.exit(f"{' '.join(tests)} fail without any change, so they can show nothing.")
        survivors = 0
        for mutation in chosen:
            alive = survives(tree, mutation)
            survivors += alive
            sys.stdout.write(f"{'SURVIVED' if alive else 'killed  '} {mutation.file}: {mutation.breaks}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} changes, {len(chosen) - survivors} killed, {survivors} survived\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
