"""A store that does not create an object only once is refused, with what it answered."""

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway
from dagferry_server.store.address import obstore_settings
from dagferry_server.store.objects import CREATE_ATTEMPTS, Objects
from dagferry_server.store.probe import WRITABLE, check_refuses, probe
from faulty_store import CREATE, Fault
from object_stores import BUCKET
from stores import environment

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(bucket):
    return bucket.proxies[0]


@pytest.fixture
def objects(bucket, proxy):
    return bucket.open(proxy)._objects


def test_a_store_that_keeps_its_promise_passes_and_nothing_stays(objects, bucket) -> None:
    probe(objects)
    assert [meta.key for meta in bucket.objects().list(".dagferry")] == [WRITABLE]


def test_several_servers_may_probe_at_once(bucket) -> None:
    for _ in range(2):
        probe(bucket.open()._objects)


def test_a_store_that_ignores_the_condition_is_refused(objects, proxy) -> None:
    proxy.strips_conditions = True
    with pytest.raises(SetupError, match=r"answered a second conditional write of .* with success, though") as caught:
        probe(objects)
    assert objects.url in caught.value.message
    assert "If-None-Match" in caught.value.hint


def test_a_store_that_does_not_know_the_condition_is_refused_with_its_answer(objects, proxy) -> None:
    proxy.refuses_conditions = True
    with pytest.raises(SetupError, match=r"does not know conditional writes; .* it answered 501 Not Implemented"):
        probe(objects)


def test_a_store_that_lets_several_win_a_race_is_refused(objects, proxy, monkeypatch) -> None:
    proxy.lies = True
    monkeypatch.setattr("dagferry_server.store.probe._twice", lambda *_: None)  # which would notice it too
    with pytest.raises(SetupError, match=r"answered \d of 6 conditional writes of .* at the same time with success"):
        probe(objects)


def test_a_store_that_is_away_is_not_refused(objects, bucket) -> None:
    with bucket.away(), pytest.raises(StoreAway, match="HTTP error: error sending request"):
        probe(objects)
    probe(objects)


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_is_no_reason_to_refuse_a_store(objects, proxy, fault) -> None:
    proxy.late_seconds = 0.5
    for _ in range(CREATE_ATTEMPTS - 1):
        proxy.spoil(fault, CREATE)
    probe(objects)
    proxy.wait_for_late()


def test_a_store_that_can_be_written_refuses_to_create_what_there_is(objects) -> None:
    for _ in range(2):
        check_refuses(objects)


def test_a_store_that_ignores_the_condition_later_is_noticed(objects, proxy) -> None:
    check_refuses(objects)
    proxy.strips_conditions = True
    with pytest.raises(StoreAway, match="accepted two writes"):
        check_refuses(objects)


def test_a_wrong_region_is_not_taken_for_an_unknown_condition(bucket) -> None:
    variables = {**bucket.variables(), "AWS_REGION": "eu-central-1"}
    with environment(variables):
        objects = Objects("s3", BUCKET, bucket.prefix, *obstore_settings("s3", variables))
    with pytest.raises(StoreAway, match="AuthorizationHeaderMalformed") as caught:
        probe(objects)
    assert "AWS_REGION" in caught.value.hint
