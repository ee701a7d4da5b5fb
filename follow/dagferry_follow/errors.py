"""What can go wrong when a deploy is taken over from a server. The tree that was published stays, whatever it is.

The hints are the sidecar's, which prints them; the Airflow plugin has its own.
"""

from dagferry_core.documentation import Audience
from dagferry_core.errors import EXIT_LOCAL, EXIT_UNAVAILABLE, DagferryError


class SyncError(DagferryError):
    """The sidecar could not take over a deploy. The tree that was published stays."""

    code = "sync_error"
    audience = Audience.PODS
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
