"""What to do about an error, for those who run the checker: the hints of the errors that its flags can help with."""

from dagferry_core.errors import DagferryError

_RETRIES = "The checker retries automatically."
HINTS = {
    "server_unreachable": f"Check --server, the network, and the server's log. {_RETRIES}",
    "token_unreadable": f"Check --token-file and the permissions of the file. {_RETRIES}",
    "server_refused": "Check --server, --deployment, and that --token-file has a token of scope check. The server's "
    f"log says why it refused. {_RETRIES}",
    "root_in_use": "Give each checker its own --work-dir.",
    "root_unusable": "Set --work-dir to a folder that the checker can write to.",
    "volume_failed": "Check the size and the permissions of --work-dir.",
}
"""By the code of an error."""


def hint(error: DagferryError) -> str:
    """Return what to do about ``error``: the hint it was raised with, else the checker's for its kind."""
    if error.hint != error.default_hint and error.code != "server_refused":
        return error.hint
    return HINTS.get(error.code, error.hint)
