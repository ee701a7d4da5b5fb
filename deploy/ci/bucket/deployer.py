"""Deploys the dags folder that is in a bucket: the whole of it, once it has stopped changing.

Run by tests (tests/deploy/bucket) against a dagferry server, with S3 (moto, versitygw) and GCS (fake-gcs-server).

Nothing is taken from the event that started it. The bucket is listed again and again until the list stays the same for
``settle_seconds``; then exactly these objects are fetched, each by its ETag or generation, and deployed with
``dagferry deploy``. What changed in between, in the bucket or on the server, makes it start over. It returns only if
the server has exactly what was listed; else it raises ``DeployFailed``, so that the event is delivered again.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_path
from dagferry_core.limits import MAX_FILES, MIB
from dagferry_core.protocol import NOTHING_TAG

SETTLE_SECONDS = 15
MAX_SETTLE_SECONDS = 60
"""How long a list must stay the same before it is deployed, unless the setting says otherwise, and its maximum."""
MAX_PREPARE_SECONDS = 150.0
"""How long listing, settling and fetching may take in all, however often it starts over."""
QUESTION_SECONDS = 60
DEPLOY_SECONDS = 200
"""How long dagferry may take to ask for the newest version, and to deploy."""
MAX_TOTAL_BYTES = 256 * MIB
"""How many bytes all objects may have together. They are written below /tmp, which has 512 MB in AWS Lambda."""
FETCHES = 16
"""How many objects are fetched at the same time."""
MAX_SHOWN_CHARACTERS = 200


class DeployFailed(Exception):
    """Nothing was deployed, or it is not known whether it was. The text says why, and what to do."""


class ObjectChanged(Exception):
    """The object is not the one that was listed."""


class Listed(NamedTuple):
    """One object: ``tag`` is its ETag or generation, which another content would not have; ``size`` are its bytes."""

    tag: str
    size: int


class Bucket(Protocol):
    """A bucket. Errors of its client are raised as they are."""

    url: str
    """Where the objects are, for messages: ``s3://BUCKET/PREFIX``."""

    def list(self, most: int) -> Mapping[str, Listed]:
        """Return the objects by their names after the prefix; at most a page more than ``most``."""

    def read(self, name: str, listed: Listed) -> bytes:
        """Return the content of the object that was listed; raise ``ObjectChanged`` if it is another one now."""


class Deployer:
    """Deploys what is in ``bucket``. ``token`` returns the token for the server, ``pause`` waits for seconds."""

    def __init__(
        self,
        bucket: Bucket,
        token: Callable[[], str],
        settle_seconds: float = SETTLE_SECONDS,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._token = token
        self._settle_seconds = settle_seconds
        self._pause = pause
        self._last: tuple[Mapping[str, Listed], dict[str, Any]] | None = None

    def run(self) -> dict[str, Any]:
        """Deploy what is in the bucket; return what the server has now, and whether it had it before."""
        environment = {**os.environ, "DAGFERRY_TOKEN": self._token()}
        until = time.monotonic() + MAX_PREPARE_SECONDS
        while True:
            # The version is asked for before the list: if another run deploys a newer list, this one is refused.
            version = _current(environment)
            listing = self._list()
            if self._last and (listing, version) == (self._last[0], self._last[1]["version"]):
                # One upload of a folder makes many events.
                return {**self._last[1], "unchanged": True, "added": 0, "changed": 0, "removed": 0}
            listing = self._settled(listing, until)
            with tempfile.TemporaryDirectory() as temporary:
                try:
                    self._fetch(listing, temporary, until)
                except ObjectChanged as changed:
                    _say(f"{changed} changed while it was fetched; starting over.")
                    self._check_time(until)
                    continue
                deployed = self._deploy(listing, temporary, version, environment)
            if deployed is not None:
                self._last = (listing, deployed)
                return deployed
            _say("Somebody else deployed meanwhile; starting over.")
            self._check_time(until)

    def _settled(self, listing: Mapping[str, Listed], until: float) -> Mapping[str, Listed]:
        """Return the list of objects as soon as two lists with the pause between them are the same."""
        while True:
            self._pause(self._settle_seconds)
            before, listing = listing, self._list()
            if listing == before:
                return listing
            _say(f"{self._bucket.url} still changes: {len(listing)} objects.")
            self._check_time(until)

    def _check_time(self, until: float) -> None:
        if time.monotonic() > until:
            raise DeployFailed(
                f"{self._bucket.url} could not be fetched as it was for {self._settle_seconds} s within "
                f"{MAX_PREPARE_SECONDS:.0f} s, so nothing was deployed. The next attempt may find it settled."
            )

    def _list(self) -> Mapping[str, Listed]:
        """Return the objects that are files, by their paths; raise ``DeployFailed`` for what must not be deployed."""
        url = self._bucket.url
        listing = {
            name: one
            for name, one in self._bucket.list(MAX_FILES).items()
            if one.size or not (name.endswith("/") or not name)  # consoles make empty objects that look like folders
        }
        if not listing:
            raise DeployFailed(
                f"{url} has no objects. An empty bucket is never deployed, because it is rarely meant. "
                "Is the prefix right?"
            )
        if len(listing) > MAX_FILES:
            raise DeployFailed(f"{url} has more than {MAX_FILES} objects. Is the prefix that of the dags folder?")
        _check_names(listing, url)
        total = sum(one.size for one in listing.values())
        if total > MAX_TOTAL_BYTES:
            largest = max(listing, key=lambda name: listing[name].size)
            raise DeployFailed(
                f"{url} has {total} bytes; at most {MAX_TOTAL_BYTES} are deployed. The largest object is "
                f"{largest!r} with {listing[largest].size} bytes. Keep data outside the prefix of the DAGs."
            )
        return listing

    def _fetch(self, listing: Mapping[str, Listed], temporary: str, until: float) -> None:
        """Write the objects to ``temporary/dags``."""

        def fetch(name: str) -> None:
            self._check_time(until)
            content = self._bucket.read(name, listing[name])
            if len(content) != listing[name].size:
                raise ObjectChanged(name)
            path = os.path.join(temporary, "dags", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)
            os.chmod(path, 0o644)  # objects have no mode

        with ThreadPoolExecutor(FETCHES) as pool:
            tasks = [pool.submit(fetch, name) for name in listing]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _deploy(
        self, listing: Mapping[str, Listed], temporary: str, version: str, environment: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """Deploy ``temporary/dags``; return what the server has then, ``None`` if ``version`` is no longer current."""
        folder = os.path.join(temporary, "dags")
        message = f"{self._bucket.url} ({len(listing)} objects)"
        code, printed, error = _dagferry(
            DEPLOY_SECONDS, environment, temporary, "deploy", folder, "--if-current", version, "--message", message
        )
        if code and error.get("code") == "version_mismatch":
            return None
        deployed = _checked(code, printed, error)["deployed"]
        return {
            "bucket": self._bucket.url,
            "objects": len(listing),
            **{name: deployed[name] for name in ("version", "digest", "unchanged", "added", "changed", "removed")},
        }


def _check_names(listing: Mapping[str, Listed], url: str) -> None:
    """Raise ``DeployFailed``, which names the object, if a name is not the path of a file."""
    folders = {name[:at] for name in listing for at, letter in enumerate(name) if letter == "/"}
    for name in listing:
        try:
            why = "" if check_path(name.encode()) == name else "It would have another name in a folder."
        except (PathRefused, UnicodeEncodeError) as error:
            why = error.message if isinstance(error, PathRefused) else "Its name is not UTF-8."
        if name in folders:
            why = "There are also objects in a folder of this name."
        if why:
            shown = repr(name)[:MAX_SHOWN_CHARACTERS]
            raise DeployFailed(f"{url} has the object {shown}, which cannot be a file. {why} Remove or rename it.")


def _current(environment: Mapping[str, str]) -> str:
    """Return the newest version on the server, ``none`` before the first deploy."""
    with tempfile.TemporaryDirectory() as temporary:
        done = _dagferry(QUESTION_SECONDS, environment, temporary, "history", "--limit", "1")
    deploys = _checked(*done)["deploys"]
    return str(deploys[0]["version"]) if deploys else NOTHING_TAG


def _checked(code: int, printed: str, error: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the command printed; raise ``DeployFailed`` if it failed or printed something else."""
    try:
        answer = json.loads(printed) if code == 0 else None
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    print(json.dumps({"severity": "ERROR", **error}), flush=True)  # with the files that were refused
    said = f"{error.get('message', 'It printed no error.')} {error.get('hint', '')}".strip()
    raise DeployFailed(f"dagferry ended with exit code {code}: {said}")


def _dagferry(
    seconds: int, environment: Mapping[str, str], temporary: str, *arguments: str
) -> tuple[int, str, dict[str, Any]]:
    """Run ``dagferry ARGUMENTS --json``; return its exit code, what it printed, and its error. Warnings are logged."""
    command = [sys.executable, "-m", "dagferry_client", *arguments, "--json"]
    more = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PATH": "",  # so that Git, which would read what somebody put into the bucket as dags/.git, is not found
        "HOME": temporary,  # only below /tmp may be written to
        "XDG_CACHE_HOME": os.path.join(tempfile.gettempdir(), "dagferry-cache"),
    }
    try:
        done = subprocess.run(  # noqa: S603 - nothing from the bucket is an argument
            command,
            cwd=temporary,
            env={**environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeployFailed(f"dagferry {arguments[0]} took more than {seconds} s.") from error
    lines = done.stderr.splitlines()
    for line in lines:
        if not line.startswith("{"):
            _say(line)
    failed = next((json.loads(line) for line in lines if line.startswith("{")), {})
    return done.returncode, done.stdout, failed


def _say(text: str) -> None:
    """Write one line to the function's log."""
    print(json.dumps({"severity": "INFO", "message": text}), flush=True)
