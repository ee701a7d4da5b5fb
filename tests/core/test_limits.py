"""What may be uploaded and unpacked."""

import pytest

from dagferry_core.limits import (
    GIB,
    INGRESS_UPLOAD_BYTES,
    MAX_RATIO,
    MIB,
    RATIO_FREE_BYTES,
    ratio_too_high,
    tiers_from,
    upload_limit,
)


@pytest.mark.parametrize(("tiers", "mib"), [(1, 15), (2, 30), (10, 150)])
def test_a_tier_buys_15_mib(tiers, mib):
    assert upload_limit(tiers, third_party_ingress=False).bytes == mib * MIB


@pytest.mark.parametrize("tiers", [1, 2, 100])
def test_behind_a_third_party_ingress_8_mib_pass_whatever_the_tier(tiers):
    assert upload_limit(tiers, third_party_ingress=True).bytes == INGRESS_UPLOAD_BYTES == 8 * MIB


def test_a_limit_names_its_rule_and_how_to_raise_it():
    one, two, ingress = (upload_limit(t, third_party_ingress=i) for t, i in ((1, False), (2, False), (2, True)))
    assert (one.rule, two.rule) == ("1 tier of 15 MiB", "2 tiers of 15 MiB")
    assert "ingress" in ingress.rule
    assert "--tiers" in two.hint
    assert "--third-party-ingress" in ingress.hint
    assert "--tiers" not in ingress.hint  # more tiers would not help


@pytest.mark.parametrize(
    ("cpus", "memory_bytes", "tiers"),
    [
        (None, None, 1),
        (0.25, None, 1),
        (0.5, 512 * MIB, 1),
        (1, 1536 * MIB, 1),
        (2, 3 * GIB, 2),
        (2, 3 * GIB - 1, 1),
        (1.99, 3 * GIB, 1),
        (8, 3 * GIB, 2),
        (2.5, 64 * GIB, 2),
        (4, None, 4),
        (None, 6 * GIB, 4),
        (None, 1, 1),
    ],
)
def test_the_scarcer_of_cpu_and_memory_decides_the_tiers_and_at_least_one_there_is(cpus, memory_bytes, tiers):
    assert tiers_from(cpus, memory_bytes) == tiers


def test_an_archive_is_a_bomb_only_if_it_is_large_and_expands_more_than_250_times():
    assert not ratio_too_high(RATIO_FREE_BYTES, 1)
    assert ratio_too_high(RATIO_FREE_BYTES + 1, 1)
    assert not ratio_too_high(GIB, GIB // MAX_RATIO + 1)
    assert ratio_too_high(GIB, 32_786)
