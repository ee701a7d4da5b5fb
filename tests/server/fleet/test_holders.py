"""A holder of leases has a name that a key of a store may have."""

import re

from dagferry_server.fleet.holders import MAX_HOLDER_CHARACTERS, holder_name

ID = "0123456789abcdef" * 2


def test_the_name_of_a_holder() -> None:
    assert holder_name("bundle", "dag-processor-0", ID) == f"bundle-dag-processor-0-{ID}"


def test_of_a_long_or_odd_name_the_id_stays_whole() -> None:
    for instance in ("x" * 253, "Ä/../b.example\n", "é"):
        name = holder_name("dag-processor", instance, ID)
        assert re.fullmatch("[a-z0-9-]+", name)
        assert len(name) <= MAX_HOLDER_CHARACTERS
        assert name.endswith(f"-{ID}")
