#!/usr/bin/env python3
"""Promotes exactly the version that was tested: ``promote_tested.py FROM TO VERSION DIGEST [OPTIONS]``.

Run by tests against a real server: tests/deploy/ci/test_promote_tested.py.

VERSION and DIGEST are the outputs of the deploy to FROM that was tested. Hours may go by between the tests and an
approval, in which others deploy and promote. So this refuses

- a VERSION that does not have DIGEST, because then something else was tested, and
- a VERSION if a later one of FROM was promoted to TO already: an approval that comes late does not bring back old DAGs.
  To go back on purpose: ``dagferry rollback``.

Then it runs ``dagferry promote FROM TO --version VERSION --yes OPTIONS``, such as ``--wait=5m``, and ends with its exit
code; 3 if it refuses. The command ``dagferry`` is the one in PATH; server and token are in its variables.
"""

import json
import re
import subprocess
import sys
from typing import Any

MAX_ENTRIES = 200
"""How many of the newest deploys of TO are looked at."""
COMMAND_SECONDS = 300
"""How long a command may take that only reads."""
EXIT_USAGE, EXIT_REFUSED, EXIT_UNAVAILABLE = 2, 3, 5


def main(arguments: list[str]) -> int:
    """Check what is to be promoted, and promote it; return the exit code."""
    if len(arguments) < 4 or not re.fullmatch(r"sha256:[0-9a-f]{64}", arguments[3]):  # noqa: PLR2004
        return _fail(EXIT_USAGE, "Give FROM TO VERSION DIGEST: the outputs of the deploy to FROM that was tested.")
    origin, to, version, digest, *options = arguments
    tested = _asked("show", "--deployment", origin, "--json", "--", version)["deploy"]
    if (tested["version"], tested["digest"]) != (version, digest):
        found = f"{tested['version']} of {origin} has the digest {tested['digest']}"
        return _fail(EXIT_REFUSED, f"{found}, and {digest} of {version} was tested. Nothing was promoted.")
    for entry in _asked("history", "--deployment", to, "--limit", str(MAX_ENTRIES), "--json")["deploys"]:
        name, _, promoted = entry["source"].partition("@")
        if entry["kind"] == "promote" and name == origin and _sequence(promoted) > _sequence(version):
            later = f"{promoted} of {origin} was promoted to {to} already, as {entry['version']}"
            return _fail(EXIT_REFUSED, f"{later}, and is later than {version}. Nothing was promoted.")
    command = ["dagferry", "promote", *options, "--yes", "--version", version, "--", origin, to]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode  # noqa: S603


def _asked(*words: str) -> Any:
    """Return what a sub-command prints as JSON; end with its exit code if it fails."""
    command = ["dagferry", *words]
    try:
        done = subprocess.run(  # noqa: S603
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS
        )
    except FileNotFoundError:
        sys.exit(_fail(EXIT_USAGE, "The command dagferry is not in PATH. Install it with deploy.sh --install."))
    except subprocess.TimeoutExpired:
        sys.exit(_fail(EXIT_UNAVAILABLE, f"dagferry {words[0]} took more than {COMMAND_SECONDS} seconds."))
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _sequence(version: str) -> int:
    """Return the number at the end of a version, such as 42 of 20261120T064501Z-000042."""
    return int(version.rpartition("-")[2])


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"promote_tested.py: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
