"""nginx as docs/how-to/proxies.md configures it, in front of a server under test."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import eventually

HOME = Path(__file__).parent.parent
_AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{documented}
{more}
}}
"""


def documented(title: str) -> str:
    """The nginx configuration under a heading of docs/how-to/proxies.md."""
    text = (HOME / "docs" / "how-to" / "proxies.md").read_text().partition(f"\n### {title}\n")[2]
    found = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert found, title
    return found[1]


def around(folder: Path, configuration: str, more: str = "") -> str:
    """A whole configuration with this inside of its ``http`` block; its files are in ``folder``."""
    return _AROUND.format(folder=folder, documented=configuration, more=more)


@contextmanager
def nginx(folder: Path, configuration: str, more: str = "") -> Iterator[None]:
    """Run nginx in the foreground with this inside of its ``http`` block, until the end of the block."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs nginx (Debian: nginx-light)")
        pytest.skip("needs nginx (Debian: nginx-light)")
    folder.mkdir()
    # Its workers run as somebody else if it is started by root.
    folder.chmod(0o755)
    path = folder / "nginx.conf"
    path.write_text(around(folder, configuration, more))
    process = subprocess.Popen([program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(path)])
    try:
        eventually("nginx to start", lambda: _runs(process, folder))
        yield
    finally:
        process.terminate()
        process.wait(20)


def _runs(process: "subprocess.Popen[bytes]", folder: Path) -> bool:
    assert process.poll() is None, (folder / "error.log").read_text()
    return (folder / "nginx.pid").exists() and (folder / "nginx.pid").read_text().strip() != ""


def adapted(configuration: str, replacements: Mapping[str, str]) -> str:
    """The documented configuration with names and paths of this test; each of them must be in it."""
    for old, new in replacements.items():
        assert old in configuration, old
        configuration = configuration.replace(old, new)
    return configuration
