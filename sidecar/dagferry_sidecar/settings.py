"""The sidecar's settings: every flag, and the checked values that the rest of the sidecar sees."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.errors import SetupError
from dagferry_core.names import DEFAULT_DEPLOYMENT, check_deployment
from dagferry_core.protocol import MAX_WAIT_SECONDS
from dagferry_follow import defaults
from dagferry_follow.choose import WhenEmpty
from dagferry_follow.errors import VolumeFailed
from dagferry_follow.remote.connection import ConnectionOptions, check_url, is_token
from dagferry_follow.volume.records import TreeRules
from dagferry_runtime.settings import Setting, address, parse, seconds, size, whole

PROGRAM = "dagferry-sidecar"
ABOUT = "Follow one deployment of a Dagferry server and publish its dags to a folder."

MAX_POLL_INTERVAL_SECONDS = 3600.0
MIN_POLL_INTERVAL_SECONDS = 0.05
MAX_ONCE_SECONDS = 86_400.0

_NAME = re.compile(r"[!-~]{1,253}")


def _folder(text: str) -> str:
    if not text:
        raise ValueError("a folder is expected")
    return os.path.abspath(text)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("1 to 253 ASCII characters without spaces are expected")
    return text


def _component(text: str) -> str:
    return text and _name(text)


def _command(text: str) -> list[str]:
    import shlex  # noqa: PLC0415 - hardly any run needs it

    words = shlex.split(text)
    if not words:
        raise ValueError("a command is expected")
    return words


WHEN_EMPTY = tuple(choice.value for choice in WhenEmpty)


def _when_empty(text: str) -> WhenEmpty:
    if text not in WHEN_EMPTY:
        raise ValueError(f"one of {', '.join(WHEN_EMPTY)} is expected")
    return WhenEmpty(text)


SETTINGS: tuple[Setting, ...] = (
    Setting("--server", check_url, "http://127.0.0.1:8000", "URL", "The server; a path prefix is kept."),
    Setting("--deployment", check_deployment, DEFAULT_DEPLOYMENT, "NAME", "The deployment to follow."),
    Setting("--root", _folder, None, "DIR", "The folder to publish to; Airflow reads DIR/current. Required."),
    Setting("--once", None, default=False, metavar="", help="Sync once and exit, as in an init container."),
    Setting(
        "--once-timeout",
        seconds(0, MAX_ONCE_SECONDS),
        300.0,
        "SECONDS",
        "How long --once tries, or waits for the first deploy, if there is no intact tree. If there is one, --once "
        "exits with 0 when the server cannot be reached.",
    ),
    Setting(
        "--when-empty",
        _when_empty,
        WhenEmpty.WAIT,
        "|".join(WHEN_EMPTY),
        "What to do while nothing is deployed and nothing is published: publish nothing and not be ready, publish "
        "the folder --seed, or publish an empty tree.",
    ),
    Setting(
        "--seed",
        _folder,
        None,
        "DIR",
        "The folder for --when-empty seed, such as the image's own DAGs. One without files is not published: then the "
        "sidecar waits.",
    ),
    Setting(
        *("--listen", address, ("127.0.0.1", 8001), "HOST:PORT"),
        "Where /healthz, /readyz and /metrics are served, and a dag processor on this machine reports what it parsed.",
    ),
    Setting(
        "--poll-wait",
        whole(0, MAX_WAIT_SECONDS),
        defaults.POLL_WAIT_SECONDS,
        "SECONDS",
        "How long each request waits for a deploy; 0 is plain polling. If a proxy interrupts waits, the sidecar asks "
        "for shorter ones.",
    ),
    Setting(
        "--poll-interval",
        seconds(MIN_POLL_INTERVAL_SECONDS, MAX_POLL_INTERVAL_SECONDS),
        defaults.POLL_INTERVAL_SECONDS,
        "SECONDS",
        "The time between plain polls, and the first of the increasing delays after a failure. For the first minute, "
        "an unavailable server is polled every 0.75 s.",
    ),
    Setting(
        "--keep-trees",
        whole(0, defaults.MAX_KEEP_TREES),
        defaults.KEEP_TREES,
        "N",
        "The newest N old trees are kept; the previous one always.",
    ),
    Setting(
        "--keep-hours",
        seconds(0, defaults.MAX_KEEP_HOURS),
        defaults.KEEP_HOURS,
        "HOURS",
        "Trees that were live within this time are kept too, and those that tasks still use.",
    ),
    Setting(
        "--max-tree-bytes",
        size,
        None,
        "BYTES",
        "All trees together stay below this, by default 80 % of the volume of --root: the oldest go first, then the "
        "oldest that tasks still use. The live and the previous tree are always kept.",
    ),
    Setting("--instance", _name, None, "NAME", "The name that the server knows this pod by; by default the host name."),
    Setting("--component", _component, "", "NAME", "What runs in this pod, such as scheduler or worker."),
    Setting("--token", str, "", "TOKEN", "The token for the server; better in a file, or in DAGFERRY_TOKEN."),
    Setting("--token-file", _folder, None, "FILE", "A file with the token; read for each request."),
    Setting(
        "--ca-file",
        _folder,
        None,
        "FILE",
        "The CAs to trust, in PEM, instead of this machine's; for the server and for Airflow's API.",
    ),
    Setting(
        "--allow-plain-http",
        None,
        default=False,
        metavar="",
        help="Send the token over plain HTTP to another machine too, as inside a cluster.",
    ),
    Setting(
        "--airflow-url",
        check_url,
        None,
        "URL",
        "Airflow 3's API server, asked after each swap to list the folder again; only beside the dag processor.",
    ),
    Setting(
        "--airflow-credentials",
        _folder,
        None,
        "FILE",
        "The credentials for --airflow-url: user:password, or a token; read for each swap.",
    ),
    Setting(
        "--hook-command",
        _command,
        None,
        "COMMAND",
        "Run after each swap, without a shell, with DAGFERRY_VERSION, _DIGEST, _SEQUENCE and _FOLDER set.",
    ),
)


class Settings(NamedTuple):
    """The checked settings. Times are in seconds, but ``keep_hours`` in hours; ``max_tree_bytes`` ``None``: a share."""

    server: str
    deployment: str
    root: str
    once: bool
    once_timeout: float
    when_empty: WhenEmpty
    seed: str | None
    listen: tuple[str, int]
    poll_wait: int
    poll_interval: float
    keep_trees: int
    keep_hours: float
    max_tree_bytes: int | None
    instance: str
    component: str
    token: str
    token_file: str | None
    ca_file: str | None
    allow_plain_http: bool
    airflow_url: str | None
    airflow_credentials: str | None
    hook_command: list[str] | None

    @property
    def access(self) -> ConnectionOptions:
        """The sidecar's credentials for the server."""
        return ConnectionOptions(self.token, self.token_file, self.ca_file)

    def tree_rules(self) -> TreeRules:
        """Return which old trees stay; ``VolumeFailed`` if the size of the root's volume is not known."""
        try:
            return defaults.tree_rules(self.root, self.keep_trees, self.keep_hours, self.max_tree_bytes)
        except OSError as error:
            raise VolumeFailed(f"{self.root}: {error.strerror}.") from error


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the checked settings; raise ``SetupError`` in one line."""
    values = parse(PROGRAM, ABOUT, SETTINGS, arguments, environment)
    if values["root"] is None:
        raise SetupError("--root is required: the folder to publish to.")
    if (values["when_empty"] is WhenEmpty.SEED) != (values["seed"] is not None):
        raise SetupError("--when-empty seed and --seed must be given together.")
    if values["seed"] is not None and not os.path.isdir(values["seed"]):
        raise SetupError(f"--seed={values['seed']!r}: the folder does not exist.")
    if (values["airflow_url"] is None) != (values["airflow_credentials"] is None):
        raise SetupError("--airflow-url and --airflow-credentials must be given together.")
    _check_access(values)
    values["instance"] = values["instance"] or socket.gethostname()
    settings = Settings(**values)
    settings.access.check(settings.server, allow_plain_http=settings.allow_plain_http)
    if settings.airflow_url:
        secret = ConnectionOptions(token_file=settings.airflow_credentials)
        secret.check(settings.airflow_url, allow_plain_http=settings.allow_plain_http)
    return settings


def _check_access(values: Mapping[str, Any]) -> None:
    # A token is checked here and not by its Setting, whose errors show what was given.
    if values["token"] and not is_token(values["token"]):
        raise SetupError("--token: one word of printable ASCII is expected.")
    if values["token"] and values["token_file"]:
        raise SetupError("--token and --token-file cannot be combined.")
    if values["ca_file"] and not os.path.isfile(values["ca_file"]):
        raise SetupError(f"--ca-file={values['ca_file']!r}: the file does not exist.")
