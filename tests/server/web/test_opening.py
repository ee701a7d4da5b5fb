"""The web page is there if its libraries are, unless it is switched off; without it, the server is as before."""

import asyncio

from dagferry_server.settings import read_settings
from dagferry_server.web import opening


def settings(*flags: str):
    return read_settings(flags, {}, lambda: (None, None))


async def test_it_is_on_by_default() -> None:
    assert await opening.open_pages(await asyncio.to_thread(settings))


async def test_the_setting_switches_it_off() -> None:
    assert await opening.open_pages(await asyncio.to_thread(settings, "--no-web")) == ()


async def test_without_its_libraries_the_log_says_how_to_get_it(monkeypatch, caplog) -> None:
    monkeypatch.setattr(opening, "is_installed", lambda: False)
    with caplog.at_level("INFO"):
        assert await opening.open_pages(await asyncio.to_thread(settings)) == ()
    assert 'install "dagferry[server,web]"' in str(caplog.records[-1].fields)


def test_a_server_without_a_web_page_loads_no_library_of_it() -> None:
    import subprocess
    import sys

    code = "import sys, dagferry_server.serve_command; print({'jinja2', 'pygments'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
