"""How servers sign what they send each other, with a secret that all of them have.

A request is signed over its method, path, time, nonce and body, so that it cannot be changed, sent elsewhere, or sent
again: a receiver accepts a time that is ``SKEW_SECONDS`` off at most, and each nonce once. The answer is signed over
the request's nonce, so that it answers this request and no other.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from dagferry_core.errors import SetupError
from dagferry_server.errors import PeerRefused

TIME_HEADER, NONCE_HEADER, SIGNATURE_HEADER = "Dagferry-Peer-Time", "Dagferry-Peer-Nonce", "Dagferry-Peer-Signature"
SKEW_SECONDS = 60
"""How much the clocks of two servers may differ."""
MAX_NONCES = 100_000
"""How many requests are remembered, so that none is accepted twice; 20 servers send about 5,000 within the skew."""
MIN_SECRET_BYTES = 32
MAX_SECRETS = 4
_NONCE = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"[0-9]{1,12}")


def parse_secrets(data: bytes) -> tuple[bytes, ...]:
    """Return the secrets in a file, one a line: the first one signs, and each of them is accepted.

    Raises ``SetupError``, without the content, if there is none, or one is so short that it could be guessed.
    """
    found = tuple(line.strip() for line in data.splitlines() if line.strip())
    if not found or len(found) > MAX_SECRETS:
        raise SetupError(
            f"The file of --peer-secret-file has {len(found)} secrets; one is expected, or up to {MAX_SECRETS}, one a "
            "line, while it is being exchanged.",
            "Make one with: openssl rand -hex 32",
        )
    if short := [len(secret) for secret in found if len(secret) < MIN_SECRET_BYTES]:
        raise SetupError(
            f"A secret of --peer-secret-file has {short[0]} bytes; at least {MIN_SECRET_BYTES} are required.",
            "Make one with: openssl rand -hex 32",
        )
    return found


def request_headers(secret: bytes, path: str, body: bytes, now: float, nonce: str) -> dict[str, str]:
    """Return the headers of a signed POST. ``now``: seconds since the epoch; ``nonce``: of ``new_nonce``."""
    sent = str(int(now))
    return {
        TIME_HEADER: sent,
        NONCE_HEADER: nonce,
        SIGNATURE_HEADER: _signature(secret, "request", "POST", path, sent, nonce, body),
    }


def new_nonce() -> str:
    """Return a random text that names one request."""
    return secrets.token_hex(16)


def answer_headers(secret: bytes, nonce: str, body: bytes) -> dict[str, str]:
    """Return the headers of the signed answer to the request with this nonce."""
    return {SIGNATURE_HEADER: _signature(secret, "answer", nonce, body)}


def is_signed_answer(accepted: Sequence[bytes], nonce: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Return whether an answer was signed for the request with this nonce."""
    return _is_one_of(headers.get(SIGNATURE_HEADER, ""), accepted, "answer", nonce, body)


class Verifier:
    """Checks requests of other servers. ``accepted`` returns the secrets, ``clock`` seconds since the epoch."""

    def __init__(self, accepted: Callable[[], Sequence[bytes]], clock: Callable[[], float] = time.time) -> None:
        self._accepted = accepted
        self._clock = clock
        self._nonces: set[str] = set()
        self._ages: deque[tuple[float, str]] = deque()

    def check(self, path: str, body: bytes, headers: Mapping[str, str]) -> str:
        """Return the nonce of a request; raise ``PeerRefused`` unless a server with the secret has just sent it."""
        sent, nonce = headers.get(TIME_HEADER, ""), headers.get(NONCE_HEADER, "")
        if not _TIME.fullmatch(sent) or not _NONCE.fullmatch(nonce):
            raise PeerRefused("The request has no valid time and nonce of another server.")
        signature = headers.get(SIGNATURE_HEADER, "")
        if not _is_one_of(signature, self._accepted(), "request", "POST", path, sent, nonce, body):
            raise PeerRefused("The request is not signed with the secret of this server's --peer-secret-file.")
        now = self._clock()
        if abs(now - int(sent)) > SKEW_SECONDS:
            raise PeerRefused(
                f"The request was signed {now - int(sent):+.0f} s ago by this server's clock; {SKEW_SECONDS} s are "
                "allowed: set the clocks of both servers.",
            )
        self._remember(nonce, now)
        return nonce

    def _remember(self, nonce: str, now: float) -> None:
        while self._ages and self._ages[0][0] < now - 2 * SKEW_SECONDS:
            self._nonces.discard(self._ages.popleft()[1])
        if nonce in self._nonces or len(self._nonces) >= MAX_NONCES:
            raise PeerRefused("The request was received before, or too many were.")
        self._nonces.add(nonce)
        self._ages.append((now, nonce))


def _is_one_of(signature: str, accepted: Sequence[bytes], *parts: "str | bytes") -> bool:
    sent = signature.encode(errors="replace")
    return any(hmac.compare_digest(sent, _signature(secret, *parts).encode()) for secret in accepted)


def _signature(secret: bytes, *parts: "str | bytes") -> str:
    """Return the HMAC-SHA256, in hex, of the parts; the last one, a body, by its hash."""
    *texts, body = parts
    hashed = hashlib.sha256(body if isinstance(body, bytes) else body.encode()).hexdigest()
    signed = "\n".join(("dagferry-peer-1", *(str(text) for text in texts), hashed))
    return hmac.digest(secret, signed.encode(), "sha256").hex()
