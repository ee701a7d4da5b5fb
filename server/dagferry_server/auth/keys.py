"""The keys of one issuer: cached, fetched at most once a minute, and valid while the issuer is unavailable.

A known key is used without waiting. An unknown key triggers a fetch if the last one was at least a minute ago;
concurrent requests wait for the same fetch. Each successful fetch replaces all keys, so withdrawn keys are rejected.
``keep_fresh`` fetches every ten minutes, so that this does not depend on new keys being used. Keys in a file are
reloaded when the file changes, so a key that is not in it is rejected at once.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import jwt

from dagferry_core.errors import SetupError
from dagferry_runtime.logs import fields
from dagferry_server.auth.fetch import FetchFailed
from dagferry_server.config.watched import Reload, WatchedFile, watch
from dagferry_server.errors import CredentialsRefused, IssuerUnavailable

FETCH_EVERY_SECONDS = 60.0
REFRESH_EVERY_SECONDS = 600.0
MAX_KEYS_PER_ISSUER = 100

_RSA = ("RS256", "RS384", "RS512")
_CURVES: Mapping[tuple[object, object], tuple[str, ...]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Type and curve of a key → the algorithms it may verify. The key decides, never the token (RFC 8725 §3.1)."""

ALGORITHMS: tuple[str, ...] = tuple(algorithm for names in _CURVES.values() for algorithm in names)
"""Asymmetric algorithms only: with ``HS*``, anyone who can verify a signature can also make one."""

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""Key id and algorithm → key."""

log = logging.getLogger(__name__)


def parse_keys(document: Mapping[str, Any]) -> Keys:
    """Return the keys of a JWKS document (RFC 7517) that can verify a signature.

    Keys of other types, for encryption, without an id, private or malformed are skipped: an issuer may have such keys
    too. Raises ``FetchFailed`` if the document is not a key set.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS_PER_ISSUER:
        raise FetchFailed(f"the key set has no list of at most {MAX_KEYS_PER_ISSUER} keys")
    keys: dict[tuple[str, str], jwt.PyJWK] = {}
    for key in listed:
        if not isinstance(key, dict) or not _verifies(key):
            continue
        curve = None if key.get("kty") == "RSA" else str(key.get("crv"))
        for algorithm in _CURVES.get((str(key.get("kty")), curve), ()):
            if isinstance(key.get("kid"), str) and key.get("alg", algorithm) == algorithm:
                try:
                    keys.setdefault((key["kid"], algorithm), jwt.PyJWK.from_dict(key, algorithm))
                except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                    log.warning("Issuer key skipped: malformed", extra=fields(key_id=key["kid"][:100]))
    return keys


def _verifies(key: Mapping[str, Any]) -> bool:
    """Return whether a key is public and meant to verify signatures (RFC 7517 §4.2 and §4.3)."""
    operations = key.get("key_ops", ["verify"])
    return key.get("use", "sig") == "sig" and "d" not in key and isinstance(operations, list) and "verify" in operations


def parse_keys_file(data: bytes) -> Keys:
    """Return the keys in a file; raise ``SetupError`` if it is not a key set."""
    try:
        document = json.loads(data)
        return parse_keys(document if isinstance(document, dict) else {})
    except (ValueError, RecursionError):
        raise SetupError("A file with an issuer's keys is not valid JSON.") from None
    except FetchFailed as error:
        raise SetupError(f"A file with an issuer's keys cannot be used: {error}.") from None


def _chosen(keys: Keys, issuer: str, key_id: str, algorithm: str) -> jwt.PyJWK | None:
    key = keys.get((key_id, algorithm))
    if key is None and any(known == key_id for known, _ in keys):
        raise CredentialsRefused(f"The token's key of {issuer!r} cannot be used with the algorithm {algorithm}.")
    return key


def _unknown(keys: Keys, issuer: str) -> CredentialsRefused:
    none = "" if keys else " It has no usable keys."
    return CredentialsRefused(f"The token's key is not among the keys of {issuer!r}.{none}")


class FileKeys:
    """The keys of the issuer called ``name`` in a file; ``SetupError`` if it cannot be used at first."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._file = WatchedFile(path, parse_keys_file, guarded=True)

    @property
    def reload(self) -> Reload:
        """The result of the last reload of the file."""
        return self._file.reload

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """Return the key of this id for this algorithm; raise ``CredentialsRefused`` if the file has none."""
        if key := _chosen(self._file.value, self.name, key_id, algorithm):
            return key
        raise _unknown(self._file.value, self.name)

    async def keep_fresh(self) -> None:
        """Reload the file when it changes, until cancelled."""
        await watch([self._file])


class IssuerKeys:
    """The keys of the issuer called ``name``; ``fetch`` gets its JWKS document or raises ``FetchFailed``.

    ``clock`` is monotonic, in seconds. ``last_error`` says why the last fetch failed, ``None``
    if it did not.
    """

    def __init__(
        self, name: str, fetch: Callable[[], Awaitable[Mapping[str, Any]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.last_error: str | None = None
        self._fetch_document = fetch
        self._clock = clock
        self._keys: Keys = {}
        self._fetch: asyncio.Task[None] | None = None
        self._next_fetch = clock()
        self._fetched = clock()
        self._fetched_at = 0.0  # the same by the wall clock

    @property
    def reload(self) -> Reload:
        """How the last fetch went."""
        return Reload(self.last_error, self._fetched_at)

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """Return the key of this id for this algorithm.

        Raises ``CredentialsRefused`` if the issuer has no such key, and ``IssuerUnavailable`` (503) if that cannot be
        determined now: a client whose token was signed with a brand-new key can then try again.
        """
        if key := self._keys.get((key_id, algorithm)):
            return key
        asked = await self.refresh()
        if key := _chosen(self._keys, self.name, key_id, algorithm):
            return key
        if asked and self.last_error is None:
            raise _unknown(self._keys, self.name)
        wait = max(1, math.ceil(self._next_fetch - self._clock()))
        if self.last_error:
            raise IssuerUnavailable(
                f"The token's key is unknown, and the keys of {self.name!r} cannot be fetched at the moment.",
                retry_after=wait,
            )
        ago = int(self._clock() - self._fetched)
        raise IssuerUnavailable(
            f"The token's key is not among the keys of {self.name!r} fetched {ago} s ago; "
            f"the next fetch is in {wait} s.",
            "Try again then. If the key is still unknown, get a new token from this issuer.",
            retry_after=wait,
        )

    async def refresh(self) -> bool:
        """Fetch the keys, or wait for the fetch in progress; ``False`` if the last was less than a minute ago."""
        if self._fetch is None:
            if self._clock() < self._next_fetch:
                return False
            self._next_fetch = self._clock() + FETCH_EVERY_SECONDS
            self._fetch = asyncio.create_task(self._replace_keys())
        # A waiting request may be cancelled; the others still need the keys.
        await asyncio.shield(self._fetch)
        return True

    async def _replace_keys(self) -> None:
        try:
            self._keys = parse_keys(await self._fetch_document())
            self._fetched = self._clock()
            self._fetched_at = time.time()
            self.last_error = None
        except FetchFailed as error:
            self.last_error = str(error)
            log.warning(
                "Issuer keys cannot be fetched; the known keys stay in effect",
                extra=fields(issuer=self.name, known=len(self._keys), error=self.last_error),
            )
        finally:
            self._fetch = None

    async def keep_fresh(self) -> NoReturn:
        """Fetch the keys now and every ``REFRESH_EVERY_SECONDS``, sooner after a failure, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(FETCH_EVERY_SECONDS if self.last_error else REFRESH_EVERY_SECONDS)
