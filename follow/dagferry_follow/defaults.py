"""Defaults and limits that the sidecar and the DAG bundle share: how often to poll, what to keep, how long to pause."""

import os

from dagferry_follow.volume.records import TreeRules

POLL_WAIT_SECONDS = 30
"""How long the server is asked to wait for the next deploy."""
POLL_INTERVAL_SECONDS = 5.0
"""Between plain polls, and the first of the growing pauses after a failure."""
MAX_PAUSE_SECONDS = 60.0
"""The longest of the growing pauses, unless the first one is longer."""

KEEP_TREES = 3
MAX_KEEP_TREES = 10_000
KEEP_HOURS = 24.0
MAX_KEEP_HOURS = 24.0 * 366
TREE_SHARE = 0.8
"""The part of its volume that trees fill by default; the rest is for the tree that is being built."""

TOUCH_AGAIN_SECONDS = (10.0, 60.0)
"""When files that a swap changed are touched again, in seconds after the swap: a parse that was in progress during the
swap may end after it and hide the change; the longest parse takes 50 s by default."""


def tree_rules(root: str, keep_trees: int, keep_hours: float, max_tree_bytes: int | None) -> TreeRules:
    """Return which old trees stay under ``root``; ``None``: trees may fill their share of its volume.

    Raises ``OSError`` if the size of the volume is not known.
    """
    if max_tree_bytes is None:
        volume = os.statvfs(root)
        max_tree_bytes = int(volume.f_blocks * volume.f_frsize * TREE_SHARE)
    return TreeRules(keep_trees, keep_hours, max_tree_bytes)
