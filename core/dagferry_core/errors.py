"""The one table of errors: code, HTTP status, exit code and hint of everything that can go wrong.

``DagferryError`` is the root; each subclass is one fact, named as such. The body of an HTTP answer, the exit code of
a command, the ``outcome`` label of a metric and ``docs/errors.md`` all come from here::

    DagferryError
    ├── ArchiveError       the upload is not an archive we can trust      exit 3
    ├── BundleError        the archive is sound, but its content is refused  exit 3
    ├── RequestError       the request is wrong                            exit 3 or 4
    ├── ServerError        the server cannot do it now                     exit 5
    ├── SyncError          the sidecar could not take over a deploy        exit 5 or 6
    └── SetupError         the command was started wrongly                 exit 2

A client of the upload protocol takes only 200 for success, repeats a 5xx and gives up on a 4xx; so "try again" is
always 503 or 507, never 429.
"""

from typing import ClassVar

EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_ALLOWED = 4
EXIT_UNAVAILABLE = 5
EXIT_LOCAL = 6


class DagferryError(Exception):
    """Something went wrong that no other error here stands for.

    The root of all errors. They are in words for the person who has to act: ``message`` says what happened to which
    file or request; ``hint`` what to do next, by default the class's own.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = "This is a defect of Dagferry; its log has the details. Please report it."

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def as_dict(self) -> dict[str, str]:
        """Return the body of an HTTP answer: ``code``, ``message``, ``hint``."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class FormatError(ValueError):
    """Bytes are not in the form that they should have. What reads stored or received bytes in core raises it.

    It says what is wrong with them, to follow a colon. Whoever knows where they came from makes one of the errors
    below of it: the server's store ``StoreDamaged``, what follows a server ``AnswerInvalid`` or ``DigestMismatch``.
    """


class Truncated(FormatError):
    """The bytes end before they should."""


# --- the archive -----------------------------------------------------------------------------------------------------


class ArchiveError(DagferryError):
    """The upload is not an archive that can be trusted."""

    code = "archive_error"
    status = 422
    exit_code = EXIT_REFUSED
    default_hint = "Pack the dags folder again, for example with: tar -czf dags.tar.gz dags"


class ArchiveNotRecognized(ArchiveError):
    """The upload is neither a tar nor a gzip or zstd of one."""

    code = "archive_not_recognized"


class ArchiveTruncated(ArchiveError):
    """The archive ends before its end marker, or its compression before its trailer."""

    code = "archive_truncated"
    default_hint = "Part of the file is missing. Pack it again and upload the whole file."


class ArchiveCorrupt(ArchiveError):
    """A checksum, a number or a header in the archive is wrong."""

    code = "archive_corrupt"


class ArchiveTrailingData(ArchiveError):
    """Something follows the end of the archive or of its one compression frame."""

    code = "archive_trailing_data"
    default_hint = (
        "Upload one archive, compressed once: nothing may be appended to it. bsdtar, which is the tar of macOS, pads "
        "what it writes to a pipe: write the archive to a file (-f dags.tar.gz) and upload that."
    )


class ArchiveUnsupported(ArchiveError):
    """The archive uses a feature that different programs read differently."""

    code = "archive_unsupported"
    default_hint = "Pack the dags folder with a plain tar (ustar, PAX or GNU), without sparse files or access times."


class WindowTooLarge(ArchiveError):
    """The zstd frame asks for a window over 8 MiB, which every reader would have to hold in memory."""

    code = "window_too_large"
    default_hint = "Compress with zstd levels up to 19, without --ultra and --long."


# --- the bundle ------------------------------------------------------------------------------------------------------


class BundleError(DagferryError):
    """The archive is sound, but its content makes no bundle."""

    code = "bundle_error"
    status = 422
    exit_code = EXIT_REFUSED
    default_hint = "Remove or rename the file in the dags folder and deploy again."


class MemberTypeRefused(BundleError):
    """The archive has a device, a FIFO, a socket or something unknown; only files, folders and links may be there."""

    code = "member_type_refused"


class PathRefused(BundleError):
    """A path is absolute, leaves the bundle, is not UTF-8, or is too long or too deep."""

    code = "path_refused"


class PathDuplicate(BundleError):
    """The same path is in the archive twice."""

    code = "path_duplicate"


class PathConflict(BundleError):
    """A path is both a file (or a link) and a folder."""

    code = "path_conflict"


class LinkRefused(BundleError):
    """A link leaves the bundle, points at nothing, or goes in circles."""

    code = "link_refused"
    default_hint = (
        "Replace the link by the file it points at, or remove it. For all links at once: tar -h packs what they point "
        "at, as in: tar -chzf dags.tar.gz dags"
    )


class RootMixed(BundleError):
    """Some members lie under the top folder ``dags/`` and some beside it."""

    code = "root_mixed"
    default_hint = (
        "Pack only the dags folder, or add root=dags to the upload's query to deploy what lies in it, or root=. to "
        "deploy the archive as it is."
    )


class RootIsLink(BundleError):
    """The dags folder itself arrived as a link, without its content."""

    code = "root_is_link"
    default_hint = "The dags folder is a symbolic link where it was packed. Pack the folder it points at."


class RootNotFound(BundleError):
    """The folder that ``root`` in the upload's query names is not in the archive."""

    code = "root_not_found"
    default_hint = "Check root in the upload's query against what tar -tzf dags.tar.gz lists."


class BundleEmpty(BundleError):
    """The archive has no files, as an empty or missing dags folder sends it."""

    code = "bundle_empty"
    default_hint = "Check the path of the dags folder. To deploy an empty folder, start the server with --allow-empty."


class ExpandedTooLarge(BundleError):
    """The archive expands to more bytes than ``--max-expanded-bytes``."""

    code = "expanded_too_large"
    status = 413
    default_hint = "Remove large files from the dags folder, or raise --max-expanded-bytes on the server."


class TooManyFiles(BundleError):
    """The archive has more files and folders than ``--max-files``."""

    code = "too_many_files"
    status = 413
    default_hint = "Remove files that are not DAGs, or raise --max-files on the server."


class PathsTooLarge(BundleError):
    """The paths in the archive, with the targets of its links, are too many bytes together."""

    code = "paths_too_large"
    status = 413
    default_hint = "Remove files that are not DAGs, or shorten the names of the folders they are in."


class RatioTooHigh(BundleError):
    """The archive expands to so many times its size that it is taken for a bomb."""

    code = "ratio_too_high"
    status = 413
    default_hint = "Remove the files that are mostly zeros or repetition."


# --- the request -----------------------------------------------------------------------------------------------------


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


# --- who asks --------------------------------------------------------------------------------------------------------


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


# --- the server ------------------------------------------------------------------------------------------------------


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


class StoreFull(ServerError):
    """The server's volume has no space left."""

    code = "store_full"
    status = 507
    default_hint = "Enlarge the server's volume, or lower --keep-deploys, --keep-days or --max-store-bytes."


class StoreFailed(ServerError):
    """The server's volume refused to read or write. That may pass: nothing is taken for damaged or gone."""

    code = "store_failed"
    default_hint = "Look at the server's log and its volume, then try again."


class StoreDamaged(StoreFailed):
    """Stored bytes could be read, and are not what was written: they do not decode, or a file is gone."""

    code = "store_damaged"
    default_hint = (
        "Deploy again, which needs nothing of what is damaged, or put the file back from a backup. "
        "dagferry-server verify shows all that is damaged."
    )


class StoreInUse(ServerError):
    """Another server owns the data folder."""

    code = "store_in_use"
    default_hint = "Stop the other server first: a data folder belongs to one server at a time."


# --- the sidecar -----------------------------------------------------------------------------------------------------


class SyncError(DagferryError):
    """The sidecar could not take over a deploy. The tree that was published stays."""

    code = "sync_error"
    exit_code = EXIT_UNAVAILABLE
    default_hint = "The sidecar tries again by itself."


class ServerUnreachable(SyncError):
    """The server did not answer, or the connection broke."""

    code = "server_unreachable"
    default_hint = "Check --server, the network, and the server's log. The sidecar tries again by itself."


class ProxyFailed(SyncError):
    """The proxy that the environment names cannot be reached, or did not let the request through."""

    code = "proxy_failed"
    default_hint = (
        "Check the proxy that https_proxy, http_proxy or all_proxy names. no_proxy lists what is reached without it. "
        "The sidecar tries again by itself."
    )


class TokenUnreadable(SyncError):
    """The file that should hold the token cannot be read, or holds none."""

    code = "token_unreadable"
    exit_code = EXIT_LOCAL
    default_hint = "Check --token-file and who may read it. The sidecar tries again by itself."


class ServerRefused(SyncError):
    """The server answered with an error.

    ``answered`` is its HTTP status.
    """

    code = "server_refused"
    answered = 0
    default_hint = (
        "Check --server, --deployment and --token-file, and the server's log. The sidecar tries again by itself."
    )


class AnswerInvalid(SyncError):
    """An answer is not what the protocol says, as when a proxy made it up."""

    code = "answer_invalid"
    default_hint = "Check that --server leads to a Dagferry server and that no proxy changes its answers."


class DigestMismatch(SyncError):
    """What was downloaded is not what the server announced."""

    code = "digest_mismatch"
    default_hint = "Nothing of it was published. The sidecar downloads it again."


class PatchMismatch(SyncError):
    """A patch does not fit the tree on this volume; the whole bundle is fetched instead."""

    code = "patch_mismatch"
    default_hint = "The sidecar fetches the whole bundle."


class AwaitingFirstDeploy(SyncError):
    """Nothing was deployed yet and nothing is published, so the sidecar waits; the pod is not ready."""

    code = "awaiting_first_deploy"
    default_hint = (
        "Deploy something: the sidecar publishes it at once. To start without a deploy, give the sidecar "
        "--when-empty seed with --seed DIR, or --when-empty empty."
    )


class SequenceRegressed(SyncError):
    """The server offers an older deploy than the one that was taken, within the same deploy log."""

    code = "sequence_regressed"
    default_hint = (
        "If the server's data was restored from a backup, run: dagferry-server new-log-id. "
        "Otherwise a stale copy of the server is answering."
    )


class TreeDamaged(SyncError):
    """The published tree is not what was published; it is built again aside."""

    code = "tree_damaged"
    exit_code = EXIT_LOCAL
    default_hint = "Something wrote into the dags folder. The sidecar builds the tree again; mount it read-only."


class VolumeFailed(SyncError):
    """The volume of the dags folder refused to read or write, or is full."""

    code = "volume_failed"
    exit_code = EXIT_LOCAL
    default_hint = "Check the volume's size and permissions. The sidecar tries again by itself."


class RootUnusable(SyncError):
    """The root folder, or something in it, cannot be used."""

    code = "root_unusable"
    exit_code = EXIT_LOCAL
    default_hint = "Give the sidecar a folder of its own with --root, which it may write to."


class RootInUse(SyncError):
    """Another sidecar owns the root folder."""

    code = "root_in_use"
    exit_code = EXIT_LOCAL
    default_hint = "Run one sidecar for each --root."


class HookFailed(SyncError):
    """What is to be done after a swap failed. The swap itself stands."""

    code = "hook_failed"
    default_hint = "Check --hook-command or --airflow-url. The sidecar tries again by itself."


# --- the commands ----------------------------------------------------------------------------------------------------


class SetupError(DagferryError):
    """A command was started with a bad setting."""

    code = "setting_invalid"
    exit_code = EXIT_USAGE
    default_hint = "See --help."


class ExtraMissing(SetupError):
    """A command was installed without the libraries it needs."""

    code = "extra_missing"


def _leaves(kind: type[DagferryError]) -> list[type[DagferryError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


ALL_ERRORS: tuple[type[DagferryError], ...] = tuple(_leaves(DagferryError))
"""Every error there is, in the order of this file; ``docs/errors.md`` and the metric labels are held against it."""
