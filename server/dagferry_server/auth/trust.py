"""The issuers in effect: whose tokens are trusted, by which keys, under which rules. Reloaded when the file changes.

An invalid file, or one that names a missing file, leaves the last valid one in effect. An issuer whose key source did
not change keeps its keys, so a change of rules fetches nothing.
"""

import asyncio
from functools import partial

from dagferry_core.errors import SetupError
from dagferry_server.auth.fetch import FetchFailed, credentials, fetch_keys
from dagferry_server.auth.issuers import Issuer, KeySource, parse_issuers
from dagferry_server.auth.jwts import TrustedIssuer
from dagferry_server.auth.keys import FileKeys, IssuerKeys
from dagferry_server.config import watched
from dagferry_server.config.blocking import Blocking
from dagferry_server.config.watched import Reload, WatchedFile, log_if_failed, running, watch

ISSUERS, ISSUER_KEYS = "issuers", "issuer_keys"
"""The names of the file, and of the keys of all its issuers, in ``reloads`` and in the metrics."""

_Place = tuple[str, str, KeySource]


class Trust:
    """The issuers in the file at ``path``. Blocks; raises ``SetupError`` if it is invalid when first loaded."""

    def __init__(self, path: str) -> None:
        self._keys: dict[_Place, IssuerKeys | FileKeys] = {}
        self._file = WatchedFile(path, self._trusted, guarded=True)

    @property
    def issuers(self) -> tuple[TrustedIssuer, ...]:
        """The issuers in effect now."""
        return self._file.value

    @property
    def reloads(self) -> dict[str, Reload]:
        """The results of the last reloads: of the file, and of the keys of all issuers together."""
        of_keys = [keys.reload for _, keys in self.issuers]
        errors = [reload.last_error for reload in of_keys if reload.last_error]
        oldest = min((reload.succeeded_at for reload in of_keys), default=0.0)
        return {ISSUERS: self._file.reload, ISSUER_KEYS: Reload(errors[0] if errors else None, oldest)}

    def _trusted(self, data: bytes) -> tuple[TrustedIssuer, ...]:
        places = {(issuer.name, issuer.issuer, issuer.source): issuer for issuer in parse_issuers(data)}
        self._keys = {place: self._keys.get(place) or _keys_of(issuer) for place, issuer in places.items()}
        return tuple(TrustedIssuer(issuer, self._keys[place]) for place, issuer in places.items())

    async def keep_fresh(self) -> None:
        """Reload the file when it changes, and keep the keys of every issuer fresh, until cancelled."""
        tasks: dict[IssuerKeys | FileKeys, asyncio.Task[None]] = {}
        async with running(watch([self._file])):
            try:
                while True:
                    current = {keys for _, keys in self.issuers}
                    for keys in tasks.keys() - current:
                        tasks.pop(keys).cancel()
                    for keys in current - tasks.keys():
                        tasks[keys] = asyncio.create_task(keys.keep_fresh())
                        tasks[keys].add_done_callback(log_if_failed)
                    await asyncio.sleep(watched.LOOK_EVERY_SECONDS)
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)


def _keys_of(issuer: Issuer) -> IssuerKeys | FileKeys:
    try:
        if issuer.source.jwks_file:
            return FileKeys(issuer.name, issuer.source.jwks_file)
        credentials(issuer.source)
    except FetchFailed as error:
        raise SetupError(f"The issuer {issuer.name!r}: {error}.") from error
    except SetupError as error:
        raise SetupError(f"The issuer {issuer.name!r}, {issuer.source.jwks_file}: {error.message}") from error
    return IssuerKeys(issuer.name, partial(fetch_keys, issuer, Blocking(f"files of {issuer.name}")))
