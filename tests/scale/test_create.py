"""Of all who write the same sequence of a log, exactly one wins, whatever happens to their requests and answers."""

import collections
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dagferry_server.errors import StoreAway
from faulty_store import CREATE, GET, Fault, FaultyStore
from stores import ObjectStoreUnderTest

RACERS = 10
SHORT_SECONDS = 0.3
MIXED_ROUNDS = 10


def racers(under_test: ObjectStoreUnderTest) -> list[tuple[FaultyStore, object]]:
    """Ten servers, each with a proxy of its own; their proxies share the endpoints."""
    service = under_test.service
    ports = itertools.islice(itertools.cycle(service.ports), RACERS)
    proxies = [FaultyStore(port, service.segments, service.sign) for port in ports]
    under_test.proxies += proxies
    return [(proxy, under_test.open(proxy)) for proxy in proxies]


def race(stores: list[tuple[FaultyStore, object]], faults: list[Fault], sequence: int, seconds: float) -> list[bool]:
    """Let each write the sequence, with its fault at its first PUT."""
    start = threading.Barrier(len(stores))

    def write(number: int) -> bool:
        proxy, store = stores[number]
        proxy.late_seconds = seconds
        proxy.spoil(faults[number], CREATE)
        start.wait()
        return store.create_entry("prod", sequence, b"%d %d" % (number, sequence))

    with ThreadPoolExecutor(len(stores)) as pool:
        won = list(pool.map(write, range(len(stores))))
    for proxy, _ in stores:
        proxy.wait_for_late()
    return won


def check(under_test: ObjectStoreUnderTest, won: list[bool], sequence: int) -> None:
    assert won.count(True) == 1, won
    assert under_test.open().read_entry("prod", sequence) == b"%d %d" % (won.index(True), sequence)


@pytest.mark.parametrize("fault", list(Fault))
def test_of_ten_whose_first_request_is_spoilt_alike_one_wins(plain_bucket, fault) -> None:
    plain_bucket.open().prepare("prod")
    stores = racers(plain_bucket)
    won = race(stores, [fault] * RACERS, 1, 3.0 if fault is Fault.LATE else 0)
    assert [proxy.struck for proxy, _ in stores] == [[fault]] * RACERS
    check(plain_bucket, won, 1)


def test_of_ten_each_with_another_fault_one_wins_in_every_round(plain_bucket) -> None:
    plain_bucket.open().prepare("prod")
    stores = racers(plain_bucket)
    faults = list(Fault)
    for number in range(1, MIXED_ROUNDS + 1):
        mixed = [faults[(racer * number + racer + number) % len(faults)] for racer in range(RACERS)]
        check(plain_bucket, race(stores, mixed, number, SHORT_SECONDS), number)
    assert plain_bucket.open().sequences("prod") == list(range(1, MIXED_ROUNDS + 1))
    assert collections.Counter(fault for proxy, _ in stores for fault in proxy.struck).keys() == set(Fault)


def test_a_conflict_is_not_taken_for_a_lost_race(plain_bucket) -> None:
    plain_bucket.open().prepare("prod")
    [proxy, *_] = plain_bucket.proxies
    store = plain_bucket.open(proxy)
    proxy.spoil(Fault.CONFLICT, CREATE)
    assert store.create_entry("prod", 1, b"one")
    assert proxy.struck == [Fault.CONFLICT]
    assert store.read_entry("prod", 1) == b"one"


def test_a_write_that_arrives_after_its_writer_gave_up_is_its_own_when_it_asks_again(plain_bucket) -> None:
    [proxy, *_] = plain_bucket.proxies
    store = plain_bucket.open(proxy)
    store.prepare("prod")
    proxy.spoil(Fault.LATE, CREATE)
    proxy.unavailable = lambda request: request.kind == CREATE and Fault.LATE in proxy.struck
    with pytest.raises(StoreAway):
        store.create_entry("prod", 1, b"one with a nonce")
    proxy.wait_for_late()
    proxy.unavailable = lambda _request: False
    assert not plain_bucket.open().create_entry("prod", 1, b"another")
    assert store.create_entry("prod", 1, b"one with a nonce")
    assert store.read_entry("prod", 1) == b"one with a nonce"


def test_nobody_is_told_that_it_lost_while_the_storage_cannot_be_read(plain_bucket) -> None:
    [proxy, *_] = plain_bucket.proxies
    store = plain_bucket.open(proxy)
    store.prepare("prod")
    proxy.spoil(Fault.ANSWER_DROPPED, CREATE)
    proxy.unavailable = lambda request: request.kind == GET and bool(proxy.struck)
    with pytest.raises(StoreAway):
        store.create_entry("prod", 1, b"one with a nonce")
    proxy.unavailable = lambda _request: False
    assert store.create_entry("prod", 1, b"one with a nonce")


def test_twenty_servers_that_start_on_an_empty_bucket_agree_on_one_log(plain_bucket) -> None:
    stores = [plain_bucket.open() for _ in range(20)]
    start = threading.Barrier(len(stores))

    def begin(store: object) -> tuple[bool, str]:
        start.wait()
        return store.prepare("prod"), store.log_id("prod")

    with ThreadPoolExecutor(len(stores)) as pool:
        begun = list(pool.map(begin, stores))
    assert [new for new, _ in begun].count(True) == 1
    assert len({log_id for _, log_id in begun}) == 1
