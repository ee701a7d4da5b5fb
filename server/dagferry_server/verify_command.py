"""``dagferry-server verify``: checks deploy logs and bundles, and prints the problems it finds."""

import sys
from collections.abc import Mapping
from typing import Any

from dagferry_core.deploylog import read_known
from dagferry_core.errors import EXIT_LOCAL, EXIT_UNAVAILABLE, SetupError
from dagferry_runtime.commands import Command
from dagferry_runtime.settings import Setting
from dagferry_server.deploys.verify import Verification
from dagferry_server.log_id_command import SETTINGS, chosen_logs
from dagferry_server.store.opened import opened

ENTRY = Setting(
    "--entry",
    read_known,
    None,
    "SEQUENCE:SHA256",
    "An entry that the log had, as an error of a sidecar names it: a problem if it was rewritten or cut off.",
    has_variable=False,
)


def _verify(values: Mapping[str, Any]) -> int:
    """Print a line for each problem and one for each deployment.

    Return 0 if there are none, ``EXIT_LOCAL`` if something is damaged or missing, ``EXIT_UNAVAILABLE`` if something
    cannot be read, so that nothing is known about it.
    """
    address, deployments = chosen_logs(values)
    if values["entry"] and len(deployments) != 1:
        raise SetupError(
            f"--entry is of one log, but {address.url} has {len(deployments)}.", "Name one with --deployments."
        )
    damaged = unread = 0
    with opened(address) as store:
        for deployment in deployments:
            verification = Verification(store, deployment, values["entry"])
            found = 0
            for problem in verification.problems():
                sys.stdout.write(f"{deployment}: {problem.what}\n")
                found += 1
                damaged += not problem.passes
                unread += problem.passes
            entries, chained, bundles, gone = verification.result
            sys.stdout.write(
                f"{deployment}: {entries} entries, {chained} of them chained; {bundles} bundles, {gone} no longer "
                f"stored; {found} problem{'s' * (found != 1)}\n"
            )
    return EXIT_LOCAL if damaged else EXIT_UNAVAILABLE if unread else 0


VERIFY = Command(
    "verify",
    "Check deploy logs and bundles. Changes nothing; a server may run.",
    "dagferry-server verify --data-dir /var/lib/dagferry",
    (*SETTINGS, ENTRY),
    _verify,
)
