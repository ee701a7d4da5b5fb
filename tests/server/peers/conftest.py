"""Fixtures: several real servers in one process, on one store."""

import pytest

from dagferry_server.fleet import fleet as fleets
from dagferry_server.peers import peers as module
from several_servers import Servers


@pytest.fixture
def servers(start, tmp_path, monkeypatch) -> Servers:
    several = Servers(start, tmp_path)
    monkeypatch.setattr(module, "resolve", several.resolve)
    monkeypatch.setattr(module, "RESOLVE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(module, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(module, "COALESCE_SECONDS", 0.02)
    monkeypatch.setattr(fleets, "COALESCE_SECONDS", 0.01)
    monkeypatch.setattr(fleets, "FRESH_SECONDS", 0.0)
    return several


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers have heard all pods as soon as they run."""
    monkeypatch.setattr(fleets, "LOST_AFTER_SECONDS", 0.0)
