"""``dagferry download [V]``: a version as an archive, or as a folder."""

import functools
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import click

from dagferry_client.asking import can_ask, confirm
from dagferry_client.contents import Store, check_digest, read_download
from dagferry_client.deploy_log import LoggedDeploy
from dagferry_client.errors import NotWritten
from dagferry_client.output import Output, size
from dagferry_client.run import Run, sub_command
from dagferry_client.versions import current, find_version
from dagferry_core.archive.paths import quoted
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.errors import SetupError

STDOUT = "-"


class Downloaded(NamedTuple):
    """What was downloaded; ``path`` is the archive or the folder, absolute. ``bytes`` is the size of all files."""

    deployment: str
    version: str
    digest: str
    path: str
    files: int
    bytes: int


@sub_command(
    click.argument("version", metavar="[V]", required=False),
    click.option("-o", "--output", "file", metavar="FILE", help="Where to write the archive; -: to stdout."),
    click.option("--extract", metavar="FOLDER", help="Write the files into this folder, which is new or empty."),
    click.option("-y", "--yes", is_flag=True, help="Replace FILE without asking."),
    examples=(
        "dagferry download -d prod",
        "dagferry download 42 -o old.tar.gz",
        "dagferry download 42 --extract old/",
    ),
    prints=(Downloaded,),
)
def command(run: Run, *, version: str | None, file: str | None, extract: str | None, yes: bool) -> None:
    """Download a version.

    Without V, the current one; without -o, into DEPLOYMENT-VERSION.tar.gz in the current folder. What is downloaded is
    compared with the digest in the deploy log before it gets its name. The archive can be deployed as it is.
    """
    if file is not None and extract is not None:
        raise SetupError("--output and --extract were both given.", "Give one of them.")
    deploy = _deploy(run, version)
    if extract is not None:
        _extract(run, deploy, extract)
    elif file == STDOUT:
        _to_stdout(run, deploy)
    else:
        name = file if file is not None else f"{run.deployment}-{deploy.version}.tar.gz"
        _to_file(run, deploy, name, replace=yes)


def _deploy(run: Run, version: str | None) -> LoggedDeploy:
    if version is None:
        return current(run.api, run.deployment)
    return run.api.deploy(run.deployment, find_version(run.api, run.deployment, version))[0]


def _download(run: Run, deploy: LoggedDeploy, keep: Callable[[bytes], object], store: Store) -> Manifest:
    """Download a version: give its bytes to ``keep`` and its files to ``store``; return its proven manifest."""
    with run.api.download(run.deployment, deploy.version) as pieces:

        def kept() -> Iterator[bytes]:
            for piece in pieces:
                keep(piece)
                yield piece

        found = read_download(kept(), store)
    check_digest(deploy.version, found, deploy.digest)
    return found


def _no_store(_entry: Entry, _content: Iterator[bytes]) -> None:
    """Keep nothing."""


def _to_stdout(run: Run, deploy: LoggedDeploy) -> None:
    if sys.stdout.isatty() or run.output.json_wanted:
        raise SetupError("An archive is not for a terminal, and does not mix with --json.", "Use -o FILE.")
    _download(run, deploy, sys.stdout.buffer.write, _no_store)
    sys.stdout.buffer.flush()


def _to_file(run: Run, deploy: LoggedDeploy, path: str, *, replace: bool) -> None:
    if os.path.isdir(path):
        raise NotWritten(f"{quoted(path)} is a folder.", "Name a file with -o, or the folder with --extract.")
    if os.path.lexists(path) and not replace:
        if not can_ask(run.output):
            raise _exists(path)
        confirm(run.output, f"{path} exists. Replace it?")
        replace = True
    with _local(path):
        part = f"{path}.{secrets.token_hex(4)}.part"
        try:
            with open(part, "xb") as file:
                found = _download(run, deploy, file.write, _no_store)
                _flush(file)
            if replace:
                os.replace(part, path)
            else:
                _give_name(part, path)
        finally:
            _remove(part)
    _report(
        run.output,
        Downloaded(run.deployment, deploy.version, found.digest, os.path.abspath(path), len(found.files), found.size),
    )


def _give_name(part: str, path: str) -> None:
    """Rename, but never replace what has come there meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # no links on this file system
        if os.path.lexists(path):
            raise _exists(path) from None
        os.rename(part, path)


def _exists(path: str) -> NotWritten:
    return NotWritten(f"{quoted(path)} exists.", "Name another file with -o, or replace it with --yes.")


def _extract(run: Run, deploy: LoggedDeploy, folder: str) -> None:
    path = os.path.abspath(folder)
    with _local(path):
        if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
            raise NotWritten(
                f"{quoted(folder)} exists and is not an empty folder.", "Name a new or an empty folder with --extract."
            )
        part = f"{path}.{secrets.token_hex(4)}.part"
        try:
            os.mkdir(part)
            found = _download(run, deploy, lambda _: None, functools.partial(_write, part))
            if os.path.isdir(path):
                os.rmdir(path)  # fails if something is in it by now
            os.rename(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    _report(run.output, Downloaded(run.deployment, deploy.version, found.digest, path, len(found.files), found.size))


def _write(folder: str, entry: Entry, content: Iterator[bytes]) -> None:
    path = os.path.join(folder, *entry.path.split("/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.writelines(content)
    os.chmod(path, entry.mode)


@contextmanager
def _local(path: str) -> Iterator[None]:
    """Turn an error of the file system into ``NotWritten``."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{quoted(path)} cannot be written: {error.strerror or error}.") from error


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _remove(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


def _report(output: Output, done: Downloaded) -> None:
    if output.json_wanted:
        output.json(done)
        return
    output.line(done.path)
    output.say(
        f"{done.version} of {done.deployment}: {done.files} files, {size(done.bytes)}; the digest is {done.digest}."
    )
