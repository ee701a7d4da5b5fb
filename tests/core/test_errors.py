"""The table of errors: every error has its own code, and statuses that real clients of the protocol take as meant."""

from pathlib import Path

from dagferry_core.archive.errors import ArchiveError, ArchiveTruncated, BundleError
from dagferry_core.errors import DagferryError, FormatError
from dagferry_server.errors import RequestError, ServerError
from errortable import ALL_ERRORS


def test_every_code_is_there_once() -> None:
    codes = [error.code for error in ALL_ERRORS]
    assert len(codes) == len(set(codes))


def test_every_error_is_in_the_docs() -> None:
    pages = [path.read_text() for path in (Path(__file__).parents[2] / "docs").rglob("errors.md")]
    for error in ALL_ERRORS:
        assert any(f"| `{error.code}` |" in page for page in pages), error


def test_a_format_error_is_for_those_who_know_where_the_bytes_came_from_and_not_for_people() -> None:
    assert not issubclass(FormatError, DagferryError)
    assert issubclass(FormatError, ValueError)


def test_every_error_says_what_it_is_and_what_to_do_next() -> None:
    for error in ALL_ERRORS:
        assert error.__doc__, error
        assert error.default_hint.endswith((".", "dags", "deploys", "URL")), error
        assert error.exit_code != 0


def test_what_the_caller_must_mend_is_a_4xx_and_what_passes_is_a_5xx_and_never_429() -> None:
    for error in ALL_ERRORS:
        if issubclass(error, (ArchiveError, BundleError, RequestError)):
            assert error.status in {400, 401, 403, 404, 405, 409, 410, 413, 422}
        elif issubclass(error, ServerError):
            assert error.status in {503, 507}


def test_an_error_carries_its_message_and_its_hint() -> None:
    assert ArchiveTruncated("x is cut.", "Do y.").as_dict() == {
        "code": "archive_truncated",
        "message": "x is cut.",
        "hint": "Do y.",
    }
    assert ArchiveTruncated("x is cut.").hint == ArchiveTruncated.default_hint
