"""The checker's settings: every flag, and the checked values that the rest of the checker sees."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_checker.engine_process import Settings as EngineSettings
from dagferry_checker.limits import Limits
from dagferry_core.errors import SetupError
from dagferry_core.names import DEFAULT_DEPLOYMENT, check_deployment, version_sequence
from dagferry_follow.remote.connection import ConnectionOptions, check_url, is_token
from dagferry_runtime.settings import Setting, parse, seconds, size, whole

PROGRAM = "dagferry-checker"
ABOUT = "Import DAG files in Airflow's own environment, before they are live."

MAX_JOBS = 64
MIN_TIMEOUT_SECONDS = 0.1
MAX_TIMEOUT_SECONDS = 600.0
MAX_ONCE_SECONDS = 86_400.0
MIN_MEMORY_BYTES = 16 << 20
VARIABLES = ("stub", "env")
_MAX_INSTANCE_CHARACTERS = 253


def _folder(text: str) -> str:
    if not text:
        raise ValueError("a folder is expected")
    return os.path.abspath(text)


def _deployments(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_deployment(name.strip()) for name in text.split(",")))


def _instance(text: str) -> str:
    if not (text.isascii() and text.isprintable() and " " not in text and 0 < len(text) <= _MAX_INSTANCE_CHARACTERS):
        raise ValueError(f"1 to {_MAX_INSTANCE_CHARACTERS} ASCII characters without spaces are expected")
    return text


def _variables(text: str) -> str:
    if text not in VARIABLES:
        raise ValueError(f"one of {', '.join(VARIABLES)} is expected")
    return text


def _version(text: str) -> str:
    version_sequence(text)
    return text


def _memory(text: str) -> int:
    number = size(text)
    if number < MIN_MEMORY_BYTES:
        raise ValueError(f"at least {MIN_MEMORY_BYTES >> 20}MiB are expected")
    return number


SETTINGS: tuple[Setting, ...] = (
    Setting("--server", check_url, "http://127.0.0.1:8000", "URL", "The server; a path prefix is kept."),
    Setting("--deployment", check_deployment, DEFAULT_DEPLOYMENT, "NAME", "The deployment whose uploads are checked."),
    Setting(
        "--beside",
        _deployments,
        None,
        "NAME,…",
        "Deployments whose DAGs the same Airflow shows, as its other DAG bundles: a DAG id that is live there, too, is "
        "a problem. The token needs the scope check for them.",
    ),
    Setting("--token", str, "", "TOKEN", "The token for the server; better in a file, or in DAGFERRY_TOKEN."),
    Setting("--token-file", _folder, None, "FILE", "A file with a token of scope check; read for each request."),
    Setting("--ca-file", _folder, None, "FILE", "The CAs to trust, in PEM, instead of this machine's."),
    Setting(
        "--allow-plain-http",
        None,
        default=False,
        metavar="",
        help="Send the token over plain HTTP to another machine too, as inside a cluster.",
    ),
    Setting(
        "--instance",
        _instance,
        None,
        "NAME",
        "The name that the server knows this checker by; by default the host name.",
    ),
    Setting(
        "--work-dir",
        _folder,
        None,
        "DIR",
        "A folder for the trees that are checked; DIR/current is the one that DAG files see. By default a temporary "
        "folder. If DAG files name the dags folder, mount an empty volume where Airflow's is, and name it here.",
    ),
    Setting(
        "--jobs", whole(1, MAX_JOBS), 2, "N", "How many files are imported at a time, each in a process of its own."
    ),
    Setting(
        "--timeout",
        seconds(MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS),
        30.0,
        "SECONDS",
        "How long the import of one file may take.",
    ),
    Setting(
        "--memory",
        _memory,
        1 << 30,
        "BYTES",
        "How much memory the import of one file may allocate, beyond what Airflow itself has.",
    ),
    Setting(
        "--variables",
        _variables,
        "stub",
        "|".join(VARIABLES),
        "Where Variables and Connections come from: made up, or from AIRFLOW_VAR_… and AIRFLOW_CONN_… in the "
        "environment. An error of a file that asked for a missing value is a warning.",
    ),
    Setting(
        "--once",
        None,
        default=False,
        metavar="",
        help="Import what is live with the Airflow and the packages that are here, and exit: with 3 if a file "
        "cannot be imported. For a new image of Airflow, before any pod runs it.",
    ),
    Setting("--check-version", _version, None, "VERSION", "With --once, this version instead of the live one."),
    Setting(
        "--once-timeout",
        seconds(0, MAX_ONCE_SECONDS),
        300.0,
        "SECONDS",
        "With --once, how long the server is tried while it cannot be reached.",
    ),
    Setting("--path", _folder, None, "DIR", "Check this folder instead, without a server, and exit like --once."),
    Setting("--json", None, default=False, metavar="", help="With --once or --path, print the result as JSON."),
)


class Settings(NamedTuple):
    """The checked settings. Times are in seconds, ``memory`` in bytes."""

    server: str
    deployment: str
    beside: tuple[str, ...]
    token: str
    token_file: str | None
    ca_file: str | None
    allow_plain_http: bool
    instance: str
    work_dir: str | None
    jobs: int
    timeout: float
    memory: int
    variables: str
    once: bool
    check_version: str | None
    once_timeout: float
    path: str | None
    json: bool

    @property
    def access(self) -> ConnectionOptions:
        """The checker's credentials for the server."""
        return ConnectionOptions(self.token, self.token_file, self.ca_file)

    @property
    def engine(self) -> EngineSettings:
        """How files are imported."""
        return EngineSettings(self.jobs, Limits(self.timeout, self.memory), self.variables)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the checked settings; raise ``SetupError`` in one line."""
    values = parse(PROGRAM, ABOUT, SETTINGS, arguments, environment)
    values["beside"] = values["beside"] or ()
    _check(values)
    values["instance"] = values["instance"] or socket.gethostname()
    settings = Settings(**values)
    if settings.path is None:
        settings.access.check(settings.server, allow_plain_http=settings.allow_plain_http)
    return settings


def _check(values: Mapping[str, Any]) -> None:
    if values["path"] is not None and (values["once"] or values["check_version"]):
        raise SetupError("--path cannot be combined with --once and --check-version.")
    if values["path"] is not None and values["beside"]:
        raise SetupError("--beside needs a server, so it cannot be combined with --path.")
    if values["deployment"] in values["beside"]:
        raise SetupError(f"--beside has {values['deployment']!r}, which is the --deployment itself.")
    if values["path"] is not None and not os.path.isdir(values["path"]):
        raise SetupError(f"--path={values['path']!r}: the folder does not exist.")
    if values["check_version"] and not values["once"]:
        raise SetupError("--check-version needs --once.")
    if values["json"] and not (values["once"] or values["path"] is not None):
        raise SetupError("--json needs --once or --path.")
    # A token is checked here and not by its Setting, whose errors show what was given.
    if values["token"] and not is_token(values["token"]):
        raise SetupError("--token: one word of printable ASCII is expected.")
    if values["token"] and values["token_file"]:
        raise SetupError("--token and --token-file cannot be combined.")
    if values["ca_file"] and not os.path.isfile(values["ca_file"]):
        raise SetupError(f"--ca-file={values['ca_file']!r}: the file does not exist.")
