"""``dagferry-server new-log-id``: gives deploy logs new ids, after a backup was restored."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

from dagferry_core.errors import SetupError
from dagferry_runtime.logs import set_up_logs
from dagferry_runtime.settings import Setting, parse
from dagferry_server.settings import SETTINGS as OF_SERVER
from dagferry_server.settings import names
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.local import LocalStore

SETTINGS: tuple[Setting, ...] = (
    *(setting for setting in OF_SERVER if setting.flag == "--data-dir"),
    Setting("--deployments", names, None, "NAME,…", "Whose logs; by default of all that are in the data folder."),
)


def new_log_id(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Give the logs new ids, and print them. Nothing is made where there is no log: a folder may be mistyped."""
    about = "Give deploy logs new ids."
    root, deployments = chosen("dagferry-server new-log-id", about, arguments, environment)
    set_up_logs()
    with closing(DataFolder(root)):
        store = LocalStore(root)
        for deployment in deployments:
            store.prepare(deployment)
            sys.stdout.write(f"{deployment} {store.new_log_id(deployment)}\n")
    return 0


def chosen(
    program: str, about: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[str, Sequence[str]]:
    """Return the data folder and the deployments that a command is for; ``SetupError`` if there is no such log."""
    # The server's own list may name deployments that are newer than a backup, or fewer than are in it.
    environment = {name: value for name, value in environment.items() if name != "DAGFERRY_DEPLOYMENTS"}
    values = parse(program, about, SETTINGS, arguments, environment)
    root = os.path.abspath(values["data_dir"])
    there = LocalStore(root).deployments() if os.path.isdir(root) else []
    deployments = there if values["deployments"] is None else values["deployments"]
    missing = [name for name in deployments if name not in there]
    if missing or not there:
        what = f"of {', '.join(missing)}" if missing else "of any deployment"
        raise SetupError(f"{root} has no deploy log {what}.", "Check --data-dir and --deployments.")
    return root, deployments
