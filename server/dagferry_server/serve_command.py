"""``dagferry-server serve``, and what ``dagferry-server`` does without a command."""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from dagferry_runtime.commands import Command
from dagferry_runtime.logs import set_up_logs
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.auth.setup import make_authenticator
from dagferry_server.http.app_state import AppState
from dagferry_server.http.listeners import serve
from dagferry_server.memory import leave_aside, return_large_blocks
from dagferry_server.service import Service
from dagferry_server.settings import SETTINGS, Settings, checked_settings
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.local import LocalStore
from dagferry_server.web.opening import open_pages

THREADS = 8
"""Blocking work runs in these: checks, syncs, reads. More would only compete for the same disk."""


def _main(values: Mapping[str, Any]) -> int:
    settings = checked_settings(values)
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
    pages = await open_pages(settings)
    leave_aside()
    service.retention.request()
    await serve(settings, service, state, pages)


SERVE = Command(
    "serve",
    "Receive deploys and serve them to sidecars.",
    "dagferry-server serve --data-dir /var/lib/dagferry --tokens-file tokens.toml --listen :8000",
    SETTINGS,
    _main,
)
