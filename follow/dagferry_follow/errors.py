"""What can go wrong when a server is followed. Whatever it is, the published tree stays.

The hints here name no flags or arguments: those belong to the program that prints an error, so the sidecar
(``dagferry_sidecar.hints``) and the Airflow plugin have hints of their own.
"""

from dagferry_core.documentation import Audience
from dagferry_core.errors import EXIT_LOCAL, EXIT_UNAVAILABLE, DagferryError


class SyncError(DagferryError):
    """The sidecar could not publish a deploy. The published tree stays."""

    code = "sync_error"
    audience = Audience.PODS
    exit_code = EXIT_UNAVAILABLE
    default_hint = "It is retried automatically."


class ServerUnreachable(SyncError):
    """The server did not answer, or the connection was lost."""

    code = "server_unreachable"
    default_hint = "Check the server's URL, the network, and the server's log."


class ProxyFailed(SyncError):
    """The proxy set in the environment cannot be reached, or rejected the request."""

    code = "proxy_failed"
    default_hint = "Check the proxy in https_proxy, http_proxy or all_proxy. Hosts in no_proxy are reached directly."


class TokenUnreadable(SyncError):
    """The token file cannot be read, or does not contain a token."""

    code = "token_unreadable"
    exit_code = EXIT_LOCAL
    default_hint = "Check the token file and its permissions."


class ServerRefused(SyncError):
    """The server answered with an error.

    ``answered`` is its HTTP status.
    """

    code = "server_refused"
    answered = 0
    default_hint = "Check the server's URL, the deployment and the token, and the server's log."


class AnswerInvalid(SyncError):
    """An answer does not follow the protocol, for example because it comes from a proxy."""

    code = "answer_invalid"
    default_hint = "Check that the URL is that of a Dagferry server and that no proxy changes its answers."


class DigestMismatch(SyncError):
    """The download is not what the server announced."""

    code = "digest_mismatch"
    default_hint = "Nothing was published. It is downloaded again."


class PatchMismatch(SyncError):
    """A patch does not fit the tree on this volume, so the full bundle is downloaded instead."""

    code = "patch_mismatch"
    default_hint = "The full bundle is downloaded."


class AwaitingFirstDeploy(SyncError):
    """Nothing has been deployed or published yet, so the sidecar waits; the pod is not ready."""

    code = "awaiting_first_deploy"
    default_hint = "Deploy something: it is published immediately."


class SequenceRegressed(SyncError):
    """The server offers an older deploy of the same deploy log than the published one."""

    code = "sequence_regressed"
    default_hint = (
        "If the server's data was restored from a backup, run: dagferry-server new-log-id. "
        "Otherwise an outdated copy of the server is answering."
    )


class LogRewritten(SyncError):
    """The server's deploy log is not the one that was followed: the entry of the published deploy is another now."""

    code = "log_rewritten"
    default_hint = (
        "Nothing is applied until the log is as it was. Find out who changed it: dagferry-server verify. "
        "If its data was restored from a backup on purpose, run: dagferry-server new-log-id."
    )


class TreeDamaged(SyncError):
    """The published tree was modified, so it is rebuilt."""

    code = "tree_damaged"
    exit_code = EXIT_LOCAL
    default_hint = (
        "Something wrote into the dags folder. The tree is rebuilt. Mount the folder read-only everywhere else."
    )


class VolumeFailed(SyncError):
    """The volume of the dags folder is full, or failed to read or write."""

    code = "volume_failed"
    exit_code = EXIT_LOCAL
    default_hint = "Check the volume's size and permissions."


class RootUnusable(SyncError):
    """The root folder, or something in it, is unusable."""

    code = "root_unusable"
    exit_code = EXIT_LOCAL
    default_hint = "Use a folder that nothing else uses and that can be written to."


class RootInUse(SyncError):
    """Another sidecar is using the root folder."""

    code = "root_in_use"
    exit_code = EXIT_LOCAL
    default_hint = "Only one process at a time can use a root folder."


class HookFailed(SyncError):
    """A hook after a swap failed. The new tree is published nevertheless."""

    code = "hook_failed"
    default_hint = "Check what the hook runs or calls."
