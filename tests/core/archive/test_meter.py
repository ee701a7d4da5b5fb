"""What an archive comes to is counted, and too much of it is stopped at once."""

import io

import pytest

from dagferry_core.archive.errors import ExpandedTooLarge, PathsTooLarge, RatioTooHigh
from dagferry_core.archive.meter import Meter
from dagferry_core.limits import MAX_PATHS_BYTES, MAX_RATIO, RATIO_FREE_BYTES


def meter(content: bytes = b"", upload_bytes: int = 1 << 40, max_expanded_bytes: int = 1 << 40) -> Meter:
    return Meter(io.BytesIO(content).read, upload_bytes, max_expanded_bytes)


def test_what_is_read_and_what_links_copy_counts_up_to_the_limit() -> None:
    counted = meter(b"x" * 10, max_expanded_bytes=15)
    assert counted.read(8) == b"x" * 8
    assert counted.read(8) == b"x" * 2
    counted.add(5)
    with pytest.raises(ExpandedTooLarge, match=r"at least 16 bytes; the limit is 15 bytes \(--max-expanded-bytes\)"):
        counted.add(1)


def test_a_bomb_is_recognized_by_its_ratio_but_not_before_it_is_large() -> None:
    counted = meter(upload_bytes=1)
    counted.add(RATIO_FREE_BYTES)
    with pytest.raises(RatioTooHigh, match=f"has 1 bytes and expands to more than {MAX_RATIO} times as many"):
        counted.add(1)


def test_paths_count_up_to_the_limit() -> None:
    counted = meter()
    counted.add_path(b"x" * (MAX_PATHS_BYTES - 1))
    counted.add_path(b"x")
    with pytest.raises(PathsTooLarge, match="at least 16,777,217 bytes long in total; the limit is 16,777,216 bytes"):
        counted.add_path(b"x")
