"""The server's errors have statuses that real clients of the protocol take as meant: 4xx give up, 5xx try again."""

from dagferry_core.errors import EXIT_NOT_ALLOWED, EXIT_REFUSED, EXIT_UNAVAILABLE, with_subclasses
from dagferry_server.errors import IssuerUnavailable, RequestError, ServerError


def test_what_the_caller_must_change_is_a_4xx_and_never_429() -> None:
    for error in with_subclasses(RequestError):
        assert error.status in {400, 401, 403, 404, 405, 409, 410, 412, 413, 422, 423}
        assert error.exit_code in {EXIT_REFUSED, EXIT_NOT_ALLOWED}


def test_what_passes_is_a_5xx_with_a_time_to_try_again() -> None:
    for error in with_subclasses(ServerError):
        assert error.status in {503, 507}
        assert error.exit_code == EXIT_UNAVAILABLE
        assert error.retry_after > 0
    assert IssuerUnavailable("x", retry_after=7).retry_after == 7
