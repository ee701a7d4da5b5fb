"""The command ``dagferry-server`` and its sub-commands, each of which has a file of its own."""

from collections.abc import Mapping, Sequence

from dagferry_runtime.commands import Group, run_command
from dagferry_server.copy_store_command import COPY_STORE
from dagferry_server.log_id_command import NEW_LOG_ID
from dagferry_server.serve_command import SERVE
from dagferry_server.token_command import TOKEN
from dagferry_server.verify_command import VERIFY

SERVER = Group(
    "dagferry-server",
    "Receives, checks, stores and serves Airflow DAGs. Without a command it serves: flags alone are those of serve.",
    "dagferry-server --data-dir /var/lib/dagferry --tokens-file tokens.toml --listen :8000\n\n"
    "Each command has its own --help. A flag such as --data-dir can also be given as a variable, DAGFERRY_DATA_DIR.",
    (SERVE, TOKEN, NEW_LOG_ID, VERIFY, COPY_STORE),
    default=SERVE.name,
)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``dagferry-server ARGUMENTS``."""
    return run_command(SERVER, arguments, environment)
