"""What each parse of a DAG file has read: the process of a parse notes it by itself, and the dag processor collects it.

Airflow's dag processor forks a process for each parse. An audit hook that is there before the fork sees every file
that the process opens and every folder that it lists. Those of a watched root are noted in a file of that process, with
the tree that they belong to::

    <spool>/<pid>-<random>      one parse: a line of JSON for each path, and one at its end; locked until it has ended
    <spool>/reader              touched whenever the spool is collected: nothing is noted for a reader that is gone

The root is a sidecar's volume, or a bundle's: paths are relative to ``<root>/current``, which is what Airflow reads.

A file and not a pipe, because nobody has to wait for the other: the parse writes a line and goes on, and the reader
looks when it has time. A hook cannot be removed (``sys.addaudithook``), so it returns at once for everything else.
"""

import atexit
import contextlib
import errno
import fcntl
import json
import math
import multiprocessing
import multiprocessing.util
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from dagferry_follow.small_files import open_file
from dagferry_follow.volume import removal as removing
from dagferry_follow.volume.root import CURRENT, TREES

MAX_PATHS = 20_000
"""So many paths of one parse are noted. A parse with more is ``cut``."""
MAX_NOTED_BYTES = 16 * 1024 * 1024
MAX_PATH_CHARACTERS = 4096
MAX_FOLDERS = 10_000
"""Of how many folders outside of the watched roots it is kept where they lead to."""
READER_SECONDS = 1800.0
"""After so long without a reader nothing is noted any more: the spool must not grow without a limit."""
EMPTY_SECONDS = 60.0
"""So long an empty file stays: its parse has still to lock it."""
READER = "reader"
_TOUCH = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = frozenset({errno.EINVAL, errno.ELOOP, errno.ENXIO})

_STARTS = frozenset({"os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"})
_EVENTS = frozenset({"open", "os.listdir", "os.scandir"}) | _STARTS
_STARTERS = frozenset({
    "multiprocessing.popen_forkserver", "multiprocessing.popen_spawn_posix",
    "joblib.externals.loky.backend.popen_loky_posix", "loky.backend.popen_loky_posix",
})  # fmt: skip
"""Modules that start other processes without an event. They are imported when the first one is started."""
_IMPORTLIB = "<frozen importlib._bootstrap_external>"
_PYCACHE = "__pycache__"
_WRITES = os.O_WRONLY | os.O_RDWR


class Parse(NamedTuple):
    """One parse of a DAG file that has ended. Times are in seconds since the epoch."""

    file: str
    started: float
    ended: float | None
    """``None`` if its process was killed, or crashed."""
    well: bool
    """Whether its process came to its end without an exception."""
    trees: frozenset[str]
    """The trees that it saw, as ``<unique>/<version>``: more than one if there was a swap meanwhile."""
    opened: frozenset[str]
    listed: frozenset[str]
    cut: bool = False
    """Whether it may have read more than was noted: too much, or by other programs that it started."""

    @property
    def versions(self) -> frozenset[str]:
        """The versions of its trees."""
        return frozenset(tree.rpartition("/")[2] for tree in self.trees)

    @property
    def is_mixed(self) -> bool:
        """Whether it saw more than one tree."""
        return len(self.trees) > 1


class Spool:
    """Where the parses of the files of ``root`` note what they read. To be made before they are forked.

    ``folder`` is a new folder among the temporary ones. Raises ``OSError`` if none can be written.
    """

    def __init__(self, root: str, folder: str | None = None) -> None:
        self.root = root
        self.names = tuple(dict.fromkeys((root, os.path.realpath(root))))  # as Airflow knows it, and its real path
        self.folder = folder or _new_folder()
        self._owner = os.getpid()
        self._touch()
        atexit.register(self.remove)

    def collect(self) -> list[Parse]:
        """Return the parses that have ended since the last call, in the order of their starts."""
        self._touch()
        parses = []
        for name in os.listdir(self.folder):
            if name != READER:
                with contextlib.suppress(OSError):  # as that it is locked: the parse goes on
                    noted = self._take(f"{self.folder}/{name}")
                    if parse := _read(noted):
                        parses.append(parse)
        return sorted(parses, key=lambda parse: parse.started)

    def _take(self, path: str) -> bytes:
        with open(_open(path), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # What a DAG file has forked may outlive the parse, keep the lock, and note what it reads.
                noted = file.read(MAX_NOTED_BYTES)
                if b'\n["end"' not in noted:
                    raise
            else:
                noted = file.read(MAX_NOTED_BYTES)
                if not noted and time.time() - os.fstat(file.fileno()).st_mtime < EMPTY_SECONDS:
                    return b""  # it is just made, and not locked yet
        os.unlink(path)
        return noted

    def hand_over(self, process: int) -> None:
        """Note that another process, forked from this one, collects from now on, and removes the folder at its end."""
        self._owner = process

    def _touch(self) -> None:
        with contextlib.suppress(FileExistsError):  # somebody may tidy up the temporary files
            os.mkdir(self.folder, 0o700)
        path = f"{self.folder}/{READER}"
        try:
            os.close(os.open(path, _TOUCH, 0o600))
        except OSError:  # a DAG file may have put something else there
            _remove(path)
            os.close(os.open(path, _TOUCH, 0o600))
        os.utime(path)

    def remove(self) -> None:
        """Remove the folder, if it is for this process to do so."""
        if os.getpid() == self._owner:
            _remove(self.folder)


def _open(path: str) -> int:
    """Open a file of the spool; anything else that a DAG file has put there is removed."""
    try:
        return open_file(path)
    except OSError as error:
        if error.errno in _NO_FILE:
            _remove(path)
        raise


def _remove(path: str) -> None:
    """Remove a file or a folder, as far as that is possible."""
    with contextlib.suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            removing.remove(path)  # a DAG file may have made folders in folders
        else:
            os.unlink(path)


def _new_folder() -> str:
    try:
        return tempfile.mkdtemp(prefix="dagferry-parses-")
    except OSError:
        return tempfile.mkdtemp(prefix="dagferry-parses-", dir="/dev/shm")


def _read(noted: bytes) -> Parse | None:
    """Return the parse that was noted; ``None`` if nothing of it can be used."""
    file, started, well, cut = "", 0.0, False, False
    ended: float | None = None
    trees: set[str] = set()
    opened: set[str] = set()
    listed: set[str] = set()
    for line in noted.splitlines():
        try:
            words = json.loads(line)
        except (ValueError, RecursionError):
            cut = True  # its process was killed in the middle of a line, or the disk was full
            continue
        # The DAG file runs in the process that notes, and may write anything.
        match words:
            case ["parse", str(file), float(started)] if math.isfinite(started):
                pass
            case ["end", float(moment), bool(well)] if math.isfinite(moment):
                ended = moment
            case ["cut"]:
                cut = True
            case ["open" | "list" as kind, str(tree), str(path)]:
                trees.add(tree)
                (opened if kind == "open" else listed).add(path)
            case _:
                return None
    if not file or not trees:
        return None
    cut = cut or len(noted) >= MAX_NOTED_BYTES
    return Parse(file, started, ended, well, frozenset(trees), frozenset(opened), frozenset(listed), cut)


# --- in the process of a parse ---------------------------------------------------------------------------------------


class _Notes:
    """The file of this process in a spool."""

    def __init__(self, spool: Spool, file: str) -> None:
        self.root = spool.root
        self._seen: set[tuple[str, str, str]] = set()
        self._is_cut = self._is_lost = False
        self._fd = os.open(
            f"{spool.folder}/{os.getpid()}-{os.urandom(4).hex()}",
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
            0o600,
        )
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._stat = os.fstat(self._fd)
        self._owner = os.getpid()
        self._write("parse", file, time.time())
        # Airflow 3 runs what was registered after the fork, and multiprocessing, as in Airflow 2, its own.
        atexit.register(self._end)
        multiprocessing.util.Finalize(None, self._end, exitpriority=0)

    def note(self, kind: str, tree: str, path: str) -> None:
        if (kind, tree, path) in self._seen or len(self._seen) > MAX_PATHS:
            return
        self._seen.add((kind, tree, path))
        if len(self._seen) > MAX_PATHS:
            self.cut()
        else:
            self._write(kind, tree, path)

    def cut(self) -> None:
        if not self._is_cut:
            self._is_cut = True
            self._write("cut")

    def _end(self) -> None:
        if os.getpid() == self._owner:
            if _hook.is_over or not _STARTERS.isdisjoint(sys.modules):  # noting has failed, or others read, too
                self.cut()
            # Called while an exception is handled, if one ended the parse.
            self._write("end", time.time(), sys.exc_info()[0] is None)
            self._owner = -1

    def _write(self, *words: object) -> None:
        line = json.dumps(words).encode() + b"\n"
        if self._is_lost:  # as on a full disk: this is noted as soon as anything can be written
            line = b'\n["cut"]\n' + line
        self._is_lost = True
        with contextlib.suppress(OSError):
            # A DAG file may have closed all descriptors, and opened another file.
            if os.path.samestat(os.fstat(self._fd), self._stat):
                self._is_lost = os.write(self._fd, line) != len(line)


class _Hook:
    """The state of the hook: what is watched, and in the process of a parse what it notes to."""

    def __init__(self) -> None:
        self.is_installed = False
        self.spools: list[Spool] = []
        self.prefixes: tuple[str, ...] = ()
        self.is_parse: Callable[[], bool] = lambda: False
        self.notes: _Notes | None = None
        self.is_over = False
        """Whether this process notes nothing: that is known after its first path."""
        self._busy: set[int] = set()
        self._real_folders: dict[str, str] = {}

    def watch(self, spool: Spool) -> None:
        self.spools.append(spool)
        prefixes = [f"{root}/" for root in spool.names]
        if sys.pycache_prefix:
            prefixes += [sys.pycache_prefix.rstrip("/") + prefix for prefix in prefixes]
        self.prefixes += tuple(prefixes)

    def see(self, event: str, path: str) -> None:
        """Note a path that begins with one of ``prefixes``, if this process parses a DAG file."""
        thread = threading.get_ident()
        if self.is_over or thread in self._busy:
            return
        self._busy.add(thread)  # noting opens a file itself; what other threads open meanwhile is noted
        try:
            if self.notes is None and not self.is_parse():
                return
            kind = "open" if event == "open" else "list"
            for spool in self.spools:
                for root in spool.names:
                    if found := _place(root, path):
                        self._note(spool, kind, *found)
                        return
        finally:
            self._busy.discard(thread)

    def real(self, path: str) -> str:
        """Return another name of ``path``, whose folder may lead into a watched root by a link, or by ``..``."""
        if self.notes is None:
            return path
        folder, slash, name = path.rpartition("/")
        if folder not in self._real_folders:
            if len(self._real_folders) >= MAX_FOLDERS:
                self._real_folders.clear()
            self._real_folders[folder] = os.path.realpath(folder)
        return self._real_folders[folder] + slash + name

    def miss(self) -> None:
        """Note that this process may read what is not seen."""
        if self.notes is not None and threading.get_ident() not in self._busy:
            self.notes.cut()

    def _note(self, spool: Spool, kind: str, tree: str, path: str) -> None:
        if self.notes is None:
            if kind != "open":
                return  # a parse begins with its file
            if time.time() - os.stat(f"{spool.folder}/{READER}").st_mtime > READER_SECONDS:
                self.is_over = True
                return
            self.notes = _Notes(spool, path)
        if spool.root == self.notes.root:
            self.notes.note(kind, tree, path)


_hook = _Hook()


def watch(root: str, is_parse: Callable[[], bool]) -> Spool:
    """Return the spool of what the parses forked from now on read below ``root``.

    ``is_parse`` tells in any process whether it parses a DAG file. Raises ``OSError`` if no spool can be made.
    """
    spool = Spool(root)
    _hook.is_parse = is_parse
    _hook.watch(spool)
    if not _hook.is_installed:
        _hook.is_installed = True
        sys.addaudithook(_audit)
    return spool


def ignore_this_process() -> None:
    """Note nothing of this process, which parses nothing although it was forked by the dag processor."""
    _hook.is_over = True


def _audit(event: str, args: tuple[object, ...]) -> None:
    if event not in _EVENTS or _hook.is_over:
        return
    try:
        _look(event, args)
    except Exception:  # noqa: BLE001 - the DAG file must not notice
        _hook.is_over = True


def _look(event: str, args: tuple[object, ...]) -> None:
    if event in _STARTS or (event != "open" and isinstance(args[0], int)):  # or a descriptor is listed
        _hook.miss()
        return
    path = args[0]
    if type(path) is not str or path[:1] != "/":
        if _is_os_open(event, args) and not _writes(args):
            _hook.miss()  # it may be relative to a descriptor (dir_fd), which is unknown here
        path = _absolute("." if path is None else path)
    if not path.startswith(_hook.prefixes) and not (path := _hook.real(path)).startswith(_hook.prefixes):
        return
    if event == "open":
        if _writes(args):
            return
    elif sys._getframe(2).f_code.co_filename == _IMPORTLIB:  # noqa: SLF001
        return  # looking for a module lists every folder of sys.path
    _hook.see(event, path)


def _is_os_open(event: str, args: tuple[object, ...]) -> bool:
    """Return whether it is ``os.open``, which alone has no mode, of a path that may be relative."""
    path = args[0]
    if event != "open" or len(args) < 2 or args[1] is not None:  # noqa: PLR2004 - path, mode, flags
        return False
    return os.fsencode(path)[:1] != b"/" if isinstance(path, str | bytes | os.PathLike) else True


def _writes(args: tuple[object, ...]) -> bool:
    flags = args[2] if len(args) > 2 else 0  # noqa: PLR2004 - path, mode, flags
    return isinstance(flags, int) and bool(flags & _WRITES)


def _absolute(path: object) -> str:
    """Return an absolute path as text; ``""`` for a descriptor, and for what cannot be below a root."""
    if isinstance(path, bytes | os.PathLike):
        with contextlib.suppress(Exception):  # whatever a class of a DAG file does
            path = os.fsdecode(path)
    if not isinstance(path, str):
        return ""
    path = str.__str__(path)  # a subclass, such as an enumeration, may say something else of itself
    if path[:1] == "/":
        return path
    if _hook.notes is not None:  # a parse begins with its file, whose path is absolute
        with contextlib.suppress(OSError):
            return f"{os.getcwd()}/{path}"
    return ""


def _place(root: str, path: str) -> tuple[str, str] | None:
    """Return the tree that ``path`` is in, and its path there; ``None`` if it is not in a tree of ``root``."""
    if path.endswith(".pyc") and (source := _source_of(path)):
        path = source
    if not path.startswith(f"{root}/") or len(path) > MAX_PATH_CHARACTERS:
        return None
    path = os.path.normpath(path)[len(root) + 1 :]
    first, _, rest = path.partition("/")
    if first == CURRENT:
        # Before the file is opened: after a swap in between it counts for the tree before, which is not too much.
        return os.readlink(f"{root}/{CURRENT}").removeprefix(f"{TREES}/"), rest
    if first == TREES:
        unique, _, rest = rest.partition("/")
        version, _, rest = rest.partition("/")
        return (f"{unique}/{version}", rest) if version else None
    return None


def _source_of(cached: str) -> str:
    """Return the path of the module that a .pyc is of; ``""`` if it is not in ``__pycache__``."""
    folder, _, name = cached.rpartition("/")
    module = name.partition(".")[0]
    if sys.pycache_prefix and folder.startswith(sys.pycache_prefix):
        return f"{folder[len(sys.pycache_prefix.rstrip('/')) :]}/{module}.py"
    above, _, last = folder.rpartition("/")
    return f"{above}/{module}.py" if last == _PYCACHE else ""
