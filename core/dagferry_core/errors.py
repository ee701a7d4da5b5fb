"""The root of all errors, and the errors that all packages share.

Each subclass of ``DagferryError`` is one thing that can go wrong, and is named after it. The body of an HTTP answer,
the exit code of a command, the ``outcome`` label of a metric and the table of errors in the docs come from its code,
status, exit code and hint. Each error is defined in the package that raises it::

    DagferryError
    ├── ArchiveError   dagferry_core.archive   the upload is not a valid archive           exit 3
    ├── BundleError    dagferry_core.archive   the archive's content is refused            exit 3
    ├── RequestError   dagferry_server         the request is invalid                      exit 3 or 4
    ├── ServerError    dagferry_server         the server cannot handle it at the moment   exit 5
    ├── SyncError      dagferry_follow         a deploy could not be published             exit 5 or 6
    ├── ClientError    dagferry_client         the server refuses what a command asks for  exit 3, 4 or 5
    ├── CheckFailed    dagferry_gate          the Python files could not be checked       exit 5
    └── SetupError     here                    a setting of the command is invalid         exit 2

``FormatError`` is not one of them: callers turn it into one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from dagferry_core.documentation import Audience

EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_ALLOWED = 4
EXIT_UNAVAILABLE = 5
EXIT_LOCAL = 6
EXIT_NOT_CONVERGED = 7
EXIT_IMPORT_ERRORS = 8


class DagferryError(Exception):
    """An internal error: a bug in Dagferry.

    The root of all errors. They are written for the person who has to act: ``message`` says what happened to which
    file or request, ``hint`` what to do next (by default the hint of the class). ``details`` are further facts for
    programs, as JSON; ``detail_fields`` says what those of a class mean.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    audience: ClassVar[Audience] = Audience.OPERATORS
    default_hint: ClassVar[str] = "This is a bug in Dagferry. Please report it, with what the log says about it."
    detail_fields: ClassVar[Mapping[str, str]] = {}

    def __init__(self, message: str, hint: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.details: Mapping[str, Any] = details or {}

    def as_dict(self) -> dict[str, Any]:
        """Return the body of an HTTP answer: ``code``, ``message``, ``hint``, and the ``details`` beside them."""
        return {**self.details, "code": self.code, "message": self.message, "hint": self.hint}


class SetupError(DagferryError):
    """A setting of the command is invalid."""

    code = "setting_invalid"
    exit_code = EXIT_USAGE
    default_hint = "See --help."


class ExtraMissing(SetupError):
    """The command was installed without the libraries it needs."""

    code = "extra_missing"


class FormatError(ValueError):
    """Bytes are not in the format that they should be in. Everything in core that decodes bytes raises it.

    The text says what is wrong with them and fits behind a colon. The caller knows where the bytes came from, and turns
    this into an error for people: the server's store into ``StoreDamaged``, a follower into ``AnswerInvalid`` or
    ``DigestMismatch``.
    """


class Truncated(FormatError):
    """The bytes end before they should."""


def with_subclasses(*kinds: type[DagferryError]) -> list[type[DagferryError]]:
    """Return ``kinds``, each followed by all that are derived from it in the modules that were imported, in order.

    Classes without a code of their own only group others, and are omitted.
    """
    return [
        found for kind in kinds for found in ([kind] * ("code" in vars(kind)) + with_subclasses(*kind.__subclasses__()))
    ]
