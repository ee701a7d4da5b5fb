"""Fixtures of the server's tests: a real server in the test's own event loop, which must not block."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from dagferry_server.auth.setup import make_authenticator
from dagferry_server.http.app_state import AppState
from dagferry_server.http.listeners import Listeners
from dagferry_server.service import Service
from dagferry_server.settings import read_settings
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.local import LocalStore
from dagferry_server.web.opening import open_pages
from running import Running

Start = Callable[..., Awaitable[Running]]


@pytest.fixture(autouse=True)
def _nothing_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("dagferry_server"):
        yield


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a server with these flags on ``tmp_path/data``."""
    running: list[Running] = []

    async def open_server(*flags: str, web: bool = False, **options: Any) -> Running:
        arguments = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), *flags]
        settings = await asyncio.to_thread(read_settings, arguments, {}, lambda: (None, None))
        folder = await asyncio.to_thread(DataFolder, settings.data_dir)
        store = options.pop("store", None) or LocalStore(folder.root)
        authenticator = await asyncio.to_thread(make_authenticator, settings)
        state = await AppState.open(settings)
        service = await Service.open(settings, folder, store, authenticator, **options)
        server = Running(service, state, Listeners(service, state, await open_pages(settings) if web else ()))
        running.append(server)
        await server.open()
        await service.retention.run()
        return server

    yield open_server
    for server in running:
        await server.close()


@pytest.fixture
async def server(start: Start) -> Running:
    return await start()
