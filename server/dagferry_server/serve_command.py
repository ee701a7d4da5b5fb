"""``dagferry-server serve``, and what ``dagferry-server`` does without a command."""

import asyncio
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from dagferry_runtime.commands import Command
from dagferry_runtime.exit import leave
from dagferry_runtime.logs import set_up_logs
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.auth.setup import make_authenticator
from dagferry_server.http.app_state import AppState
from dagferry_server.http.listeners import serve
from dagferry_server.memory import leave_aside, return_large_blocks
from dagferry_server.service import Service
from dagferry_server.settings import SETTINGS, Settings, checked_settings
from dagferry_server.store.address import open_store
from dagferry_server.store.base import Store
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.probing import probed
from dagferry_server.web.opening import open_pages

THREADS = 8
"""Blocking work runs in these: checks, syncs, reads. More would only compete for the same disk."""
SHARED_THREADS = 32
"""The same for a store that other servers use too: there, a thread waits for the network."""


def _main(values: Mapping[str, Any]) -> int:
    settings = checked_settings(values)
    set_up_logs()
    logging.captureWarnings(capture=True)
    return_large_blocks()
    authenticator = make_authenticator(settings)
    with closing(DataFolder(settings.data_dir)) as folder:
        store = open_store(settings.store, folder.root, settings.max_cache_bytes, os.environ)
        asyncio.run(_serve(settings, folder, store, authenticator))
    if store.shared:
        leave(0)  # a thread may wait for the store
    return 0


async def _serve(settings: Settings, folder: DataFolder, store: Store, authenticator: Authenticator) -> None:
    threads = ThreadPoolExecutor(SHARED_THREADS if store.shared else THREADS, "blocking")
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    try:
        state = await AppState.open(settings)
        async with probed(store):
            service = await Service.open(settings, folder, store, authenticator)
            pages = await open_pages(settings)
            leave_aside()
            service.retention.request()
            await serve(settings, service, state, pages)
    finally:
        if store.shared:
            # All uploads have ended. What still waits for the store only reads, and must not hold up the end.
            loop.set_default_executor(ThreadPoolExecutor(1))
            threads.shutdown(wait=False, cancel_futures=True)


SERVE = Command(
    "serve",
    "Receive deploys and serve them to sidecars.",
    "dagferry-server serve --data-dir /var/lib/dagferry --tokens-file tokens.toml --listen :8000",
    SETTINGS,
    _main,
)
