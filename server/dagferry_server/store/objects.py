"""Objects in a bucket: the seven operations that the store is made of. Nothing else here uses obstore.

An object is known by its key, a path below the prefix of the store's URL. A failure is a ``StoreError`` that names the
object and what the storage answered. No message has a credential in it: neither a request's query, which may be signed,
nor the body of an answer is quoted.

A conditional write is not repeated by obstore, because it cannot distinguish its own earlier write, whose answer was
lost, from that of another server. ``create`` repeats it and reads back what is stored.
"""

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import IO, Any, NamedTuple

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from dagferry_server.errors import StoreAway, StoreDamaged, StoreFull
from dagferry_server.store.base import storage_errors

PART_BYTES = 8 * 1024 * 1024
SINGLE_BYTES = 2 * PART_BYTES
"""A larger file is sent in parts of ``PART_BYTES``, in four requests or more; a smaller one in one request."""
PARTS_AT_ONCE = 3
"""How many parts of a file are sent or fetched at once, and held in memory."""
CONNECT_SECONDS = 3
REQUEST_SECONDS = 10
"""How long a request for a small object may take."""
PART_SECONDS = 120
"""How long a request for a part, or for a file of ``SINGLE_BYTES``, may take: 140 kB/s are enough."""
MAX_RETRIES = 3
"""How often obstore repeats a request that may be repeated, within the time that the first one has."""
CREATE_ATTEMPTS = 5
CREATE_PAUSE_SECONDS = 0.1
"""How often ``create`` tries, and by how much the pause before another attempt grows."""
LIST_CHUNK = 1000
MAX_ANSWER_CHARACTERS = 300

_Cloud = S3Store | GCSStore | AzureStore
_CLOUDS: Mapping[str, type[_Cloud]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_FAILURES = (BaseError, OSError, NotImplementedError, ValueError)
"""What obstore raises; some of its errors are subclasses of Python's."""
_MISSING = (FileNotFoundError, NotFoundError)
"""What it raises after a 404: there is no object, or no bucket, or a proxy answered instead of the storage."""
_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml|error)\b", re.IGNORECASE)
"""How a page of a proxy begins, or an error, that came with status 200; nothing that is stored does."""
_TAKEN = (AlreadyExistsError, PreconditionError)
_STATUS = re.compile(r"non-2xx status code: (\d{3}[^:\n]*)")
_CODE = re.compile(r"<Code>([A-Za-z0-9_.]{1,80})</Code>")
_ASKED = re.compile(r"Error performing [A-Z]+ (\S+) in [^-\n]*- ")
_REASON = re.compile(
    r'(?:message|error): "([^"\n]{2,120})"|InvalidCertificate\(\s*(\w+)|\b(TimedOut|BadScheme|InvalidMessage)\b'
)
_MISSING_IN_BATCH = "(code: 404)"
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "AccountIsDisabled"}
_FULL = {"QuotaExceeded", "EntityTooLarge", "XMinioStorageFull", "InsufficientCapacity"}
_UNKNOWN = {"NotImplemented", "InvalidArgument", "UnsupportedHeader"}
_UNKNOWN_STATUS = ("400", "405", "501")
_DENIED_STATUS = ("401", "403")
_DENIED_HINT = "Check the credentials of the server, and what they may do in the bucket."
_HINTS = {
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the region of the bucket, or to what the store calls it.",
    "PermanentRedirect": "Set AWS_REGION to the region of the bucket.",
    "RequestTimeTooSkewed": "Set the clock of this machine, or of the store: they may differ by 15 minutes.",
}
"""What to do about an answer, by its code."""
_CERTIFICATE_HINT = "If the store's certificate is from an authority of your own, set AWS_CA_BUNDLE to its file."
_REASONS = {
    "TimedOut": "it did not answer in time",
    "BadScheme": "http:// is not allowed",
    "UnknownIssuer": "its certificate is not trusted",
    "CaUsedAsEndEntity": "its certificate is that of an authority",
    "NotValidForName": "its certificate is for another name",
    "NotValidForNameContext": "its certificate is for another name",
    "Expired": "its certificate has expired",
    "ExpiredContext": "its certificate has expired",
    "InvalidMessage": "its answer is not TLS",
}
_PROXY_HINT = "Look at what is between the server and the storage, such as a proxy or an ingress."
_NOTHING = ".nothing"
"""A name that no object has."""
_BUCKET_HINT = "Create the bucket, or correct --store."


class Meta(NamedTuple):
    """An object in a list: its key, its size in bytes, and when it was written by the storage's clock (epoch)."""

    key: str
    size: int
    modified: float


class Objects:
    """The objects below ``prefix`` in a bucket. ``scheme`` is ``s3``, ``gs`` or ``az``.

    ``config`` and ``client`` are settings of obstore, beside those that it finds in the environment. ``ValueError`` if
    they are invalid. Safe for several threads; not to be used after a fork.
    """

    def __init__(
        self, scheme: str, bucket: str, prefix: str, config: Mapping[str, Any], client: Mapping[str, Any]
    ) -> None:
        self._bucket = bucket
        self.url = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")

        def connect(seconds: float, retries: int) -> _Cloud:
            options = {"connect_timeout": f"{CONNECT_SECONDS}s", "timeout": f"{seconds}s", **client}
            backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2}
            retry = {"max_retries": retries, "retry_timeout": timedelta(seconds=seconds), "backoff": backoff}
            kind: Any = _CLOUDS[scheme]
            try:
                store: _Cloud = kind(
                    bucket, prefix=prefix or None, config=dict(config), client_options=options, retry_config=retry
                )
            except (BaseError, OSError, ValueError) as error:
                raise ValueError(_first_line(error)) from None
            return store

        self._once = connect(REQUEST_SECONDS, 0)
        self._small = connect(REQUEST_SECONDS, MAX_RETRIES)
        self._parts = connect(PART_SECONDS, MAX_RETRIES)

    def create(self, key: str, data: bytes) -> bool:
        """Store an object unless its key is taken; return whether it holds ``data`` now.

        ``data`` is of the caller alone, because it has a nonce in it: if the same bytes are stored, an answer was lost.
        """
        failure: Exception | None = None
        for attempt in range(1, CREATE_ATTEMPTS + 1):
            if (failure := self.try_create(key, data)) is None:
                return True
            if isinstance(failure, PermissionDeniedError | UnauthenticatedError):
                break
            # Neither a refusal nor an error says what is stored: another request of the same time may be under way.
            stored = self.get(key)
            if stored is not None:
                return stored == data
            time.sleep(random.uniform(0, attempt * CREATE_PAUSE_SECONDS))  # noqa: S311 - not for secrets
        raise self._failed("Writing", key, failure or TimeoutError())

    def try_create(self, key: str, data: bytes) -> Exception | None:
        """Send one conditional write, and return how it failed; ``None`` if the storage accepted it."""
        try:
            obstore.put(self._once, key, data, mode="create", use_multipart=False)
        except _FAILURES as error:
            return error
        return None

    def refuses(self, key: str, data: bytes) -> bool:
        """Try to create an object; return whether the storage refused because the key is taken.

        If it accepted, the object is stored.
        """
        failure = self.try_create(key, data)
        if failure is not None and not isinstance(failure, _TAKEN):
            failure = self.try_create(key, data)  # one failure may pass
        if failure is not None and not isinstance(failure, _TAKEN):
            raise self._failed("Writing", key, failure)
        return failure is not None

    def put(self, key: str, data: bytes) -> None:
        """Store an object of at most a few megabytes; what has the key is replaced."""
        with self._asking("Writing", key):
            obstore.put(self._small if len(data) < PART_BYTES else self._parts, key, data, use_multipart=False)

    def put_file(self, key: str, file: IO[bytes]) -> None:
        """Store the content of a file, from its start; a large one in parts."""
        multipart = file.seek(0, os.SEEK_END) > SINGLE_BYTES
        file.seek(0)
        with self._asking("Writing", key):
            obstore.put(
                self._parts,
                key,
                file,
                use_multipart=multipart,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    def get(self, key: str, max_bytes: int | None = None, *, large: bool = False) -> bytes | None:
        """Return an object, or its first ``max_bytes`` bytes, if it is not empty; ``None`` if there is none.

        One that may have megabytes is ``large``: it gets more time.
        """
        with self._asking("Reading", key):
            try:
                if max_bytes is not None:
                    data = bytes(obstore.get_range(self._small, key, start=0, length=max_bytes))
                else:
                    data = bytes(obstore.get(self._parts if large else self._small, key).bytes())
            except _MISSING as error:
                if not self._is_missing(error):
                    raise
                return None
        if _PAGE.match(data):
            raise StoreAway(f"Reading {self.url}/{key} failed: it answered with a page instead.", _PROXY_HINT)
        return data

    def get_to_file(self, key: str, file: IO[bytes], size: int) -> bool:
        """Write an object of ``size`` bytes to a file, in parts; return ``False`` if there is none."""

        def fetch(start: int) -> None:
            length = min(PART_BYTES, size - start)
            with self._asking("Reading", key):
                part = obstore.get_range(self._parts, key, start=start, length=length)
            if len(part) != length:
                raise StoreDamaged(f"{self.url}/{key} is shorter than {size} bytes.")
            with storage_errors(f"Writing a copy of {self.url}/{key}"):
                _write_at(file.fileno(), memoryview(part), start)

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                list(pool.map(fetch, range(0, size, PART_BYTES)))
        except StoreAway as error:
            if isinstance(error.__cause__, _MISSING) and self._is_missing(error.__cause__):
                return False
            raise
        return True

    def list(self, folder: str) -> Iterator[Meta]:
        """Return what is below a folder, at any depth, in no order. The folder's name has no slash at its end."""
        is_empty = True
        with self._asking("Listing", folder):
            for chunk in obstore.list(self._small, folder, chunk_size=LIST_CHUNK):
                for item in chunk:
                    is_empty = False
                    yield Meta(item["path"], item["size"], item["last_modified"].timestamp())
        if is_empty:
            self._check_answers(folder)

    def folders(self) -> Sequence[str]:
        """Return the names of the folders at the top, in no order."""
        with self._asking("Listing", ""):
            found = obstore.list_with_delimiter(self._small)["common_prefixes"]
        if not found:
            self._check_answers("")
        return found

    def _check_answers(self, folder: str) -> None:
        """Raise ``StoreAway`` if not the storage answered a list: obstore takes any page for an empty one."""
        if self.get(f"{folder}/{_NOTHING}".lstrip("/")) is not None:
            raise StoreAway(f"Listing {self.url}/{folder} failed: each request has the same answer.", _PROXY_HINT)

    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        with self._asking("Deleting", key):
            try:
                obstore.delete(self._small, key)
            except _MISSING as error:
                if not self._is_missing(error):
                    raise

    @contextlib.contextmanager
    def _asking(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise self._failed(action, key, error) from error

    def _failed(self, action: str, key: str, error: Exception) -> StoreAway | StoreFull:
        text = f"{action} {self.url}/{key} failed: {self.answer(error)}."
        code = _CODE.search(str(error))
        if code and code[1] in _FULL:
            return StoreFull(text)
        return StoreAway(text, hint) if (hint := self._hint(error, code[1] if code else "")) else StoreAway(text)

    def _hint(self, error: Exception, code: str) -> str:
        """Return what to do about a failure, whose answer has this code; empty for what may pass by itself."""
        status = _STATUS.search(str(error))  # a list that is denied has no error of its own kind
        is_denied = (status is not None and status[1].startswith(_DENIED_STATUS)) or bool(self._elsewhere(error))
        hints = (
            (self._has_no_bucket(error), _BUCKET_HINT),
            (code in _HINTS, _HINTS.get(code, "")),
            ("InvalidCertificate" in str(error), _CERTIFICATE_HINT),
            (is_denied, _DENIED_HINT),
            (isinstance(error, _MISSING), _PROXY_HINT),
        )
        return next((hint for applies, hint in hints if applies), "")

    def answer(self, error: BaseException) -> str:
        """Return what the storage answered, or why it could not be asked: a few words, without anything secret."""
        text = str(error)
        who = f"for credentials, {url} was asked, and it" if (url := self._elsewhere(error)) else "it"
        if status := _STATUS.search(text):
            code = _CODE.search(text)
            return f"{who} answered {status[1].strip()}" + (f" ({code[1]})" if code else "")
        said = _first_line(error)
        reasons = [next(filter(None, match.groups())) for match in _REASON.finditer(text)]
        if reasons:
            said += f" ({_REASONS.get(reasons[-1], reasons[-1])})"
        return f"for credentials, {url} was asked: {said}" if url else said

    def _elsewhere(self, error: BaseException) -> str:
        """Return the URL that was asked, without its query, if that is not one of the bucket: it gives credentials."""
        asked = _ASKED.search(str(error))
        url = asked[1].partition("?")[0] if asked else ""
        return "" if self._bucket in url or "://" not in url else url

    @staticmethod
    def _is_missing(error: BaseException) -> bool:
        """Return whether the storage itself said that there is no such object: it gives a code, and no proxy does.

        So does the part of an answer to a batch that is about this object, as Azure has them.
        """
        code = _CODE.search(str(error))
        return (code is not None and code[1] not in _NO_BUCKET) or _MISSING_IN_BATCH in str(error)

    @staticmethod
    def _has_no_bucket(error: BaseException) -> bool:
        code = _CODE.search(str(error))
        return code is not None and code[1] in _NO_BUCKET


def is_unknown(error: BaseException) -> bool:
    """Return whether the storage answered that it does not know such a request."""
    status = _STATUS.search(str(error))
    code = _CODE.search(str(error))
    return (
        (status is not None and status[1].startswith(_UNKNOWN_STATUS))
        or (code is not None and code[1] in _UNKNOWN)
        or isinstance(error, NotImplementedError)
    )


def _first_line(error: BaseException) -> str:
    line = str(error).partition("\n")[0].strip().rstrip(".")
    line = re.sub(r"^Generic \w+ error: |Error performing (token|list) request: ", "", line)
    line = _ASKED.sub("", line)
    return re.sub(r"\?[^\s\"')]+", "", line)[:MAX_ANSWER_CHARACTERS]  # the query of a URL may have a signature


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:  # a volume that gets full takes a part, without an error
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def in_threads(count: int, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """Return the results of ``work`` for all items, in their order, from up to ``count`` threads at once."""
    if len(items) < 2:  # noqa: PLR2004 - a thread is for the second
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(count, len(items))) as pool:
        return list(pool.map(work, items))
