"""Reads the golden files (tests/golden/README.md), for the tests that hold today's code against them.

A test that reads is run for every one of ``FORMATS``, and stays as it is. A test that writes is run for ``WRITTEN``,
the newest format alone.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard

from dagferry_core.tokens import SCOPES

GOLDEN = Path(__file__).parent / "golden"
FORMATS = (GOLDEN / "format2", GOLDEN / "format3", GOLDEN / "format4", GOLDEN / "format5", GOLDEN / "format6")
"""The folders that ``golden/make.py`` made; ``format1`` is older than that, and has tests of its own."""
WRITTEN = FORMATS[-1]
each_format = pytest.mark.parametrize("golden", FORMATS, ids=lambda golden: golden.name)
SHARED_SINCE = 5
"""The first format that has a third deployment, ``SHARED``: all kinds of deploys, and records of state."""
each_shared = pytest.mark.parametrize("golden", FORMATS[SHARED_SINCE - 2 :], ids=lambda golden: golden.name)
DEPLOYMENT, SHARED = "prod", "shared"
DEPLOYS = (1, 2, 3, 4)

RENAMED = {"left_out": "excluded", "left_out_paths": "excluded_paths"}
"""Fields of answers that are called otherwise today: the name in the golden answer, and the name now."""
SCOPES_OF_THEN = ["deploy", "override", "sync", "read", "admin"]
"""All scopes, before there was one for checkers."""
SENTENCES = frozenset({"message", "hint", "warnings", "reason", "problems"})
"""Fields that hold sentences for people, which may be written better."""
SINCE = re.compile(r"This deploy removes [0-9,]+ DAG files?: ")
"""Warnings that no server of then gave, and that do not count."""
UNCOMPARED_HEADERS = frozenset({"date", "server", "content-length"})
"""What differs from run to run or from release to release. Whole bodies are compared, and so their lengths."""


class Exchange(NamedTuple):
    """A request and its answer as they were. A ``body`` is what was JSON, or the bytes."""

    method: str
    path: str
    sent: dict[str, str]
    upload: bytes
    status: int
    headers: dict[str, str]
    body: Any


def exchange(golden: Path, name: str) -> Exchange:
    """Read one exchange of the wire."""
    raw = json.loads((golden / "wire" / f"{name}.json").read_text())
    request, answer = raw["request"], raw["answer"]
    upload = (golden / request["file"]).read_bytes() if "file" in request else b""
    body = (golden / answer["file"]).read_bytes() if "file" in answer else answer["body"]
    return Exchange(
        request["method"], request["path"], request["headers"], upload, answer["status"], answer["headers"], body
    )


def answered_alike(golden: Path) -> list[str]:
    """Name the exchanges whose answers come from the data folder alone: now as then, whatever was deployed since."""
    passing = re.compile(r"then-\d-(upload|current|patch)|shared-\d\d-.*")
    return [path.stem for path in sorted((golden / "wire").glob("*.json")) if not passing.fullmatch(path.stem)]


def arguments(golden: Path) -> list[str]:
    """Return the arguments of the server of then."""
    made = json.loads((golden / "made.json").read_text())
    return list(made.get("arguments", ["--deployments", f"{DEPLOYMENT},staging"]))


def of_shared(golden: Path) -> list[tuple[str, Exchange]]:
    """Read the exchanges that changed ``SHARED``, or were refused, in their order and with their names."""
    names = [path.stem for path in sorted((golden / "wire").glob("shared-[0-9][0-9]-*.json"))]
    return [(name, exchange(golden, name)) for name in names]


def of_deploys(golden: Path, what: str) -> list[Exchange]:
    """Read the exchanges of the way there, one for each deploy, such as every ``upload``."""
    return [exchange(golden, f"then-{number}-{what}") for number in DEPLOYS]


def renamed(body: Any) -> Any:
    """Return a golden body with the names of today."""
    if isinstance(body, dict):
        return {RENAMED.get(name, name): renamed(value) for name, value in body.items()}
    if body == SCOPES_OF_THEN:
        return list(SCOPES)
    return [renamed(item) for item in body] if isinstance(body, list) else body


def holds(now: Any, was: Any) -> bool:
    """Return whether an answer has all that a golden one has; a reader of the old one ignores the rest."""
    if isinstance(was, dict):
        return isinstance(now, dict) and all(name in now and holds(now[name], was[name]) for name in was)
    if isinstance(was, list):
        return isinstance(now, list) and len(now) == len(was) and all(map(holds, now, was))
    return bool(now == was)


def wordless(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the number of sentences in place of each field of sentences."""

    def told(value: Any) -> int:
        return len([one for one in value if not SINCE.match(str(one))]) if isinstance(value, list) else bool(value)

    return {name: told(value) if name in SENTENCES else value for name, value in body.items()}


def compared(headers: Any) -> dict[str, str]:
    """Return the headers that are compared, with names in lower case."""
    return {name.lower(): value for name, value in headers.items() if name.lower() not in UNCOMPARED_HEADERS}


# --- bundles and their like ------------------------------------------------------------------------------------------


def frames_of(data: bytes) -> list[bytes]:
    """Return what each zstd frame holds."""
    found = []
    while data:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        found.append(decompressor.decompress(data))
        data = decompressor.unused_data
    return found


def same_library(golden: Path) -> bool:
    """Return whether zstd has the recorded version, so that it compresses to the same bytes."""
    return bool(json.loads((golden / "made.json").read_text())["zstd"] == list(zstandard.ZSTD_VERSION))


def same_compressed(golden: Path, was: bytes, now: bytes) -> bool:
    """Return whether both are the same: byte for byte if zstd has the recorded version, else frame by frame."""
    return was == now if same_library(golden) else frames_of(was) == frames_of(now)


# --- the data folder -------------------------------------------------------------------------------------------------

_NONCE = re.compile(r"\.[0-9a-f]{16}\.details$")


def listing(folder: Path) -> list[str]:
    """List modes and paths below a folder, with ``NONCE`` for what is random in a name."""
    found = []
    for path in folder.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        name = _NONCE.sub(".NONCE.details", str(path.relative_to(folder)))
        found.append(f"{mode:04o} {name}{'/' if path.is_dir() else ''}")
    return sorted(found, key=lambda line: line.partition(" ")[2])


def copy_data(golden: Path, to: Path) -> Path:
    """Copy the data folder, with the modes and the empty folders that git does not keep."""
    shutil.copytree(golden / "data", to)
    for line in (golden / "data.txt").read_text().splitlines():
        mode, _, name = line.partition(" ")
        path = to / name
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        paths = [*path.parent.glob(path.name.replace("NONCE", "*"))] if "NONCE" in name else [path]
        for one in paths:
            one.chmod(int(mode, 8))
    return to


# --- the volume ------------------------------------------------------------------------------------------------------


def unpack_volume(golden: Path, to: Path) -> Path:
    """Unpack the volume with its links, modes and times."""
    with tarfile.open(golden / "volume.tar.gz") as archive:
        archive.extractall(to, filter="fully_trusted")
    return to


class TreeShape(NamedTuple):
    """A tree on a volume, but for what is random: its records, and each file's mode, content and kinship.

    ``files`` has for each path the mode, the sha256, and whether the file is also in the tree before.
    """

    record: str
    manifest: str
    ended: bool
    files: dict[str, tuple[int, str, bool]]


def shape(root: Path) -> tuple[str, list[TreeShape]]:
    """Return the version that is live, and all trees in the order in which they went live."""
    trees = sorted(
        (path for path in (root / ".trees").iterdir() if path.is_dir()),
        key=lambda path: json.loads((path / "deploy.json").read_text())["serial"],
    )
    found, before = [], set()
    for tree in trees:
        record = (tree / "deploy.json").read_text()
        top = tree / json.loads(record)["version"]
        paths = [path for path in sorted(top.rglob("*")) if not path.is_dir()]
        inodes = {path: path.stat().st_ino for path in paths}
        files = {
            str(path.relative_to(top)): (
                stat.S_IMODE(path.stat().st_mode),
                hashlib.sha256(path.read_bytes()).hexdigest(),
                inodes[path] in before,
            )
            for path in paths
        }
        manifest = zstandard.decompress((tree / "manifest.zst").read_bytes()).decode()
        found.append(TreeShape(record, manifest, (tree / "ended").exists(), files))
        before = set(inodes.values())
    return Path(os.readlink(root / "current")).name, found


# --- the server of then ----------------------------------------------------------------------------------------------


class Replay:
    """A server that answers a follower with what was answered then, as of one deploy after the other."""

    def __init__(self, golden: Path) -> None:
        self.golden = golden
        self.number = DEPLOYS[0]
        self.asked: list[str] = []

    def answer(self, path: str) -> Exchange | None:
        names = [f"then-{self.number}-{what}" for what in ("current", "patch", "whole")]
        found = (exchange(self.golden, name) for name in names if (self.golden / "wire" / f"{name}.json").exists())
        return next((one for one in found if one.path == path), None)


@contextlib.contextmanager
def replayed(golden: Path) -> Iterator[tuple[str, Replay]]:
    """Run a server that replays, and yield its URL with it."""
    replay = Replay(golden)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            replay.asked.append(self.path)
            found = replay.answer(self.path)
            if found is None:
                self.send_error(404)
                return
            body = found.body if isinstance(found.body, bytes) else json.dumps(found.body).encode()
            self.send_response(found.status)
            for name, value in found.headers.items():
                if name.lower() not in UNCOMPARED_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}", replay
        finally:
            http.shutdown()
            thread.join()
