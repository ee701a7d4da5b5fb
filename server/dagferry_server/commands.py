"""What ``dagferry-server`` does: serve, ``new-log-id``, ``verify``, or ``token``."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from dagferry_runtime.logs import set_up_logs
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.auth.setup import make_authenticator
from dagferry_server.http.app_state import AppState
from dagferry_server.http.listeners import serve
from dagferry_server.log_id_command import new_log_id
from dagferry_server.memory import leave_aside, return_large_blocks
from dagferry_server.service import Service
from dagferry_server.settings import Settings, read_settings
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.local import LocalStore
from dagferry_server.token_command import token_command
from dagferry_server.verify_command import verify

NEW_LOG_ID = "new-log-id"
VERIFY = "verify"
TOKENS = "token"
THREADS = 8
"""What blocks runs in these: checks, syncs, reads. More would only compete for the same disk."""


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``dagferry-server ARGUMENTS``."""
    if list(arguments[:1]) == [TOKENS]:
        return token_command(arguments[1:], environment)
    if list(arguments[:1]) == [NEW_LOG_ID]:
        return new_log_id(arguments[1:], environment)
    if list(arguments[:1]) == [VERIFY]:
        return verify(arguments[1:], environment)
    settings = read_settings(arguments, environment)
    set_up_logs()
    logging.captureWarnings(capture=True)
    return_large_blocks()
    authenticator = make_authenticator(settings)
    with closing(DataFolder(settings.data_dir)) as folder:
        asyncio.run(_serve(settings, folder, authenticator))
    return 0


async def _serve(settings: Settings, folder: DataFolder, authenticator: Authenticator) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "blocking"))
    state = await AppState.open(settings)
    service = await Service.open(settings, folder, LocalStore(folder.root), authenticator)
    leave_aside()
    service.retention.request()
    await serve(settings, service, state)
