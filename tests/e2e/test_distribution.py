"""What networks, proxies and caches do to answers: the last good tree stays, the probes tell the truth, and all heals.

A proxy stands between a real sidecar and a real server and misbehaves on demand; see ``tampering_proxy``.
"""

import contextlib
import itertools
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Server, Sidecar, eventually
from invariants import BESIDE_TREES
from issuer import make_certificate
from tampering_proxy import (
    BUNDLE,
    CURRENT,
    TamperingProxy,
    bad_gateway,
    black_hole,
    cached,
    cut,
    drip,
    elsewhere,
    flip,
    reset,
    sign_in_page,
)

POLL_SECONDS = 0.2
NOISE = random.Random(1).randbytes(2000)
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n", "noise.bin": NOISE}
B = {**A, "shop.py": b"rate = 2\n", "noise.bin": NOISE[::-1]}
C = {**A, "shop.py": b"rate = 3\n"}


class ShortTimeouts(Sidecar):
    """A sidecar that gives up what takes longer than a second; see ``short_timeouts``."""

    def _launch(self, command, wrapper, environment):
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        return super()._launch(("short_timeouts", *command[1:]), wrapper, {**environment, "PYTHONPATH": path})


class Line:
    """A server, a sidecar, and what is between them. The sidecar runs the first deploy."""

    def __init__(self, server: Server, proxy: TamperingProxy, pod: Sidecar) -> None:
        self.server = server
        self.proxy = proxy
        self.pod = pod
        self.old = server.deploy(A)["version"]
        pod.runs(self.old)

    def ready(self) -> tuple[int, dict]:
        status, body = self.pod.probe("/readyz")
        return status, json.loads(body)

    def failures(self, code: str) -> float:
        return self.pod.metric(f'dagferry_sidecar_syncs_total{{outcome="{code}"}}')

    def fails(self, code: str, times: int = 3) -> None:
        """Wait until so many attempts have failed for this reason, and check what the outside is told meanwhile."""
        eventually(f"{times} failures: {code}", lambda: self.failures(code) >= times)
        assert self.pod.live == self.old
        assert self.pod.tree() == A
        status, body = self.ready()
        assert (status, body["version"], body["error"]["code"]) == (200, self.old, code)
        assert self.pod.metric("dagferry_sidecar_live_sequence") == 1
        assert self.pod.metric("dagferry_sidecar_published") == 1
        assert self.pod.probe("/healthz")[0] == 200

    def heals(self, files=B) -> None:
        self.proxy.tampering.clear()
        newest = self.server.current()["version"]
        assert self.pod.runs(newest).tree() == files
        eventually("the error to be gone", lambda: self.ready()[1]["error"] is None)
        assert "Traceback" not in self.pod.log.read_text()


@pytest.fixture
def tampered(serve, started, tmp_path) -> Iterator[Callable[..., Line]]:
    """Start a server, a proxy and a sidecar."""
    proxies: list[TamperingProxy] = []

    def start(sidecar: type[Sidecar] = Sidecar, *flags: str) -> Line:
        server = serve()
        proxies.append(TamperingProxy(server.port))
        pod = sidecar(proxies[-1].url, tmp_path / "pod-0", *flags)
        started.append(pod)
        return Line(server, proxies[-1], pod)

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def stranger():
    """Somebody who listens, and to whom nobody should come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


HARMS = {
    "cut": (cut, "server_unreachable"),
    "reset": (reset, "server_unreachable"),
    "flipped bits": (flip, "digest_mismatch"),
    "502": (bad_gateway, "server_refused"),
    "200 with HTML": (sign_in_page, "answer_invalid"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_bundle_that_is_damaged_in_transit_is_not_published_and_fetched_again(tampered, harm) -> None:
    line = tampered()
    tamper, code = HARMS[harm]
    line.proxy.tampering[BUNDLE] = tamper
    line.server.deploy(B)
    line.fails(code)
    line.heals()


# A 502 to the question what is newest is what a restart looks like: it is asked again soon, for a minute.
@pytest.mark.parametrize(("kind", "tamper"), [(CURRENT, sign_in_page), (BUNDLE, bad_gateway)])
def test_what_fails_is_tried_again_after_pauses_that_grow(tampered, kind, tamper) -> None:
    line = tampered()
    line.proxy.tampering[kind] = tamper
    since = time.monotonic()
    line.server.deploy(B)
    attempts = 4
    eventually("some attempts", lambda: line.proxy.asked(kind, since) >= attempts)
    moments = [request.moment for request in line.proxy.requests if request.kind == kind and request.moment >= since]
    for number, (one, next_one) in enumerate(itertools.pairwise(moments)):
        assert next_one - one >= POLL_SECONDS / 2 * 2**number, f"pause {number} was too short"
    line.heals()


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (cut, "answer_invalid"),
        (reset, "server_unreachable"),
        (bad_gateway, "server_refused"),
        (sign_in_page, "answer_invalid"),
    ],
)
def test_an_answer_that_says_nothing_does_not_change_the_tree_and_is_asked_for_again(tampered, tamper, code) -> None:
    line = tampered()
    line.proxy.tampering[CURRENT] = tamper
    line.server.deploy(B)
    before = line.pod.metric("dagferry_sidecar_last_contact_timestamp_seconds")
    line.fails(code)
    assert line.pod.metric("dagferry_sidecar_last_contact_timestamp_seconds") == before, "that was no good answer"
    assert line.ready()[1]["seconds_since_contact"] > 0
    line.heals()


@pytest.mark.parametrize("kind", [CURRENT, BUNDLE])
def test_a_redirection_elsewhere_is_not_followed(tampered, stranger, kind) -> None:
    line = tampered()
    line.proxy.tampering[kind] = elsewhere(stranger.getsockname()[1])
    line.server.deploy(B)
    line.fails("answer_invalid")
    with contextlib.suppress(BlockingIOError):
        stranger.accept()
        pytest.fail("the sidecar went where it was sent")
    line.heals()


def test_a_patch_that_is_damaged_in_transit_is_followed_by_the_whole_at_once(tampered) -> None:
    line = tampered()

    def flip_patches(client, answer) -> None:
        patch = ("Content-Type", "application/vnd.dagferry.patch") in answer.headers
        flip(client, answer) if patch else client.sendall(answer.head + answer.body)

    line.proxy.tampering[BUNDLE] = flip_patches
    assert line.pod.runs(line.server.deploy(C)["version"]).tree() == C
    patches = [answer for kind, answer in line.proxy.answers if "patch" in dict(answer.headers)["Content-Type"]]
    assert len(patches) == 1
    assert line.proxy.asked(BUNDLE) == 3, "the first deploy, a patch, the whole"
    line.heals(C)


def test_an_old_answer_out_of_a_cache_is_not_taken_and_not_asked_for_in_a_hot_loop(tampered) -> None:
    line = tampered()
    first = next(answer for _, answer in line.proxy.answers if line.old.encode() in answer.body)
    newest = line.server.deploy(B)["version"]
    line.pod.runs(newest)
    line.proxy.tampering[CURRENT] = cached(first)
    line.server.deploy(C)
    eventually("the refusal", lambda: line.failures("sequence_regressed") >= 1)
    since = time.monotonic()
    eventually("more such answers", lambda: line.proxy.asked(CURRENT, since) >= 5)
    # It comes at once, so it is asked for as when polling.
    assert line.proxy.asked(CURRENT, since) <= 2 + (time.monotonic() - since) / POLL_SECONDS
    assert (line.pod.live, line.pod.tree()) == (newest, B)
    status, body = line.ready()
    assert (status, body["version"], body["error"]["code"]) == (200, newest, "sequence_regressed")
    line.heals(C)


@pytest.mark.parametrize("tamper", [black_hole, drip])
@pytest.mark.parametrize("kind", [CURRENT, BUNDLE])
def test_an_answer_that_never_ends_is_given_up(tampered, kind, tamper) -> None:
    line = tampered(ShortTimeouts, "--poll-wait", "1")
    line.proxy.tampering[kind] = tamper
    line.server.deploy(B)
    code = "answer_invalid" if (kind, tamper) == (CURRENT, drip) else "server_unreachable"
    line.fails(code, times=2)
    line.heals()


def test_a_first_sync_that_never_gets_a_whole_bundle_is_not_ready_and_then_is(serve, follow) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    proxy = TamperingProxy(server.port)
    proxy.tampering[BUNDLE] = cut
    with contextlib.closing(proxy):
        pod = follow(proxy.url)
        failures = 'dagferry_sidecar_syncs_total{outcome="server_unreachable"}'
        eventually("the sidecar to answer", lambda: answers(pod))
        eventually("failed attempts", lambda: pod.metric(failures) >= 2)
        status, body = pod.probe("/readyz")
        assert (status, json.loads(body)["error"]["code"]) == (503, "server_unreachable")
        assert pod.live is None
        assert pod.metric("dagferry_sidecar_published") == 0
        assert set(os.listdir(pod.root / ".trees")) <= BESIDE_TREES
        proxy.tampering.clear()
        assert pod.runs(version).tree() == A
        eventually("the sidecar to be ready", lambda: pod.probe("/readyz")[0] == 200)


def test_an_expired_certificate_is_not_accepted_and_a_renewed_one_is(serve, follow, started, tmp_path) -> None:
    folders = [tmp_path / "good", tmp_path / "expired"]
    for folder in folders:
        folder.mkdir()
    good, expired = make_certificate(folders[0]), make_certificate(folders[1], days=0)
    trusted = tmp_path / "trusted.crt"

    def trust(certificate: tuple[str, str]) -> None:
        trusted.with_suffix(".new").write_bytes(Path(certificate[0]).read_bytes())
        trusted.with_suffix(".new").rename(trusted)

    def flags(certificate: tuple[str, str]) -> tuple[str, ...]:
        return ("--tls-cert", certificate[0], "--tls-key", certificate[1])

    trust(good)
    server = serve(*flags(good))
    old = server.deploy(A)["version"]
    pod = follow(server, "pod-0", "--ca-file", str(trusted))
    pod.runs(old)
    server.stop()
    plain = serve()
    newest = plain.deploy(B)["version"]
    plain.stop()
    trust(expired)
    server = Server(server.data, *flags(expired), port=server.port)
    started.append(server)
    eventually("the sidecar to say why", lambda: "certificate has expired" in pod.probe("/readyz")[1])
    status, body = pod.probe("/readyz")
    body = json.loads(body)
    assert (status, body["version"], body["error"]["code"]) == (200, old, "server_unreachable")
    assert (pod.live, pod.tree()) == (old, A)
    server.stop()
    trust(good)
    serve(*flags(good), port=server.port)
    assert pod.runs(newest).tree() == B


def answers(pod) -> bool:
    try:
        return pod.probe("/healthz")[0] == 200
    except OSError:
        return False
