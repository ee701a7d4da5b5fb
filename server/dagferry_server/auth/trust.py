"""The issuers file in force: whose tokens are trusted, by which keys, under which rules. Read again when it changes.

What cannot be used, also because a file that it names is missing, leaves the last good one in force. An issuer whose
place did not change keeps its keys, so a change of rules asks nobody for anything.
"""

import asyncio
from functools import partial

from dagferry_core.errors import SetupError
from dagferry_server.auth import watched
from dagferry_server.auth.blocking import Blocking
from dagferry_server.auth.fetch import FetchFailed, credentials, fetch_keys
from dagferry_server.auth.issuers import Issuer, KeySource, parse_issuers
from dagferry_server.auth.jwts import TrustedIssuer
from dagferry_server.auth.keys import FileKeys, IssuerKeys
from dagferry_server.auth.watched import Reload, WatchedFile, running, tell_if_it_broke, watch

ISSUERS, ISSUER_KEYS = "issuers", "issuer_keys"
"""What ``reloads`` and the metrics call the file, and the keys of all issuers in it."""

_Place = tuple[str, str, KeySource]


class Trust:
    """The issuers in the file at ``path``. Blocks; raises ``SetupError`` if it cannot be used at first."""

    def __init__(self, path: str) -> None:
        self._keys: dict[_Place, IssuerKeys | FileKeys] = {}
        self._file = WatchedFile(path, self._trusted, guarded=True)

    @property
    def issuers(self) -> tuple[TrustedIssuer, ...]:
        """Those in force now."""
        return self._file.value

    @property
    def reloads(self) -> dict[str, Reload]:
        """How the last reloads went: of the file, and of the keys of all issuers together."""
        of_keys = [keys.reload for _, keys in self.issuers]
        errors = [reload.last_error for reload in of_keys if reload.last_error]
        oldest = min((reload.succeeded_at for reload in of_keys), default=0.0)
        return {ISSUERS: self._file.reload, ISSUER_KEYS: Reload(errors[0] if errors else None, oldest)}

    def _trusted(self, data: bytes) -> tuple[TrustedIssuer, ...]:
        places = {(issuer.name, issuer.issuer, issuer.source): issuer for issuer in parse_issuers(data)}
        self._keys = {place: self._keys.get(place) or _keys_of(issuer) for place, issuer in places.items()}
        return tuple(TrustedIssuer(issuer, self._keys[place]) for place, issuer in places.items())

    async def keep_fresh(self) -> None:
        """Look at the file, and keep the keys of every issuer in it fresh, until cancelled."""
        tasks: dict[IssuerKeys | FileKeys, asyncio.Task[None]] = {}
        async with running(watch([self._file])):
            try:
                while True:
                    in_force = {keys for _, keys in self.issuers}
                    for keys in tasks.keys() - in_force:
                        tasks.pop(keys).cancel()
                    for keys in in_force - tasks.keys():
                        tasks[keys] = asyncio.create_task(keys.keep_fresh())
                        tasks[keys].add_done_callback(tell_if_it_broke)
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
