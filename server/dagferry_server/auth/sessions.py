"""Sessions of the web page: a signed cookie names an entry of the tokens file, and forms carry a signed word.

The cookie has no rights of its own: what its holder may do is what the entry grants at each request. So it ends with
the entry, when the token is revoked or expires. Servers with the same key accept each other's cookies and forms.
"""

import hmac
import re
import secrets
from typing import NamedTuple

from dagferry_core.errors import SetupError
from dagferry_server.config.watched import WatchedFile

MAX_SESSION_SECONDS = 12 * 3600
"""A working day: after that, people sign in again."""
MIN_KEY_BYTES = 32

_COOKIE = re.compile(r"1\.([0-9a-f]{64})\.([0-9]{1,12})\.([0-9a-f]{64})")


def parse_key(data: bytes) -> bytes:
    """Return the key in a file; raise ``SetupError`` if it is so short that it could be guessed."""
    key = data.strip()
    if len(key) < MIN_KEY_BYTES:
        raise SetupError(
            f"The key of the web page has {len(key)} bytes; at least {MIN_KEY_BYTES} are required.",
            "Make one with: openssl rand -hex 32",
        )
    return key


class Session(NamedTuple):
    """What a valid cookie says: the hash of the token's secret, and when the session ends (seconds since the epoch)."""

    sha256: bytes
    expires: int


class Sessions:
    """Makes and reads cookies and the words of forms. Without a file, the key is random, and ends with the process."""

    def __init__(self, key: WatchedFile[bytes] | None = None) -> None:
        self._file = key
        self._random = secrets.token_bytes(MIN_KEY_BYTES)

    def new(self, sha256: bytes, expires: int) -> str:
        """Return the value of a cookie for the token whose secret has this hash, until ``expires``."""
        said = f"1.{sha256.hex()}.{expires}"
        return f"{said}.{self._sign('session', said)}"

    def read(self, cookie: str, now: float) -> Session | None:
        """Return what a cookie says; ``None`` if it was not made with this key, or has ended by ``now``."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        sha256, expires, signature = match.groups()
        valid = hmac.compare_digest(signature, self._sign("session", f"1.{sha256}.{expires}"))
        return Session(bytes.fromhex(sha256), int(expires)) if valid and now < int(expires) else None

    def form_word(self, owner: str) -> str:
        """Return the word that forms of ``owner`` carry, which no page of another origin knows.

        The owner is a cookie, or the name of a caller who needs none.
        """
        return self._sign("form", owner)

    def is_form_word(self, owner: str, word: str) -> bool:
        """Return whether ``word`` is that of the forms of ``owner``."""
        return hmac.compare_digest(word.encode(errors="replace"), self.form_word(owner).encode())

    def _sign(self, purpose: str, text: str) -> str:
        key = self._file.value if self._file else self._random
        return hmac.digest(key, f"dagferry {purpose}\0{text}".encode(errors="surrogateescape"), "sha256").hex()
