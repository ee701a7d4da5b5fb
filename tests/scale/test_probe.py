"""A server refuses a store on which two servers could win the same write, and says what the store answered."""

import re

import pytest

import object_stores
from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway
from dagferry_server.store import probe
from faulty_store import CREATE
from racy_store import RacyStore
from stores import NAMES, REFUSED, ObjectStoreUnderTest


class Racy(object_stores.S3):
    """The racy store; it has any bucket."""

    def __init__(self, port: int) -> None:
        self.ports = (port,)


@pytest.fixture
def racy(tmp_path, cleanup) -> ObjectStoreUnderTest:
    fake = RacyStore()
    under_test = ObjectStoreUnderTest(Racy(fake.port), tmp_path)
    cleanup += [under_test.close, fake.close]
    return under_test


def unprobed(under_test: ObjectStoreUnderTest) -> object:
    store = under_test.open(under_test.proxies[0])
    store.probed = False
    return store


def test_a_store_that_can_be_used_passes_and_nothing_is_left_of_it(bucket) -> None:
    store = unprobed(bucket)
    store.probe()
    assert store.probed
    assert [meta.key for meta in bucket.objects().list(".dagferry/probe")] == []
    assert store.prepare("prod")


def test_until_it_has_passed_nothing_is_written(s3) -> None:
    store = unprobed(s3)
    for write in (
        lambda: store.prepare("prod"),
        lambda: store.create_entry("prod", 1, b"one"),
        lambda: store.put_bundle("prod", "sha256:" + "a" * 64, lambda _out: b""),
        lambda: store.write_state("prod", "freeze", b"frozen"),
        store.check_writable,
    ):
        with pytest.raises(StoreAway):
            write()
    assert list(s3.objects().list("prod")) == []


def test_a_store_that_ignores_conditions_is_refused(s3) -> None:
    s3.proxies[0].strips_conditions = True
    with pytest.raises(SetupError, match=r"second conditional write .* with success"):
        unprobed(s3).probe()
    assert s3.proxies[0].counts()[CREATE] > 1


def test_a_store_that_answers_a_refused_write_with_success_is_refused(plain_bucket) -> None:
    plain_bucket.proxies[0].lies = True
    with pytest.raises(SetupError, match=r"second conditional write .* with success"):
        unprobed(plain_bucket).probe()


def test_a_store_that_does_not_know_conditions_is_refused_with_its_answer(s3) -> None:
    s3.proxies[0].refuses_conditions = True
    with pytest.raises(SetupError, match=re.escape("501 Not Implemented (NotImplemented)")):
        unprobed(s3).probe()


def test_a_store_that_checks_without_atomicity_is_refused(racy) -> None:
    with pytest.raises(SetupError, match=rf"\d of {probe.RACERS} conditional writes of .* at the same time"):
        unprobed(racy).probe()


@pytest.mark.skipif(REFUSED not in NAMES, reason=f"DAGFERRY_TEST_STORES does not name {REFUSED}")
def test_a_mock_that_checks_without_atomicity_now_and_then_is_refused_at_one_of_its_starts(tmp_path, cleanup) -> None:
    under_test = ObjectStoreUnderTest(object_stores.s3mock(), tmp_path)
    cleanup.append(under_test.close)

    def refused() -> bool:
        try:
            unprobed(under_test).probe()
        except SetupError as error:
            return "at the same time with success" in str(error)
        return False

    # It is a matter of chance; a probe finds it in about every second start.
    assert any(refused() for _ in range(20))


def test_a_store_that_is_away_is_not_refused_for_good(s3) -> None:
    store = unprobed(s3)
    with s3.away(), pytest.raises(StoreAway):
        store.probe()
    store.probe()
    assert store.prepare("prod")
