"""The sidecar's hints name its flags; a hint that an error was raised with says more, and wins."""

import re

import pytest

from dagferry_core.errors import SetupError
from dagferry_follow.errors import RootUnusable, ServerUnreachable, SyncError
from dagferry_sidecar.hints import HINTS, hint
from dagferry_sidecar.settings import SETTINGS
from errortable import ALL_ERRORS


def test_an_error_gets_the_sidecars_hint_for_its_kind() -> None:
    assert hint(ServerUnreachable("No answer.")) == HINTS["server_unreachable"]
    assert "--root" in hint(RootUnusable("It is a file."))


def test_the_hint_that_an_error_was_raised_with_wins() -> None:
    assert hint(ServerUnreachable("No answer.", "Is it https?")) == "Is it https?"


def test_another_error_keeps_its_own_hint() -> None:
    assert hint(SetupError("A flag is wrong.")) == SetupError.default_hint


def test_each_hint_is_for_an_error_that_there_is_and_names_flags_that_there_are() -> None:
    assert set(HINTS) <= {error.code for error in ALL_ERRORS}
    flags = {setting.flag for setting in SETTINGS}
    assert {flag for text in HINTS.values() for flag in re.findall(r"--[a-z-]+", text)} <= flags


@pytest.mark.parametrize("error", [error for error in ALL_ERRORS if issubclass(error, SyncError)])
def test_what_every_follower_shares_names_no_flags(error) -> None:
    assert not re.search(r"--[a-z]|[Ss]idecar", error.default_hint)
