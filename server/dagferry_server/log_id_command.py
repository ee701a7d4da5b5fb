"""``dagferry-server new-log-id``: gives deploy logs new ids, after a backup was restored."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dagferry_core.errors import SetupError
from dagferry_runtime.commands import Command
from dagferry_runtime.logs import set_up_logs
from dagferry_runtime.settings import Setting
from dagferry_server.settings import SETTINGS as OF_SERVER
from dagferry_server.settings import names
from dagferry_server.store.address import Address
from dagferry_server.store.local import LocalStore
from dagferry_server.store.opened import local, opened

SETTINGS: tuple[Setting, ...] = (
    *(setting for setting in OF_SERVER if setting.flag in {"--data-dir", "--store"}),
    # The server's own list, in the variable, may name deployments that are newer than a backup, or fewer than are in
    # it.
    Setting(
        "--deployments",
        names,
        None,
        "NAME,…",
        "The deployments whose logs get new ids; by default all in the store.",
        has_variable=False,
    ),
)


def _new_log_id(values: Mapping[str, Any]) -> int:
    """Give the logs new ids, and print them. Nothing is created where there is no log: a folder may be mistyped."""
    address, deployments = chosen_logs(values)
    set_up_logs()
    with opened(address, write=True) as store:
        for deployment in deployments:
            store.prepare(deployment)
            sys.stdout.write(f"{deployment} {store.new_log_id(deployment)}\n")
    return 0


def chosen_logs(values: Mapping[str, Any]) -> tuple[Address, Sequence[str]]:
    """Return the store and the deployments that a command is for; ``SetupError`` if a log does not exist."""
    address: Address = values["store"] or local(values["data_dir"])
    if address.scheme == "file":
        there = LocalStore(address.path).deployments() if os.path.isdir(address.path) else []
    else:
        with opened(address) as store:
            there = store.deployments()
    deployments = there if values["deployments"] is None else values["deployments"]
    missing = [name for name in deployments if name not in there]
    if missing or not there:
        what = f"of {', '.join(missing)}" if missing else "of any deployment"
        where = address.path if address.scheme == "file" else address.url
        raise SetupError(f"{where} has no deploy log {what}.", "Check --data-dir, --store and --deployments.")
    return address, deployments


NEW_LOG_ID = Command(
    "new-log-id",
    "Give deploy logs new ids, after a backup was restored.",
    "dagferry-server new-log-id --data-dir /var/lib/dagferry --deployments prod",
    SETTINGS,
    _new_log_id,
)
