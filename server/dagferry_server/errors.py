"""The errors the server answers with: the request is wrong, or the server cannot handle it at the moment.

Clients of the upload protocol treat only 200 as success, retry after a 5xx and give up after a 4xx; so "try again" is
always 503 or 507, never 429. The errors of archives are in ``dagferry_core.archive.errors``.
"""

from collections.abc import Mapping
from typing import ClassVar

from dagferry_core.documentation import DOCUMENTATION, Audience
from dagferry_core.errors import EXIT_NOT_ALLOWED, EXIT_REFUSED, EXIT_UNAVAILABLE, DagferryError


class RequestError(DagferryError):
    """The request is invalid."""

    code = "request_invalid"
    audience = Audience.CLIENTS
    status = 400
    exit_code = EXIT_REFUSED
    default_hint = f"See {DOCUMENTATION}/reference/protocol.md#endpoints for the endpoints and their parameters."


class MultipartInvalid(RequestError):
    """The form data of an upload is malformed, or does not contain exactly one file."""

    code = "multipart_invalid"
    audience = Audience.DEPLOYERS
    default_hint = "Send one file part, for example with: curl --fail-with-body -F dags.tar.gz=@dags.tar.gz URL"


class UploadIncomplete(RequestError):
    """The connection was lost before the request body was complete."""

    code = "upload_incomplete"
    audience = Audience.DEPLOYERS
    default_hint = "The connection was lost during the upload. Upload again."


class UploadTooLarge(RequestError):
    """The upload is larger than the server allows."""

    code = "upload_too_large"
    audience = Audience.DEPLOYERS
    status = 413
    default_hint = "Remove large files from the dags folder, or give the server more tiers (--tiers)."


class BodyTooLarge(RequestError):
    """The JSON body is larger than the endpoint allows."""

    code = "body_too_large"
    status = 413
    default_hint = "Send fewer or shorter entries: the first of each list are enough."


class RouteNotFound(RequestError):
    """The server has no endpoint at this path."""

    code = "route_not_found"
    status = 404
    exit_code = EXIT_NOT_ALLOWED


class MethodNotAllowed(RequestError):
    """The endpoint does not support this HTTP method."""

    code = "method_not_allowed"
    status = 405


class DeploymentNotFound(RequestError):
    """The server has no deployment of this name."""

    code = "deployment_not_found"
    audience = Audience.DEPLOYERS
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = (
        "The name is wrong, or your token does not cover it: the server's operator knows its deployments "
        "(--deployments, --deployments-file), and what each token covers."
    )


class DeploymentDisabled(RequestError):
    """The deployment does not accept deploys at the moment; the message gives the operator's reason."""

    code = "deployment_disabled"
    audience = Audience.DEPLOYERS
    status = 409
    exit_code = EXIT_NOT_ALLOWED
    default_hint = (
        "Nothing was deployed, and running pods are unaffected. Deploy again once the deployment is enabled: the "
        "server's operator does that in the --deployments-file."
    )


class VersionMismatch(RequestError):
    """The current version is not the one that the request expects (`If-Match`)."""

    code = "version_mismatch"
    audience = Audience.DEPLOYERS
    status = 412
    exit_code = EXIT_REFUSED
    default_hint = (
        "Nothing was deployed. Look at what was deployed meanwhile, GET /{deployment}/dags/deploys, then deploy on top "
        "of it with its version."
    )
    detail_fields: ClassVar[Mapping[str, str]] = {
        "version": "The current version, or the last one of the folder; empty if there is none. Absent if unknown.",
        "actor": "Who deployed it.",
        "time": "When, in seconds since the epoch.",
    }


class BaseGone(RequestError):
    """The version that an upload is a change of is not there any more."""

    code = "base_gone"
    audience = Audience.CLIENTS
    status = 409
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Nothing was deployed. Send the change of the current version instead, or upload the complete tree."
    detail_fields: ClassVar[Mapping[str, str]] = {"version": "The current version; empty if nothing is deployed."}


class ChangeMismatch(RequestError):
    """A change does not lead from its base to the expected digest, or it removes what is not there."""

    code = "change_mismatch"
    audience = Audience.CLIENTS
    status = 422
    default_hint = "Nothing was deployed. Upload the complete tree, which needs no base."


class DeploymentFrozen(RequestError):
    """The deployment is frozen: an administrator stopped deploys for a while; the message gives the reason."""

    code = "deployment_frozen"
    audience = Audience.DEPLOYERS
    status = 423
    exit_code = EXIT_NOT_ALLOWED
    default_hint = (
        "Nothing was deployed, and running pods are unaffected. Deploy again when the freeze has ended. In an "
        "emergency, a caller with the scope override may add ?override_freeze=1."
    )


class DeploymentConfigured(RequestError):
    """The deployment is one of the server's configuration, so it can be neither created nor deleted by a request."""

    code = "deployment_configured"
    audience = Audience.CLIENTS
    status = 409
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "The server's operator adds and removes it in --deployments or the --deployments-file."


class TooManyDeployments(RequestError):
    """The maximum number of deployments that were created by requests is reached."""

    code = "too_many_deployments"
    audience = Audience.CLIENTS
    status = 409
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Delete deployments that are no longer needed."


class GateRefused(RequestError):
    """Airflow could not load DAG files of this content, because they do not parse, or could not find any."""

    code = "gate_refused"
    audience = Audience.DEPLOYERS
    status = 422
    default_hint = (
        "Nothing was deployed. Correct the files and deploy again. In an emergency, a caller with the scope override "
        "may add ?skip_gate=1."
    )
    detail_fields: ClassVar[Mapping[str, str]] = {
        "problems": "The first 20, each with `path`, `line`, `column` and `message`.",
        "problem_count": "How many there are.",
    }


class RemovalsRefused(RequestError):
    """The deploy would remove, or hide by `.airflowignore`, most of the DAG files (`max-removed-percent`)."""

    code = "removals_refused"
    audience = Audience.DEPLOYERS
    status = 422
    default_hint = (
        "Nothing was deployed. Upload the whole dags folder, not only what has changed. If the missing DAGs are meant "
        "to go, a caller with the scope override may add ?allow_removals=1."
    )
    detail_fields: ClassVar[Mapping[str, str]] = {
        "removed_paths": "The first 200 DAG files that would be gone.",
        "removed_count": "How many there are.",
    }


class ImportCheckRefused(RequestError):
    """Airflow could not import DAG files of this content, as a checker found, and could import them in what is live."""

    code = "import_check_refused"
    audience = Audience.DEPLOYERS
    status = 422
    default_hint = (
        "Nothing was deployed. Correct the files and deploy again. In an emergency, a caller with the scope override "
        "may add ?skip_import_check=1."
    )
    detail_fields: ClassVar[Mapping[str, str]] = {
        "problems": "The first 20 new ones, each with `path`, `line`, `kind`, `message` and `trace`.",
        "problem_count": "How many new ones there are.",
    }


class CandidateGone(RequestError):
    """There is no such candidate: it was checked, or nobody has checked it for an hour."""

    code = "candidate_gone"
    audience = Audience.CLIENTS
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "GET /{deployment}/dags/candidates lists what is to be checked."


class VersionNotFound(RequestError):
    """The deploy log does not contain this version."""

    code = "version_not_found"
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "List the versions with: GET /{deployment}/dags/deploys"


class FileNotInBundle(RequestError):
    """The version has no file at this path."""

    code = "file_not_found"
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "GET /{deployment}/dags/versions/{version}/files lists the version's files."


class BundleGone(RequestError):
    """The version is in the deploy log, but retention has removed its bundle."""

    code = "bundle_gone"
    status = 410
    exit_code = EXIT_NOT_ALLOWED
    default_hint = (
        "Choose a newer version. To keep bundles for longer, raise --keep-deploys or --keep-days on the server."
    )


class NothingDeployed(RequestError):
    """Nothing has been deployed to this deployment yet."""

    code = "nothing_deployed"
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Deploy something first."


class Unauthenticated(RequestError):
    """No credentials were sent, and this endpoint requires them."""

    code = "unauthenticated"
    audience = Audience.DEPLOYERS
    status = 401
    exit_code = EXIT_NOT_ALLOWED
    default_hint = 'Send a token, for example with: curl --fail-with-body -H "Authorization: Bearer $TOKEN" URL'


class CredentialsRefused(RequestError):
    """The token, or the identity that a proxy sent, is unknown, expired or invalid."""

    code = "credentials_refused"
    audience = Audience.DEPLOYERS
    status = 401
    exit_code = EXIT_NOT_ALLOWED
    default_hint = (
        "Get a new token, or ask the server's operator which credentials it accepts. The server's log has the reason."
    )


class Forbidden(RequestError):
    """The caller may see the deployment, but lacks the permission for this request."""

    code = "forbidden"
    audience = Audience.DEPLOYERS
    status = 403
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Ask the server's operator for a token or a rule with the scope that the message names."


class PeerRefused(RequestError):
    """A request that only another server may send is not signed with the secret that the servers share.

    Or it was received before, or the clocks of the two servers differ by more than a minute.
    """

    code = "peer_refused"
    status = 403
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Give all servers the same --peer-secret-file, and set their clocks. Nobody else sends this request."


class OriginRefused(RequestError):
    """The request comes from a web page of another origin."""

    code = "origin_refused"
    status = 403
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Use a command such as curl instead of a web page."


class ServerError(DagferryError):
    """The server cannot handle the request at the moment; the same request may succeed later."""

    retry_after = 5  # seconds
    code = "unavailable"
    audience = Audience.DEPLOYERS
    status = 503
    exit_code = EXIT_UNAVAILABLE
    default_hint = "Try again in a moment."


class UploadEmptyBody(ServerError):
    """The file is empty: clients send that when they retry after a lost connection, and curl sends it for a folder."""

    code = "upload_empty_body"
    default_hint = "Send the file again: this request contained no data."


class UploadTooSlow(ServerError):
    """The upload stalled or was too slow, so the server stopped receiving it."""

    code = "upload_too_slow"
    default_hint = "Nothing was deployed. Upload again; if it keeps failing, use a faster connection."


class ShuttingDown(ServerError):
    """The server is shutting down."""

    code = "shutting_down"


class TooManyUploads(ServerError):
    """The maximum number of concurrent uploads, or of rollbacks and promotes, to the deployment or by this caller is
    reached.
    """

    code = "too_many_uploads"


class TooManyReports(ServerError):
    """The maximum number of concurrent reports of what Airflow has read is reached."""

    code = "too_many_reports"
    audience = Audience.CLIENTS
    default_hint = "Send the report again, in a few seconds."


class ServerBusy(ServerError):
    """Bundles with very many files are handled one at a time, and this one had to wait too long."""

    code = "server_busy"
    default_hint = "Try again in a minute."


class TooManyDownloads(ServerError):
    """The maximum number of concurrent downloads of the deployment, or by this caller, is reached."""

    code = "too_many_downloads"


class DeployContended(ServerError):
    """Others kept deploying at the same time, so that what was to be deployed was never the next deploy."""

    code = "deploy_contended"


class GateUnavailable(ServerError):
    """Whether the DAG files parse could not be found out: ruff took too long, was killed, or failed."""

    code = "gate_unavailable"
    default_hint = (
        "Deploy again in a moment. If it fails again, the server's log says more. In an emergency, a caller with the "
        "scope override may add ?skip_gate=1."
    )


class ImportCheckPending(ServerError):
    """The DAG files are still being imported by a checker (`check-seconds`), which goes on."""

    code = "import_check_pending"
    retry_after = 10
    default_hint = (
        "Nothing was deployed yet. Deploy the same content again: that does not start the check anew. In an emergency, "
        "a caller with the scope override may add ?skip_import_check=1."
    )


class CheckerAway(ServerError):
    """No checker can import the DAG files, and without it nothing may be deployed (`import-check-away = "closed"`)."""

    code = "checker_away"
    retry_after = 30
    default_hint = (
        "Look whether dagferry-checker runs, and at its log. In an emergency, a caller with the scope override may add "
        "?skip_import_check=1."
    )


class IssuerUnavailable(ServerError):
    """The token cannot be checked at the moment, because the keys of its issuer are unavailable."""

    code = "issuer_unavailable"
    default_hint = "Try again in a minute. If the error persists, check the server's log."

    def __init__(self, message: str, hint: str | None = None, *, retry_after: int) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class StoreError(ServerError):
    """The store could not do what it was asked to. Each subclass says why; it has no code of its own."""

    audience = Audience.OPERATORS


class StoreFull(StoreError):
    """The server's volume, or the bucket of its store, is full."""

    code = "store_full"
    status = 507
    default_hint = (
        "Enlarge the server's volume, or the quota of its bucket, or lower --keep-deploys, --keep-days or "
        "--max-store-bytes. If the store is a bucket and the volume of --data-dir is full, lower --max-cache-bytes."
    )


class StoreAway(StoreError):
    """The server's store, a volume or a bucket, cannot be read or written now.

    That may pass: nothing is treated as damaged or missing.
    """

    code = "store_unavailable"
    default_hint = "Look at the server's log and at its store, the volume or the bucket, then try again."


class StoreDamaged(StoreError):
    """What is stored is not what was written: it does not decode, or a file is missing. Trying again does not help."""

    code = "store_damaged"
    default_hint = (
        "Deploy again, which needs none of the damaged data, or restore the file from a backup. dagferry-server verify "
        "lists everything that is damaged."
    )


class StoreInUse(ServerError):
    """Another server is using the data folder."""

    code = "store_in_use"
    audience = Audience.OPERATORS
    default_hint = "Stop the other server first: only one server at a time can use a data folder."
