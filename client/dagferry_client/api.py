"""The server's endpoints as functions: what they return is checked, and errors say what an answer lacks."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from dagferry_client.airflow_state import ImportCheck, Leases, Parsed
from dagferry_client.decode import decode
from dagferry_client.deploy_log import Deployed, Details, Diff, Files, LoggedDeploy, LogPage, WithDetails
from dagferry_core import protocol
from dagferry_core.errors import FormatError
from dagferry_core.names import MAX_SEQUENCE
from dagferry_follow.errors import AnswerInvalid

if TYPE_CHECKING:
    # The sub-commands import this module for its types, and completion imports all sub-commands: without requests.
    from dagferry_client.form import Form
    from dagferry_client.http import Answer, Body, Http

WAIT_SLACK_SECONDS = 20.0
"""How much longer than it was asked to wait the server may be silent."""
MAX_PAGE_DEPLOYS = 200
"""How many deploys the server sends at once."""
REPEAT_SECONDS = 60.0
"""How long a change is sent again after a lost answer: the second one finds that nothing is to be done."""
CHECK_SECONDS = 600.0
"""How long a deploy is sent again while the server checks it in Airflow's image: the same content joins that check.
The first check of 2,000 files takes about two minutes, and others may be before it."""
_CHECK_PENDING = "import_check_pending"
DEPLOY_SILENCE_SECONDS = 180.0
"""How long the server may work on a deploy without an answer: one with very many files waits for its turn."""
_NOT_MODIFIED = 304

_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])


class Access(NamedTuple):
    """What the caller may do in a deployment; ``prefixes`` limit uploads to these folders, if there are any."""

    name: str
    scopes: list[str]
    prefixes: list[str]


class Identity(NamedTuple):
    """Who the caller is for the server; ``expires`` is when the credentials expire (seconds since the epoch)."""

    actor: str
    expires: int | float | None
    deployments: list[Access]


class Frozen(NamedTuple):
    """Why a deployment refuses changes, and until when (seconds since the epoch; ``None``: until it is ended)."""

    reason: str
    until: int | float | None
    actor: str


class Listed(NamedTuple):
    """One deployment of the server, as the list has it. ``disabled`` is the reason, ``None`` if it is not."""

    name: str
    state: str
    version: str
    deployed_at: int | float | None
    disabled: str | None
    frozen: Frozen | None
    created_by: str | None
    scopes: list[str]
    upload_limit_bytes: int


class Counts(NamedTuple):
    """How many sidecars there are, by state."""

    known: int
    live: int
    behind: int
    lost: int
    failing: int


class Sidecar(NamedTuple):
    """One sidecar; ``seen`` is when it asked last (seconds since the epoch), ``lag_seconds`` how long it is behind.

    ``in_use`` is how many old trees on its volume tasks still use.
    """

    instance: str
    id: str
    component: str
    live: str
    seen: int | float
    lag_seconds: int | float | None
    error: str | None
    state: str
    in_use: int = 0


class Servers(NamedTuple):
    """How many servers were asked for their sidecars, and how many answered."""

    asked: int
    answered: int


class Status(NamedTuple):
    """Whether the fleet of a deployment has its newest deploy, and what is known of Airflow itself.

    ``parsed``, ``leases`` and ``import_check`` are null where nothing reports them, or the server is older.
    """

    deployment: str
    log_id: str
    state: str
    reason: str
    version: str
    sequence: int
    deployed_at: int | float | None
    converge_seconds: int | float
    disabled: str | None
    frozen: Frozen | None
    expected: Mapping[str, int]
    counts: Counts
    sidecars: list[Sidecar]
    servers: Servers
    parsed: Parsed | None = None
    leases: Leases | None = None
    import_check: ImportCheck | None = None


class DeployOptions(NamedTuple):
    """How something is deployed. With ``dry_run`` nothing is, and the answer says what would change.

    ``if_match`` is the version that must be current, ``NOTHING_TAG`` for the first deploy, empty for any. The others
    are what is passed over: they need the scope ``override``.
    """

    dry_run: bool = False
    if_match: str = ""
    skip_gate: bool = False
    allow_removals: bool = False
    override_freeze: bool = False
    skip_import_check: bool = False

    def query(self) -> dict[str, str]:
        """Return the parameters of the request."""
        switches = {
            protocol.DRY_RUN: self.dry_run,
            protocol.SKIP_GATE: self.skip_gate,
            protocol.ALLOW_REMOVALS: self.allow_removals,
            protocol.OVERRIDE_FREEZE: self.override_freeze,
            protocol.SKIP_IMPORT_CHECK: self.skip_import_check,
        }
        return {name: protocol.SET for name, is_set in switches.items() if is_set}

    def headers(self) -> dict[str, str]:
        """Return the headers of the request."""
        return {protocol.IF_MATCH: f'"{self.if_match}"'} if self.if_match else {}


class Deployments(NamedTuple):
    """The deployments that the caller may see."""

    deployments: list[Listed]


class WasCreated(NamedTuple):
    """Whether the request created it; false if it was there."""

    created: bool


class Deleted(NamedTuple):
    """The deployment that there is no longer; ``deleted`` is false if there was none."""

    name: str
    deleted: bool


class Api:
    """The endpoints of one server."""

    def __init__(self, http: "Http") -> None:
        self.http = http

    def whoami(self) -> Identity:
        """Return who the caller is for the server."""
        return decoded(Identity, self.http.request("GET", protocol.WHOAMI_PATH))

    def deployments(self) -> list[Listed]:
        """Return the deployments that the caller may see."""
        return decoded(Deployments, self.http.request("GET", protocol.DEPLOYMENTS_PATH)).deployments

    def create(self, deployment: str) -> tuple[bool, Listed]:
        """Create the deployment unless it is there. Return whether this created it, and what it is."""
        path = path_of(protocol.DEPLOYMENT_PATH, name=deployment)
        answer = self.http.request("POST", path, repeat_seconds=REPEAT_SECONDS)
        return decoded(WasCreated, answer).created, decoded(Listed, answer)

    def delete(self, deployment: str) -> Deleted:
        """Delete the deployment, unless it is gone."""
        path = path_of(protocol.DEPLOYMENT_PATH, name=deployment)
        return decoded(Deleted, self.http.request("DELETE", path, repeat_seconds=REPEAT_SECONDS))

    def status(
        self, deployment: str, *, tag: str = "", wait: int = 0, repeat_seconds: float | None = None
    ) -> tuple[Status | None, str]:
        """Return the status and its ETag; ``None`` if ``tag`` is still the newest after ``wait`` seconds.

        ``repeat_seconds`` is how long it is asked for again if there is no answer; ``None``: as long as always.
        """
        headers = {"If-None-Match": tag} if tag else {}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        answer = self.http.request(
            "GET",
            path_of(protocol.STATUS_PATH, deployment=deployment),
            headers=headers,
            silence_seconds=wait + WAIT_SLACK_SECONDS,
            repeat_seconds=repeat_seconds,
        )
        found = None if answer.status == _NOT_MODIFIED else decoded(Status, answer)
        return found, answer.headers.get("ETag", tag)

    # --- what was deployed -------------------------------------------------------------------------------------------

    def log(self, deployment: str, limit: int, before: int | None = None) -> LogPage:
        """Return the newest ``limit`` deploys with a sequence below ``before``, newest first."""
        query = (
            {protocol.LIMIT: str(limit)}
            if before is None
            else {protocol.LIMIT: str(limit), protocol.BEFORE: str(before)}
        )
        path = path_of(protocol.DEPLOYS_PATH, deployment=deployment)
        page = decoded(LogPage, self.http.request("GET", path, query=query))
        sequences = [MAX_SEQUENCE + 1 if before is None else before, *(deploy.sequence for deploy in page.deploys)]
        if any(later <= earlier for later, earlier in pairwise(sequences)) or page.next not in {None, sequences[-1]}:
            raise AnswerInvalid("The server's answer cannot be understood: the deploys are not in order.")
        return page

    def logged(self, deployment: str, page_deploys: int = MAX_PAGE_DEPLOYS) -> Iterator[LoggedDeploy]:
        """Yield the whole log, newest first; it is asked for in pages."""
        page = self.log(deployment, page_deploys)
        yield from page.deploys
        while page.next is not None:
            page = self.log(deployment, page_deploys, page.next)
            yield from page.deploys

    def deploy(self, deployment: str, version: str) -> tuple[LoggedDeploy, Details | None]:
        """Return one deploy, and its details if there are any."""
        answer = self.http.request("GET", path_of(protocol.DEPLOY_PATH, deployment=deployment, version=version))
        return decoded(LoggedDeploy, answer), decoded(WithDetails, answer).details

    def diff(self, deployment: str, old: str, new: str) -> Diff:
        """Return which files differ between two versions."""
        path = path_of(protocol.DIFF_PATH, deployment=deployment)
        return decoded(Diff, self.http.request("GET", path, query={protocol.FROM: old, protocol.TO: new}))

    def files(self, deployment: str, version: str) -> Files:
        """Return the files of a version."""
        path = path_of(protocol.FILES_PATH, deployment=deployment, version=version)
        return decoded(Files, self.http.request("GET", path))

    def file(self, deployment: str, version: str, path: str) -> bytes:
        """Return the content of one file of a version."""
        return self.http.request(
            "GET", path_of(protocol.FILE_PATH, deployment=deployment, version=version, path=path)
        ).body

    @contextmanager
    def download(self, deployment: str, version: str) -> Iterator[Iterator[bytes]]:
        """Give a version as a tar.gz, in pieces."""
        path = path_of(protocol.DOWNLOAD_PATH, deployment=deployment)
        with self.http.stream(path, query={protocol.VERSION: version}) as (_, pieces):
            yield pieces

    # --- deploys -----------------------------------------------------------------------------------------------------

    def upload(self, deployment: str, form: "Form", query: Mapping[str, str], options: DeployOptions) -> Deployed:
        """Deploy the archive in a form."""
        path = path_of(protocol.UPLOAD_PATH, deployment=deployment)
        return self._deploy(path, form.content_type, lambda: form, query, options)

    def rollback(self, deployment: str, version: str, under: str, description: str, options: DeployOptions) -> Deployed:
        """Deploy an older version again; with ``under``, only its files below that folder."""
        body = _json_of(version=version, under=under, description=description)
        path = path_of(protocol.ROLLBACK_PATH, deployment=deployment)
        return self._deploy(path, protocol.JSON_TYPE, body, {}, options)

    def promote(self, origin: str, deployment: str, version: str, description: str, options: DeployOptions) -> Deployed:
        """Deploy to ``deployment`` what ``origin`` has as ``version``."""
        body = _json_of(**{"from": origin}, version=version, description=description)
        path = path_of(protocol.PROMOTE_PATH, deployment=deployment)
        return self._deploy(path, protocol.JSON_TYPE, body, {}, options)

    def _deploy(
        self, path: str, content_type: str, body: "Body", query: Mapping[str, str], options: DeployOptions
    ) -> Deployed:
        answer = self.http.request(
            "POST",
            path,
            query={**query, **options.query()},
            headers={"Content-Type": content_type, **options.headers()},
            body=body,
            silence_seconds=DEPLOY_SILENCE_SECONDS,
            repeat_seconds=REPEAT_SECONDS,
            unfinished=(_CHECK_PENDING, CHECK_SECONDS),
        )
        deployed = decoded(Deployed, answer)
        # A job that wants a deploy must not be green with what one would change.
        if deployed.dry_run != options.dry_run:
            said, wanted = ("a dry run", "a deploy") if deployed.dry_run else ("a deploy", "a dry run")
            raise AnswerInvalid(
                f"The server answered with {said}, and {wanted} was asked for.",
                "Look at what is deployed now: dagferry history, dagferry diff.",
            )
        return deployed


def _json_of(**given: str) -> bytes:
    """Return what is not empty as a JSON object."""
    return json.dumps({name: value for name, value in given.items() if value}).encode()


def path_of(template: str, **names: str) -> str:
    """Return a path of ``protocol`` with its names filled in and percent-encoded: ``path_of(P, deployment="prod")``."""
    for name, value in names.items():
        template = template.replace(f"{{{name}}}", quote(value, safe="/" if name == "path" else ""))
    return template


def decoded(cls: type[_Tuple], answer: "Answer") -> _Tuple:
    """Return the JSON of an answer as the NamedTuple ``cls``; raise ``AnswerInvalid``, which names the wrong field."""
    try:
        return decode(cls, json.loads(answer.body))
    except (FormatError, RecursionError, ValueError) as error:
        raise AnswerInvalid(
            f"The server's answer cannot be understood: {error}.",
            "Check that the URL is that of a Dagferry server, and that no proxy changes its answers.",
        ) from error
