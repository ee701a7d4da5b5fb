"""Where a command goes and with which credentials: flags, then environment variables, then ``dagferry.toml``.

A server and its credentials belong together: the token and the CA that a file names are for that file's server only,
never for one that a flag or a variable names.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from dagferry_client.branch import current_branch
from dagferry_client.credentials import TokenSource
from dagferry_client.targets_file import Entry, TargetsFile, find_targets_file
from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import SetupError
from dagferry_core.names import check_deployment
from dagferry_follow.remote.connection import ConnectionOptions, check_url, is_token

SERVER, DEPLOYMENT, TOKEN = "DAGFERRY_SERVER", "DAGFERRY_DEPLOYMENT", "DAGFERRY_TOKEN"
_HINT = f"See {DOCUMENTATION}/how-to/configure-the-client.md."
_TRUE = {"1", "true", "yes", "on"}


class Flags(NamedTuple):
    """What was given on the command line."""

    server: str | None = None
    deployment: str | None = None
    target: str | None = None
    token: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    allow_plain_http: bool = False


class Target(NamedTuple):
    """A server, and maybe a deployment of it. ``name`` is that of the target in ``file``, if it has one.

    ``known`` are the names of the file's targets; ``warnings`` are for stderr; ``source`` says where the server came
    from.
    """

    server: str
    deployment: str
    name: str
    token: TokenSource
    ca_file: str | None
    allow_plain_http: bool
    file: Path | None
    known: tuple[str, ...]
    warnings: tuple[str, ...]
    source: str = ""
    airflow_python: str | None = None
    airflow: str | None = None


def resolve(
    flags: Flags,
    environment: Mapping[str, str],
    folder: Path,
    branch: Callable[[Path, Mapping[str, str]], str] = current_branch,
) -> Target:
    """Return where a command that runs in ``folder`` goes; raise ``SetupError`` if that is not known, or invalid.

    The target is the one that ``--target`` names, else that of the deployment that was given, else that of the current
    branch, else the only one of the file.
    """
    file, warnings = find_targets_file(folder)
    server, source = _first((flags.server, "--server"), (environment.get(SERVER), SERVER))
    deployment, deployment_source = _first(
        (flags.deployment, "--deployment"), (environment.get(DEPLOYMENT), DEPLOYMENT)
    )
    if flags.target is not None and flags.server is not None:
        raise SetupError("--target and --server were both given.", "Give one of them: a target has a server.")
    name, entry = "", Entry()
    if flags.target is not None:
        name, entry = _named(flags.target, file)
        server = ""
        # A target that is named explicitly is more than a variable, but not more than the flag --deployment.
        deployment = flags.deployment or entry.deployment or deployment
    elif file and not server:
        name, entry = _chosen(file, deployment, lambda: branch(folder, environment))
    if entry.server and not server:
        server, source = entry.server, f"server in {file.path if file else ''}"
    if not server:
        known = f" {file.path} has the targets {', '.join(file.targets)}." if file and file.targets else ""
        raise SetupError(
            f"No server was given.{known}",
            f"Give a target with --target, or the server with --server or {SERVER}." if known else
            f"Use --server URL, the variable {SERVER}, or a dagferry.toml. {_HINT}",
        )  # fmt: skip
    if not deployment and entry.deployment:
        deployment, deployment_source = entry.deployment, f"deployment in {file.path if file else ''}"
    return Target(
        _checked(check_url, server, source),
        _checked(check_deployment, deployment, deployment_source) if deployment else "",
        name,
        _token(flags, environment, entry),
        flags.ca_file or entry.ca_file,
        flags.allow_plain_http
        or bool(entry.allow_plain_http)
        or environment.get("DAGFERRY_ALLOW_PLAIN_HTTP", "").lower() in _TRUE,
        file.path if file else None,
        tuple(file.targets) if file else (),
        tuple(warnings),
        source=source,
        airflow_python=entry.airflow_python,
        airflow=entry.airflow,
    )


def offline_entry(
    target: str | None,
    environment: Mapping[str, str],
    folder: Path,
    branch: Callable[[Path, Mapping[str, str]], str] = current_branch,
) -> tuple[Entry, list[str]]:
    """Return what the file says of a target for a command that asks no server, and warnings.

    The target is chosen as by ``resolve``. Raises ``SetupError`` if there is none of the name ``target``.
    """
    file, warnings = find_targets_file(folder)
    if target is not None:
        return _named(target, file)[1], warnings
    if file is None:
        return Entry(), warnings
    return _chosen(file, environment.get(DEPLOYMENT, ""), lambda: branch(folder, environment))[1], warnings


def check_exposure(target: Target) -> None:
    """Raise ``SetupError`` if a request to the target would expose its token on the network."""
    token = target.token
    options = ConnectionOptions(token.token, token.file, target.ca_file)
    options.check(target.server, allow_plain_http=target.allow_plain_http)


def _first(*given: tuple[str | None, str]) -> tuple[str, str]:
    return next(((value, source) for value, source in given if value), ("", ""))


def _checked(check: Callable[[str], str], value: str, source: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        # Before an @ there may be a password.
        _, at, shown = value.rpartition("@")
        raise SetupError(f"{source}={'…' * bool(at) + at + shown!r}: {error}.", _HINT) from None


def _named(name: str, file: TargetsFile | None) -> tuple[str, Entry]:
    if file is None:
        raise SetupError(f"There is no target {name!r}: no dagferry.toml was found.", _HINT)
    if name not in file.targets:
        near = difflib.get_close_matches(name, file.targets, 1)
        has = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(file.targets) or 'no targets'}."
        raise SetupError(f"{file.path} has no target {name!r}. {has}", _HINT)
    return name, file.targets[name]


def _chosen(file: TargetsFile, deployment: str, branch: Callable[[], str]) -> tuple[str, Entry]:
    """Return name and settings of the target to use: the file's defaults, without a name, if several are possible."""
    if deployment:
        same = [name for name, entry in file.targets.items() if entry.deployment == deployment]
        return (same[0], file.targets[same[0]]) if len(same) == 1 else ("", _shared(file))
    if any(entry.branches for entry in file.targets.values()) and (current := branch()):
        of_branch = [name for name, entry in file.targets.items() if current in entry.branches]
        if len(of_branch) == 1:
            return of_branch[0], file.targets[of_branch[0]]
    if len(file.targets) == 1 and file.defaults.deployment is None:
        [(name, entry)] = file.targets.items()
        return (name, entry) if not entry.branches else ("", entry._replace(deployment=None))
    return "", _shared(file)


def _shared(file: TargetsFile) -> Entry:
    """Return the file's defaults; the settings that all targets share if the defaults name no server."""
    if file.defaults.server is None:
        found = {entry._replace(deployment=None, branches=()) for entry in file.targets.values()}
        if len(found) == 1:
            return found.pop()
    return file.defaults


def _token(flags: Flags, environment: Mapping[str, str], entry: Entry) -> TokenSource:
    """Return where the token comes from; no source at all means the CI's own token, if there is one."""
    if flags.token is not None and flags.token_file is not None:
        raise SetupError("--token and --token-file were both given.", "Give one of them.")
    if flags.token_file is not None:
        return TokenSource(file=flags.token_file, source="--token-file")
    token, source = _first((flags.token, "--token"), (environment.get(TOKEN), TOKEN))
    if not token and entry.token_env:
        token, source = environment.get(entry.token_env, ""), entry.token_env
        if not token:
            return TokenSource(source=f"the variable {source}, which is not set")
    if token:
        if not is_token(token):
            raise SetupError(f"{source} is not a token: it has blanks, or other characters that no token has.", _HINT)
        return TokenSource(token=token, source=source)
    if entry.token_file:
        return TokenSource(file=entry.token_file, source=entry.token_file)
    return TokenSource()
