"""The root of all errors, and those that belong to no room: of every command, and of every format.

``DagferryError`` is the root; each subclass is one fact, named as such. The body of an HTTP answer, the exit code of
a command, the ``outcome`` label of a metric and the table of errors in the docs all come from its code, status, exit
code and hint. They are where they are met::

    DagferryError
    ├── ArchiveError   dagferry_core.archive   the upload is not an archive that can be trusted   exit 3
    ├── BundleError    dagferry_core.archive   the archive is intact, but its content is refused  exit 3
    ├── RequestError   dagferry_server         the request is wrong                               exit 3 or 4
    ├── ServerError    dagferry_server         the server cannot do it now                        exit 5
    ├── SyncError      dagferry_follow         a deploy could not be taken over                   exit 5 or 6
    └── SetupError     here                    the command was started wrongly                    exit 2

``FormatError`` is none of them: whoever knows where the bytes came from makes one of it.
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


class SetupError(DagferryError):
    """A command was started with a bad setting."""

    code = "setting_invalid"
    exit_code = EXIT_USAGE
    default_hint = "See --help."


class ExtraMissing(SetupError):
    """A command was installed without the libraries it needs."""

    code = "extra_missing"


class FormatError(ValueError):
    """Bytes are not in the form that they should have. What reads stored or received bytes in core raises it.

    It says what is wrong with them, to follow a colon. Whoever knows where they came from makes an error for people
    of it: the server's store ``StoreDamaged``, what follows a server ``AnswerInvalid`` or ``DigestMismatch``.
    """


class Truncated(FormatError):
    """The bytes end before they should."""


def with_subclasses(*kinds: type[DagferryError]) -> list[type[DagferryError]]:
    """Return ``kinds``, each followed by all that are derived from it in the modules that were imported, in order.

    What has no code of its own only groups others, and is left out.
    """
    return [
        found for kind in kinds for found in ([kind] * ("code" in vars(kind)) + with_subclasses(*kind.__subclasses__()))
    ]
