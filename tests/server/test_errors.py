"""The server's errors have statuses that real clients of the protocol take as meant: 4xx give up, 5xx try again."""

import json
import re

import pytest

from dagferry_core.errors import EXIT_NOT_ALLOWED, EXIT_REFUSED, EXIT_UNAVAILABLE, with_subclasses
from dagferry_server.errors import IssuerUnavailable, RequestError, ServerError
from dagferry_server.http.deploy_routes import DEPLOY_ROUTES
from dagferry_server.http.openapi import errors_of

POINTS_BACK = re.compile(r"^(?:it|they|then)\b|\b(?:this|these|those) (?!request|is a bug)", re.IGNORECASE)
"""Words that stand for something which has been named before."""


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


@pytest.mark.parametrize("error", errors_of(DEPLOY_ROUTES[0]), ids=lambda error: error.code)
def test_a_hint_reads_well_before_the_message_as_the_astro_cli_shows_it(error) -> None:
    made = error("THE MESSAGE", retry_after=5) if error is IssuerUnavailable else error("THE MESSAGE")
    shown = json.dumps(made.as_dict(), sort_keys=True)  # as the CLI prints the answer to an upload
    assert shown.index(error.default_hint[:20]) < shown.index("THE MESSAGE")
    assert not POINTS_BACK.search(error.default_hint)
    assert "\n" not in error.default_hint


def test_words_that_point_back_are_noticed() -> None:
    for hint in ("Ask for a token with this scope.", "It is too large.", "Add one. If these DAGs are meant to go"):
        assert POINTS_BACK.search(hint)
    for hint in ("Send the file again: this request contained no data.", "This is a bug in Dagferry.", "Itemize them."):
        assert not POINTS_BACK.search(hint)
