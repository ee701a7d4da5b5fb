"""A server that is killed at each request that an upload makes to the store, one after the other."""

import os
import re
from pathlib import Path

import pytest

from faulty_store import Request
from harness import Server, Sidecar
from server_processes import LONG, Servers, attempt, history, sequence, unique, until_ready

pytestmark = pytest.mark.slow

FLAGS = ("--store-poll", "60", "--gate", "off")
"""A server that asks the store for nothing but what requests make it ask for."""
BEATS = re.compile(r"\.dagferry/.*")
"""What is asked for all the time, whether there is an upload or not."""
MAX_REQUESTS = 40
NOISE = os.urandom(17 << 20) if LONG else b""
"""More than is sent to the store in one request, so that the long form has each step of a multipart upload too."""


def content(number: int) -> dict[str, bytes]:
    files = unique(number)
    return {**files, "noise.bin": NOISE} if NOISE else files


def shape(cluster: Servers, request: Request) -> str:
    """A request without what is another one each time: digests, nonces, numbers."""
    key = request.key.removeprefix(f"{cluster.under_test.prefix}/")
    return f"{request.kind} {re.sub('[0-9a-f]{12,}', '…', key)}"


def shapes(cluster: Servers, which: int) -> set[str]:
    return {
        shape(cluster, request)
        for request in cluster.proxies[which].requests
        if not BEATS.fullmatch(request.key.removeprefix(f"{cluster.under_test.prefix}/"))
    }


def test_a_server_killed_at_any_request_of_an_upload_loses_nothing_and_leaves_nothing_half_done(
    several, tmp_path: Path, cleanup
) -> None:
    cluster: Servers = several(2)
    tiers = ("--tiers", "4") if LONG else ()
    victim = until_ready(cluster.start(0, *FLAGS, *tiers))
    other = until_ready(cluster.start(1, "--gate", "off", *tiers, past_proxy=True))
    sidecar = Sidecar(other.url, tmp_path / "pod")
    cleanup.insert(0, sidecar.kill)
    victim.deploy(content(0))
    cluster.proxies[0].resume()  # forgets what was requested
    victim.deploy(content(1))
    needed = shapes(cluster, 0)
    assert len(needed) > 4, needed
    killed_at: set[str] = set()

    for number in range(1, MAX_REQUESTS):
        files = content(number + 1)
        before = sequence(victim)

        def kill(request: Request, server: Server = victim) -> None:
            killed_at.add(shape(cluster, request))
            server.process.kill()

        cluster.proxies[0].stop_at(number, kill)
        code, _ = attempt(victim, files)
        cluster.proxies[0].resume()
        if code == 200:  # all its requests were before that number
            entries = before + 1
            break
        assert code == 0, code
        victim.process.wait()
        # Whatever was done: the log is whole, and the next upload to the other server gets its place in it.
        place = other.deploy({"between.py": b"number = %d\n" % number})["sequence"]
        assert place in (before + 1, before + 2)
        # The same again, as a client without an answer sends it, to the server that starts anew.
        victim = until_ready(cluster.start(0, *FLAGS, *tiers))
        again = victim.deploy(files)
        assert again["sequence"] == place + 1
        if place == before + 2:
            assert history(victim)[before]["digest"] == again["digest"]
        sidecar.runs(again["version"])
        assert sidecar.tree() == files
    else:
        pytest.fail(f"an upload has more than {MAX_REQUESTS} requests")
    assert needed <= killed_at, needed - killed_at
    assert [deploy["sequence"] for deploy in history(victim)] == list(range(1, entries + 1))
    cluster.verified(entries=entries)
