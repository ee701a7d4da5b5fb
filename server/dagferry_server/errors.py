"""What the server answers: the request is wrong, or the server cannot do it now.

A client of the upload protocol takes only 200 for success, repeats a 5xx and gives up on a 4xx; so "try again" is
always 503 or 507, never 429. What is wrong with an archive is in ``dagferry_core.archive.errors``.
"""

from dagferry_core.errors import EXIT_NOT_ALLOWED, EXIT_REFUSED, EXIT_UNAVAILABLE, DagferryError


class RequestError(DagferryError):
    """The request is wrong."""

    code = "request_invalid"
    status = 400
    exit_code = EXIT_REFUSED
    default_hint = "See docs/protocol.md for the calls and their parameters."


class MultipartInvalid(RequestError):
    """The form data of an upload is malformed, or does not hold exactly one file."""

    code = "multipart_invalid"
    default_hint = "Send one file part, for example with: curl --fail-with-body -F dags.tar.gz=@dags.tar.gz URL"


class UploadIncomplete(RequestError):
    """The connection broke before the request body was complete."""

    code = "upload_incomplete"
    default_hint = "The connection broke while the upload was being sent. Upload again."


class UploadTooLarge(RequestError):
    """The upload has more bytes than the server's limit."""

    code = "upload_too_large"
    status = 413
    default_hint = "Remove large files from the dags folder, or give the server more tiers (--tiers)."


class RouteNotFound(RequestError):
    """There is no such call."""

    code = "route_not_found"
    status = 404
    exit_code = EXIT_NOT_ALLOWED


class MethodNotAllowed(RequestError):
    """The call exists, but not with this HTTP method."""

    code = "method_not_allowed"
    status = 405


class DeploymentNotFound(RequestError):
    """There is no deployment of this name on this server."""

    code = "deployment_not_found"
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Check the name in the URL against the server's --deployments or --deployments-file."


class DeploymentDisabled(RequestError):
    """The deployment takes no deploys at the moment, for a reason that whoever runs the server has given."""

    code = "deployment_disabled"
    status = 409
    exit_code = EXIT_NOT_ALLOWED
    default_hint = (
        "Nothing was deployed; the pods keep what they have. Deploy again when it is enabled: whoever runs the server "
        "does that in the file of --deployments-file."
    )


class VersionNotFound(RequestError):
    """The deploy log has no such version."""

    code = "version_not_found"
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "List the versions with: GET /{deployment}/dags/deploys"


class BundleGone(RequestError):
    """The version is in the log, but retention has removed its bundle."""

    code = "bundle_gone"
    status = 410
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Choose a newer version, and raise --keep-deploys or --keep-days to keep bundles for longer."


class NothingDeployed(RequestError):
    """The deployment exists, but nothing was deployed to it yet."""

    code = "nothing_deployed"
    status = 404
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Deploy something first."


class Unauthenticated(RequestError):
    """The request says nothing of who makes it, and this call needs to know."""

    code = "unauthenticated"
    status = 401
    exit_code = EXIT_NOT_ALLOWED
    default_hint = 'Send a token, for example with: curl --fail-with-body -H "Authorization: Bearer $TOKEN" URL'


class CredentialsRefused(RequestError):
    """The token, or what a proxy says of the caller, is unknown, expired, or not right."""

    code = "credentials_refused"
    status = 401
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Get a new token, or ask whoever runs the server what it accepts."


class Forbidden(RequestError):
    """The caller is known and may see the deployment, but not do this with it."""

    code = "forbidden"
    status = 403
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Ask whoever runs the server for a token or a rule with this scope."


class OriginRefused(RequestError):
    """A web page made the request, and it is not one of this server's."""

    code = "origin_refused"
    status = 403
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Use a command such as dagferry or curl, not a web page."


class ServerError(DagferryError):
    """The server cannot do it now; the same request may work later."""

    retry_after = 5  # seconds
    code = "unavailable"
    status = 503
    exit_code = EXIT_UNAVAILABLE
    default_hint = "Try again in a moment."


class UploadEmptyBody(ServerError):
    """The file has no bytes, as a client's retry after a broken connection sends it, and curl for a folder."""

    code = "upload_empty_body"
    default_hint = "Send the file again: this request carried none of it."


class UploadTooSlow(ServerError):
    """An upload came to a stop, or comes too slowly, and was given up; its connection was not broken."""

    code = "upload_too_slow"
    default_hint = "Upload again, from a place with a better connection if this lasts. Nothing was deployed."


class ShuttingDown(ServerError):
    """The server is stopping."""

    code = "shutting_down"


class TooManyUploads(ServerError):
    """As many uploads to the deployment, or by this caller, are under way as it takes at a time."""

    code = "too_many_uploads"


class ServerBusy(ServerError):
    """Bundles with very many files take turns, and this one did not get its turn in time."""

    code = "server_busy"
    default_hint = "Try again in a minute."


class TooManyDownloads(ServerError):
    """As many downloads of the deployment, or by this caller, are under way as it gives at a time."""

    code = "too_many_downloads"


class DeployContended(ServerError):
    """Each time the next place in the deploy log was tried, another server had taken it."""

    code = "deploy_contended"


class IssuerUnavailable(ServerError):
    """A token may be good, but its issuer's keys cannot be had at the moment to tell."""

    code = "issuer_unavailable"
    default_hint = "Try again in a minute. If it lasts, look at the server's log."

    def __init__(self, message: str, hint: str | None = None, *, retry_after: int) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class StoreError(ServerError):
    """The store could not do what it was asked to. Each subclass says why; it has no code of its own."""


class StoreFull(StoreError):
    """The server's volume has no space left."""

    code = "store_full"
    status = 507
    default_hint = "Enlarge the server's volume, or lower --keep-deploys, --keep-days or --max-store-bytes."


class StoreAway(StoreError):
    """The server's volume cannot be read or written now. That may pass: nothing is treated as damaged or missing."""

    code = "store_unavailable"
    default_hint = "Look at the server's log and its volume, then try again."


class StoreDamaged(StoreError):
    """What is stored is not what was written: it does not decode, or a file is missing. Trying again does not help."""

    code = "store_damaged"
    default_hint = (
        "Deploy again, which needs nothing of what is damaged, or put the file back from a backup. "
        "dagferry-server verify shows all that is damaged."
    )


class StoreInUse(ServerError):
    """Another server owns the data folder."""

    code = "store_in_use"
    default_hint = "Stop the other server first: a data folder belongs to one server at a time."
