"""The operator of the server is warned in time that a token expires."""

import logging
from pathlib import Path

import pytest

from credentials import TokensFile
from dagferry_server.auth import expiry
from dagferry_server.auth.expiry import warn_of_expiry
from dagferry_server.auth.tokens import format_time, parse_tokens
from dagferry_server.config.watched import WatchedFile, running
from running import eventually

DAY = 86400.0
END = 1801353600.0
METRIC = "dagferry_server_token_expiry_timestamp_seconds"


@pytest.fixture
def tokens(tmp_path: Path):
    file = TokensFile(tmp_path / "tokens.toml")
    for name, ends in (("ci", [END]), ("later", [END + 30 * DAY]), ("never", [None]), ("rotated", [END, None])):
        for end in ends:
            file.add(name, ["read"], expires=format_time(end) if end else "")
    return WatchedFile(str(file.path), lambda data: parse_tokens(data, with_users=False))


async def test_a_token_is_named_a_week_and_a_day_before_its_end(tokens, monkeypatch, caplog) -> None:
    monkeypatch.setattr(expiry, "LOOK_AT_EXPIRY_EVERY_SECONDS", 0.001)
    now, looks = [END - 8 * DAY], [0]

    def clock() -> float:
        looks[0] += 1
        return now[0]

    async def warned(days: float) -> list[str]:
        caplog.clear()
        now[0] = END - days * DAY
        goal = looks[0] + 20
        await eventually("some looks", lambda: looks[0] > goal)
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        return [f"{record.fields['token']} {record.fields['expires']}" for record in caplog.records]

    async with running(warn_of_expiry(tokens, clock)):
        assert await warned(8) == []
        assert await warned(6.9) == ["ci 2027-01-31T00:00:00Z"]
        assert await warned(2) == []
        assert await warned(0.9) == ["ci 2027-01-31T00:00:00Z"]
        assert await warned(-1) == []


async def test_the_metric_is_the_next_end(start, tmp_path: Path) -> None:
    file = TokensFile(tmp_path / "tokens.toml")
    secret = file.add("ci", ["read"], expires="2199-01-31T00:00:00Z")
    file.add("gone", ["read"], expires="2020-01-31T00:00:00Z")
    server = await start("--tokens-file", str(file.path), "--admin-listen", "127.0.0.1:0")
    assert (await server.get("/default/dags/deploys", Authorization=secret)).status == 200
    async with server.session.get(f"http://127.0.0.1:{server.admin_port}/metrics") as answer:
        [sample] = [line for line in (await answer.text()).splitlines() if line.startswith(METRIC)]
    assert float(sample.split()[1]) == 7229174400.0
