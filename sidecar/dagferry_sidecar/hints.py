"""What to do about an error, for those who run the sidecar: the hints of the errors that its flags can mend."""

from dagferry_core.errors import DagferryError

_RETRIES = "The sidecar retries automatically."
HINTS = {
    "sync_error": _RETRIES,
    "server_unreachable": f"Check --server, the network, and the server's log. {_RETRIES}",
    "proxy_failed": "Check the proxy in https_proxy, http_proxy or all_proxy. Hosts in no_proxy are reached directly. "
    f"{_RETRIES}",
    "token_unreadable": f"Check --token-file and the permissions of the file. {_RETRIES}",
    "server_refused": f"Check --server, --deployment and --token-file, and the server's log. {_RETRIES}",
    "answer_invalid": "Check that --server is the URL of a Dagferry server and that no proxy changes its answers.",
    "awaiting_first_deploy": "Deploy something: the sidecar publishes it immediately. To start without a deploy, set "
    "--when-empty seed with --seed DIR, or --when-empty empty.",
    "volume_failed": f"Check the volume's size and permissions. {_RETRIES}",
    "root_unusable": "Set --root to a folder that only the sidecar uses and that it can write to.",
    "root_in_use": "Run only one sidecar for each --root.",
    "hook_failed": f"Check --hook-command or --airflow-url. {_RETRIES}",
}
"""By the code of an error."""


def hint(error: DagferryError) -> str:
    """Return what to do about ``error``: the hint it was raised with, else the sidecar's for its kind."""
    if error.hint != error.default_hint:
        return error.hint
    return HINTS.get(error.code, error.hint)
