"""The defaults that sidecar and DAG bundle share."""

import os

import pytest

from dagferry_follow import defaults
from dagferry_follow.defaults import TREE_SHARE, tree_rules
from dagferry_follow.volume.records import TreeRules


def test_a_limit_is_used_as_it_is() -> None:
    assert tree_rules("/nowhere", 3, 24.0, 5) == TreeRules(3, 24.0, 5)


def test_without_a_limit_trees_may_fill_their_share_of_the_volume(tmp_path) -> None:
    volume = os.statvfs(tmp_path)
    assert tree_rules(str(tmp_path), 1, 2.0, None) == TreeRules(1, 2.0, int(volume.f_blocks * volume.f_frsize * 0.8))
    assert TREE_SHARE == 0.8
    with pytest.raises(OSError, match="No such file"):
        tree_rules("/nowhere", 1, 2.0, None)


def test_the_defaults_are_the_documented_ones() -> None:
    assert (defaults.POLL_WAIT_SECONDS, defaults.POLL_INTERVAL_SECONDS, defaults.MAX_PAUSE_SECONDS) == (30, 5, 60)
    assert (defaults.KEEP_TREES, defaults.KEEP_HOURS) == (3, 24)
    assert defaults.TOUCH_AGAIN_SECONDS == (10, 60)
