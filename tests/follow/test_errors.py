"""The follower's errors: a supervisor can tell what passes by itself from what is wrong on this machine."""

from dagferry_core.errors import EXIT_LOCAL, EXIT_UNAVAILABLE, with_subclasses
from dagferry_follow.errors import ServerRefused, SyncError

LOCAL = {"TokenUnreadable", "TreeDamaged", "VolumeFailed", "RootUnusable", "RootInUse"}


def test_the_exit_code_distinguishes_local_errors_from_the_servers() -> None:
    for error in with_subclasses(SyncError):
        assert error.exit_code == (EXIT_LOCAL if error.__name__ in LOCAL else EXIT_UNAVAILABLE), error


def test_a_refusal_carries_the_status_it_came_with() -> None:
    assert ServerRefused("x").answered == 0
