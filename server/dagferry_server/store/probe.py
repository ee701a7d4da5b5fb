"""What is asked of a bucket before a server relies on it: an object is created only once.

Some stores ignore the condition of a write, some answer that they do not know it, and some check it and still let two
servers win that write at the same time. On each of these, a deploy that was answered with success could be lost.
"""

import contextlib
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway, StoreError
from dagferry_server.store.objects import Objects, is_unknown

PROBE_FOLDER = ".dagferry/probe"
WRITABLE = ".dagferry/writable"
RACERS = 6
ROUNDS = 8
"""How many writers race for one object, and how often: a store that is not atomic lets two win now and then."""
NONCE_BYTES = 16
_HINT = (
    "The store must honour If-None-Match: * on PUT (S3, Azure) or x-goog-if-generation-match: 0 (GCS), atomically. "
    "Update it, or use another one."
)


def probe(objects: Objects) -> None:
    """Try it: twice in a row, then in races. ``SetupError`` if the store cannot be used, ``StoreAway`` if it is away.

    Leaves nothing behind, unless it is away at the end.
    """
    with _scratch(objects) as key:
        _twice(objects, key)
    with ThreadPoolExecutor(RACERS) as pool:
        for _ in range(ROUNDS):
            with _scratch(objects) as key:
                _race(objects, key, pool)
    check_refuses(objects)


def check_refuses(objects: Objects) -> None:
    """Ask for an object to be created that there is; ``StoreAway`` unless that is refused. Usually writes nothing."""
    for _ in range(2):  # the first one creates it
        if objects.refuses(WRITABLE, _nonce().encode()):
            return
    raise StoreAway(f"The store {objects.url} accepted two writes to {WRITABLE}, and only one may win.", _HINT)


@contextlib.contextmanager
def _scratch(objects: Objects) -> Iterator[str]:
    """Return a key that nobody uses, and delete its object after the block."""
    key = f"{PROBE_FOLDER}/{_nonce()}"
    try:
        yield key
    finally:
        with contextlib.suppress(StoreError):  # another server deletes it, a day later
            objects.delete(key)


def _twice(objects: Objects, key: str) -> None:
    first, second = _nonce().encode(), _nonce().encode()
    failure = objects.try_create(key, first)
    if failure is not None and is_unknown(failure):
        objects.put(key, first)  # raises if it is something else that is refused, such as the region in the signature
        raise SetupError(
            f"The store {objects.url} cannot be used: it does not know conditional writes; to one of {key}, "
            f"{objects.answer(failure)}.",
            _HINT,
        )
    if failure is not None and not objects.create(key, first):
        raise SetupError(f"The store {objects.url} cannot be used: {key} was written, and has another content.", _HINT)
    failure = objects.try_create(key, second)
    if failure is None or objects.get(key) != first:
        raise SetupError(
            f"The store {objects.url} cannot be used: it answered a second conditional write of {key} with success, "
            "though the object exists.",
            _HINT,
        )


def _race(objects: Objects, key: str, pool: ThreadPoolExecutor) -> None:
    contents = [_nonce().encode() for _ in range(RACERS)]
    won = list(pool.map(lambda content: objects.try_create(key, content) is None, contents))
    if won.count(True) > 1:
        raise SetupError(
            f"The store {objects.url} cannot be used: it answered {won.count(True)} of {RACERS} conditional writes of "
            f"{key} at the same time with success, and only one may win.",
            _HINT,
        )
    stored = objects.get(key)
    if True in won and stored != contents[won.index(True)]:
        raise SetupError(
            f"The store {objects.url} cannot be used: of {RACERS} conditional writes of {key} at the same time, it "
            "answered one with success, and has the content of another.",
            _HINT,
        )


def _nonce() -> str:
    return secrets.token_hex(NONCE_BYTES)
