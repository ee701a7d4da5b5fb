"""The server's settings: every flag, and the checked values that the rest of the server sees."""

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from dagferry_core.archive.paths import DEFAULT_EXCLUDES, Excludes
from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import SetupError
from dagferry_core.limits import (
    GIB,
    MAX_EXPANDED_BYTES,
    MAX_FILES,
    MAX_PATHS_BYTES,
    MAX_RATIO,
    MOST_EXPANDED_BYTES,
    MOST_FILES,
    RATIO_FREE_BYTES,
    UploadLimit,
    tiers_from,
    upload_limit,
)
from dagferry_core.loopback import is_loopback
from dagferry_core.names import DEFAULT_DEPLOYMENT, check_deployment
from dagferry_gate.airflowignore import Syntax
from dagferry_gate.rules import NEWEST_PYTHON, PYTHONS, Airflow
from dagferry_runtime.logs import fields
from dagferry_runtime.settings import Setting, address, parse, seconds, size, whole
from dagferry_server.astro_settings import astro_path, public_url
from dagferry_server.auth.access import GATE_LEVELS, GateLevel
from dagferry_server.auth.proxy import PROXY_SECRET_HEADER
from dagferry_server.cgroup import available
from dagferry_server.deploys.checking import AWAYS, POLICIES, Away, Policy
from dagferry_server.peers.addresses import Place, places
from dagferry_server.store.address import Address, parse_store

MAX_TIERS = 10_000
MAX_KEEP_DEPLOYS = 10_000
MAX_KEEP_DAYS = 36_500
MAX_CHECK_SECONDS = 50
AUTO = "auto"
STORE_SHARE = 0.8
"""The part of its volume that the store fills by default; the rest is for what is being received."""

_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_NO_NAME = {"authorization", "cookie", "host", "proxy-authorization", PROXY_SECRET_HEADER.lower()}
"""Headers that contain a secret, or anything else than a user name: it would get into the deploy log."""

log = logging.getLogger(__name__)


def names(text: str) -> tuple[str, ...]:
    """Read names of deployments, separated by commas."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in found:
        check_deployment(name)
    return found


def _patterns(text: str) -> tuple[str, ...]:
    patterns = tuple(pattern.strip() for pattern in text.split(",") if pattern.strip())
    Excludes(patterns)
    return patterns


def _expanded(text: str) -> int:
    number = size(text)
    if number > MOST_EXPANDED_BYTES:
        raise ValueError(f"at most {MOST_EXPANDED_BYTES} bytes are allowed: sidecars accept no more")
    return number


def _tiers(text: str) -> int | str:
    return text if text == AUTO else whole(1, MAX_TIERS)(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} is expected")
        return text

    return read


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError("the name of a header such as X-Forwarded-User is expected")
    if text.lower() in _NO_NAME:
        raise ValueError("this header does not contain a user name; X-Forwarded-User is usual")
    return text


def _path(text: str) -> str:
    # An empty variable, as compose makes of one that is not set, must not switch off what the file is for.
    if not text:
        raise ValueError("a path is expected; remove the setting if it is not needed")
    return text


def _peer_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a host name such as dagferry.example.com is expected")
    return text


def _switch(flag: str, what: str) -> Setting:
    return Setting(flag, parse=None, default=False, metavar="", help=what)


SETTINGS: tuple[Setting, ...] = (
    Setting("--listen", address, ("127.0.0.1", 8000), "HOST:PORT", "Where to listen."),
    Setting(
        "--admin-listen",
        address,
        None,
        "HOST:PORT",
        "Where /readyz, /metrics and /openapi.json are served, without TLS and authentication. Without it they are on "
        "--listen if no credentials are configured, and not served otherwise.",
    ),
    Setting("--data-dir", _path, "/var/lib/dagferry", "DIR", "The data folder; it belongs to this server alone."),
    Setting(
        "--store",
        parse_store,
        None,
        "URL",
        "Where deploy logs and bundles are kept: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, for "
        "any number of servers. By default in the data folder.",
    ),
    Setting(
        "--max-cache-bytes",
        size,
        None,
        "BYTES",
        "With a --store in a bucket, how many bytes of bundles are cached in --data-dir; by default half of its "
        "volume.",
    ),
    Setting(
        "--store-poll",
        seconds(0.1, 60),
        1.0,
        "SECONDS",
        "With a --store in a bucket, how often it is asked for what other servers deployed and changed.",
    ),
    Setting(
        "--deployments",
        names,
        None,
        "NAME,…",
        "The deployments of this server; without this and --deployments-file there is one, default.",
    ),
    Setting(
        "--deployments-file",
        _path,
        None,
        "FILE",
        "The deployments, each with its own settings, instead of --deployments; read again when it changes.",
    ),
    Setting(
        "--tiers",
        _tiers,
        AUTO,
        "auto|N",
        "How many tiers of 15 MiB of compressed upload; auto: as many as the container's CPU and memory limits allow.",
    ),
    _switch("--third-party-ingress", "Uploads come through a third-party ingress: 8 MiB at most."),
    Setting(
        "--max-expanded-bytes",
        _expanded,
        MAX_EXPANDED_BYTES,
        "BYTES",
        f"How many bytes an archive may expand to; at most {MOST_EXPANDED_BYTES // GIB}GiB, the sidecars' own limit.",
    ),
    Setting(
        "--max-files",
        whole(1, MOST_FILES),
        MAX_FILES,
        "N",
        f"How many files and folders an archive may have; at most {MOST_FILES}, the sidecars' own limit.",
    ),
    Setting(
        "--exclude",
        _patterns,
        DEFAULT_EXCLUDES,
        "PATTERN,…",
        "What is excluded from a bundle, at any depth; a trailing slash matches folders only.",
    ),
    _switch("--allow-empty", "Accept archives without files."),
    Setting("--keep-deploys", whole(1, MAX_KEEP_DEPLOYS), 20, "N", "Bundles of the newest N deploys are always kept."),
    Setting("--keep-days", whole(0, MAX_KEEP_DAYS), 90, "DAYS", "Bundles of younger deploys are kept too."),
    Setting(
        "--max-store-bytes",
        size,
        None,
        "BYTES",
        "Above this, only bundles of the newest deploys are kept; by default 80 % of the volume of "
        "--data-dir, and no limit in a bucket.",
    ),
    Setting(
        "--gate",
        _one_of(*GATE_LEVELS),
        None,
        "off|warn|enforce",
        "What happens to DAG files that do not parse: nothing, a warning, or a rejected deploy. By default enforce "
        "where --airflow-python is set, else warn.",
    ),
    Setting(
        "--airflow-python",
        _one_of(*PYTHONS),
        None,
        "3.N",
        f"The Python of the Airflow that reads the DAGs: it must be able to parse them. Without it, {NEWEST_PYTHON}.",
    ),
    Setting(
        "--airflow",
        _one_of(*get_args(Airflow)),
        None,
        "2|3",
        "The major version of that Airflow. With 3, there are warnings about what Airflow 3 removed.",
    ),
    Setting(
        "--airflowignore",
        _one_of(*get_args(Syntax)),
        None,
        "glob|regexp",
        "The syntax of .airflowignore, as in Airflow's setting dag_ignore_file_syntax. By default regexp with "
        "--airflow 2, else glob.",
    ),
    Setting(
        "--max-removed-percent",
        whole(0, 100),
        50,
        "PERCENT",
        "How many percent of the DAG files a deploy may remove, if there are at least 3. 100: all.",
    ),
    Setting(
        "--import-check",
        _one_of(*POLICIES),
        None,
        "off|warn|block",
        "What happens to DAG files that a checker (dagferry-checker) cannot import: nothing, a warning, or a "
        "rejected deploy. By default warn where a checker is connected, else off.",
    ),
    Setting(
        "--check-seconds",
        whole(1, MAX_CHECK_SECONDS),
        45,
        "SECONDS",
        f"How long an upload waits for a checker; at most {MAX_CHECK_SECONDS}, because proxies give up after 60.",
    ),
    Setting(
        "--import-check-away",
        _one_of(*AWAYS),
        "open",
        "open|closed",
        "With --import-check block, what happens to deploys while no checker is connected: they go live with a "
        "warning, or are rejected.",
    ),
    Setting("--tokens-file", _path, None, "FILE", "The tokens, and what each may do; read again when it changes."),
    Setting(
        "--issuers-file",
        _path,
        None,
        "FILE",
        "The issuers whose JWTs are trusted, and what their subjects may do; read again when it changes.",
    ),
    Setting(
        "--proxy-user-header",
        _header,
        None,
        "NAME",
        "The header in which an authenticating proxy sends the user's name; with --proxy-secret-file.",
    ),
    Setting(
        "--proxy-secret-file",
        _path,
        None,
        "FILE",
        "The secret that the proxy must send in Dagferry-Proxy-Secret; read again when it changes.",
    ),
    Setting("--tls-cert", _path, None, "FILE", "Serve --listen over TLS: the certificate and its chain, in PEM."),
    Setting("--tls-key", _path, None, "FILE", "The certificate's key; both are read again when they are renewed."),
    Setting(
        "--astro-cli",
        astro_path,
        None,
        "PATH",
        "Answer the astro CLI at this path, such as /astro, so that astro deploy --dags finds the server.",
    ),
    Setting(
        "--public-url",
        public_url,
        None,
        "URL",
        "Where clients reach the server, with the path of a proxy if it has one. --astro-cli needs it, unless the "
        "server listens on loopback.",
    ),
    Setting(
        "--peers",
        places,
        None,
        "HOST:PORT,…",
        "The --listen of the other servers on the same store; each name is resolved to all of its addresses every few "
        "seconds. With --peer-secret-file.",
    ),
    Setting(
        "--peer-secret-file",
        _path,
        None,
        "FILE",
        "The secret that all servers share, with at least 32 bytes; up to 4 lines are accepted, and the first one "
        "signs. Read again when it changes.",
    ),
    Setting(
        "--peer-server-name",
        _peer_name,
        None,
        "NAME",
        "With --tls-cert: the name in the certificates of the other servers, if it is not that in --peers.",
    ),
    _switch(
        "--single-server",
        "No other server uses the store. On a shared store without --peers, the fleet's status is UNKNOWN otherwise.",
    ),
    _switch("--no-web", "Serve no web page."),
    Setting(
        "--web-key-file",
        _path,
        None,
        "FILE",
        "The key that signs what people sign in with on the web page, the same on all servers; read again when it "
        "changes. By default that of --peer-secret-file; without either, a restart of the server signs everybody out.",
    ),
    _switch("--insecure-no-auth", "Listen on any address without authentication."),
)


class Settings(BaseModel):
    """The checked settings. Raises ``SetupError`` if they do not go together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: tuple[str, int]
    admin_listen: tuple[str, int] | None
    data_dir: str
    store: Address | None
    max_cache_bytes: int | None
    store_poll: float
    deployments: tuple[str, ...] | None
    deployments_file: str | None
    tiers: int
    third_party_ingress: bool
    max_expanded_bytes: int
    max_files: int
    exclude: tuple[str, ...]
    allow_empty: bool
    keep_deploys: int
    keep_days: int
    max_store_bytes: int | None
    gate: GateLevel | None
    airflow_python: str | None
    airflow: Airflow | None
    airflowignore: Syntax | None
    max_removed_percent: int
    import_check: Policy | None
    check_seconds: int
    import_check_away: Away
    tokens_file: str | None
    issuers_file: str | None
    proxy_user_header: str | None
    proxy_secret_file: str | None
    tls_cert: str | None
    tls_key: str | None
    astro_cli: str | None
    public_url: str | None
    peers: tuple[Place, ...] | None
    peer_secret_file: str | None
    peer_server_name: str | None
    single_server: bool
    no_web: bool
    web_key_file: str | None
    insecure_no_auth: bool

    @model_validator(mode="after")
    def _belong_together(self) -> "Settings":
        if (self.proxy_user_header is None) != (self.proxy_secret_file is None):
            raise SetupError("--proxy-user-header and --proxy-secret-file must be given together.")
        if self.proxy_secret_file and not self.tokens_file:
            raise SetupError("--proxy-secret-file needs --tokens-file, which lists what the proxy's users may do.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SetupError("--tls-cert and --tls-key must be given together.")
        if self.deployments and self.deployments_file:
            raise SetupError(
                "--deployments and --deployments-file cannot be combined.",
                "The file lists every deployment: add the names to it and remove --deployments.",
            )
        if self.auth_required and self.insecure_no_auth:
            raise SetupError("--insecure-no-auth conflicts with the credentials that are configured.")
        if self.max_cache_bytes is not None and (self.store is None or self.store.scheme == "file"):
            raise SetupError(
                "--max-cache-bytes is for a --store in a bucket; a store on this disk needs no cache.",
                "Remove it, or add --store s3://BUCKET/PREFIX.",
            )
        if self.public_url and not self.astro_cli:
            raise SetupError("--public-url is for --astro-cli, which is not given.", "Add --astro-cli /astro.")
        if self.astro_cli and not self.public_url and not is_loopback(self.listen[0]):
            raise SetupError(
                f"--astro-cli needs --public-url on a server that listens on {shown_address(self.listen)}: the astro "
                "CLI sends its token to the URL that it gets from here, so that must not come from the request.",
                "Add --public-url with the URL that clients use, such as https://dags.example.com.",
            )
        return self

    @model_validator(mode="after")
    def _peers_belong_together(self) -> "Settings":
        if (self.peers is None) != (self.peer_secret_file is None):
            raise SetupError(
                "--peers and --peer-secret-file must be given together.", "Make a secret with: openssl rand -hex 32"
            )
        if self.peers and self.single_server:
            raise SetupError("--peers and --single-server contradict each other.", "Remove one of them.")
        if self.peer_server_name and not (self.peers and self.tls_cert):
            raise SetupError("--peer-server-name needs --peers and --tls-cert: it is about the peers' certificates.")
        return self

    @model_validator(mode="after")
    def _closed_by_default(self) -> "Settings":
        # The admin listener reveals no secrets, but its information is not public either.
        for flag, listener in (("--listen", self.listen), ("--admin-listen", self.admin_listen)):
            if listener and not self.auth_required and not self.insecure_no_auth and not is_loopback(listener[0]):
                raise SetupError(
                    f"{flag} {shown_address(listener)} can be reached from other hosts, and no credentials are "
                    "configured: anybody could deploy code.",
                    "Add --tokens-file or --issuers-file, listen on 127.0.0.1, or add --insecure-no-auth if something "
                    f"in front of the server authenticates clients. See {DOCUMENTATION}/how-to/set-up-credentials.md.",
                )
        return self

    @property
    def auth_required(self) -> bool:
        """Whether callers need credentials."""
        return bool(self.tokens_file or self.issuers_file or self.proxy_secret_file)

    @property
    def upload_limit(self) -> UploadLimit:
        """The most bytes of a compressed upload, and why."""
        return upload_limit(self.tiers, third_party_ingress=self.third_party_ingress)

    def store_bytes(self, capacity_bytes: int | None) -> float:
        """Return what the store may take, if the storage holds ``capacity_bytes``; ``None``: there is no limit."""
        if self.max_store_bytes is not None:
            return self.max_store_bytes
        return math.inf if capacity_bytes is None else int(capacity_bytes * STORE_SHARE)

    def log(self, max_store_bytes: float) -> None:
        """Log every effective limit, and a warning if callers need no credentials."""
        log.info(
            "Effective limits",
            extra=fields(
                upload_bytes=self.upload_limit.bytes,
                upload_rule=self.upload_limit.rule,
                tiers=self.tiers,
                max_expanded_bytes=self.max_expanded_bytes,
                max_files=self.max_files,
                max_paths_bytes=MAX_PATHS_BYTES,
                max_ratio=MAX_RATIO,
                ratio_free_bytes=RATIO_FREE_BYTES,
                exclude=",".join(self.exclude),
                allow_empty=self.allow_empty,
                keep_deploys=self.keep_deploys,
                keep_days=self.keep_days,
                max_store_bytes=max_store_bytes if math.isfinite(max_store_bytes) else None,
                max_removed_percent=self.max_removed_percent,
                **({"store": self.store.url} if self.store else {}),
            ),
        )
        if self.insecure_no_auth:
            log.warning(
                "--insecure-no-auth: ANYBODY who reaches this server can deploy code that runs with every connection "
                "of Airflow",
                extra=fields(listen=shown_address(self.listen)),
            )


def read_settings(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    container: Callable[[], tuple[float | None, int | None]] = available,
) -> Settings:
    """Return the settings of ``dagferry-server serve ARGUMENTS``; ``container`` gives its CPU and memory limits."""
    return checked_settings(parse("dagferry-server serve", "", SETTINGS, arguments, environment), container)


def checked_settings(
    given: Mapping[str, Any], container: Callable[[], tuple[float | None, int | None]] = available
) -> Settings:
    """Return the settings from the values of ``SETTINGS`` by name; raise ``SetupError`` if they do not go together."""
    values = dict(given)
    if values["deployments"] is None and values["deployments_file"] is None:
        values["deployments"] = (DEFAULT_DEPLOYMENT,)
    if values["tiers"] == AUTO:
        values["tiers"] = tiers_from(*container())
    return Settings(**values)


def shown_address(address: tuple[str, int]) -> str:
    """Return an address as a setting takes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
