"""What can go wrong when ``dagferry`` asks a server.

A server that does not answer is ``ServerUnreachable``, an answer that does not come from Dagferry ``AnswerInvalid``, a
proxy of the environment ``ProxyFailed``: all of ``dagferry_follow``. The errors here are answers that say no.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from dagferry_core.documentation import Audience
from dagferry_core.errors import (
    EXIT_IMPORT_ERRORS,
    EXIT_LOCAL,
    EXIT_NOT_ALLOWED,
    EXIT_NOT_CONVERGED,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    DagferryError,
)
from dagferry_follow.errors import ServerUnreachable

_NO_DETAILS: Mapping[str, Any] = {}


class ClientError(DagferryError):
    """The server, or something in front of it, did not do what was asked.

    ``status`` is the HTTP status. ``reason`` is the server's own code, empty if the answer is not by Dagferry;
    ``details`` are the fields that the server's error has beside code, message and hint. ``retry_after`` is how many
    seconds to wait before the same request may succeed; ``None``: it will not.
    """

    audience = Audience.DEPLOYERS

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        status: int = 0,
        reason: str = "",
        details: Mapping[str, Any] = _NO_DETAILS,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status_code = status
        self.retry_after = retry_after
        self.reason = reason
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints: the server's own code and fields, if it is the server's error."""
        return {**self.details, **super().as_dict(), "code": self.reason or self.code}


class RequestRefused(ClientError):
    """The server refused the content or the request; the message, the hint and the code are the server's."""

    code = "request_refused"
    exit_code = EXIT_REFUSED
    default_hint = "Change what the message names, and try again."


class RequestNotAllowed(ClientError):
    """The server does not allow the request, or what it asks for does not exist."""

    code = "request_not_allowed"
    exit_code = EXIT_NOT_ALLOWED
    default_hint = "Check the deployment and the token. Run: dagferry whoami."


class ServerUnavailable(ClientError):
    """The server, or a proxy in front of it, could not handle the request at the moment."""

    code = "server_unavailable"
    exit_code = EXIT_UNAVAILABLE
    default_hint = "Try again. If it persists, check the server's log."


class ServerTooOld(ClientError):
    """The server has no endpoint for this command, because it is older than the command."""

    code = "server_too_old"
    exit_code = EXIT_UNAVAILABLE
    default_hint = "Upgrade the server to the version of this command, or use the command of the server's version."


class DownloadDamaged(ClientError):
    """What was downloaded is not what the deploy log says."""

    code = "download_damaged"
    exit_code = EXIT_UNAVAILABLE
    default_hint = "Nothing was written. Try again; if it persists, check the server's data: dagferry-server verify."


class NotWritten(ClientError):
    """A file or folder on this machine cannot be written, or is there already."""

    code = "not_written"
    exit_code = EXIT_LOCAL
    default_hint = "Choose another name, or make space."


class NotConverged(ClientError):
    """The deploy was made, but it is not known to be live in every pod.

    ``is_known`` says whether it is known not to be: a server that knows no pod, or has just started, cannot say.
    """

    code = "not_converged"
    exit_code = EXIT_NOT_CONVERGED
    default_hint = "Run: dagferry status --watch, to see which pods have it, and why others do not."

    def __init__(self, message: str, hint: str | None = None, *, is_known: bool = True) -> None:
        super().__init__(message, hint)
        self.is_known = is_known


class NotParsed(NotConverged):
    """The deploy was made and is live, but Airflow is not known to have parsed all of its DAG files."""

    code = "not_parsed"
    default_hint = "Run: dagferry status --watch, to see what Airflow has parsed so far."

    def __init__(self, message: str, hint: str | None = None) -> None:
        # Going back helps nobody: a dag processor that is slow or away does not parse the previous version either.
        super().__init__(message, hint, is_known=False)


class ImportErrorsUnknown(NotParsed):
    """The deploy was made and is live, and Airflow has more import errors, or it has more files, than are listed.

    So whether an older import error is in a file that it adds or changes is not known; no import error is new.
    """

    code = "import_errors_unknown"
    default_hint = (
        "Look at Airflow's own list of import errors for files of this deploy, and correct older ones: where there are "
        "few, all are listed."
    )


class ImportErrorsFound(ClientError):
    """The deploy was made and is live, and Airflow cannot import DAG files of it that it could import before.

    ``problems`` are the new import errors, as the server's status has them.
    """

    code = "import_errors"
    exit_code = EXIT_IMPORT_ERRORS
    default_hint = "Correct the files and deploy again, or undo it. Run: dagferry rollback --previous."
    detail_fields: ClassVar[Mapping[str, str]] = {
        "problems": "The new import errors: `path`, `line`, `message` and `trace`; some of them if there are many.",
        "error_count": "How many import errors Airflow has, with the older ones.",
        "new_error_count": "How many of them are new since the deploy.",
    }


class ConnectionLost(ServerUnreachable):
    """The server did not answer, and may do so in a moment. It is a ``server_unreachable`` like any other."""
