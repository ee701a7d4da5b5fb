"""What servers send each other is checked, and other releases are understood."""

import json

import pytest

from dagferry_core.errors import FormatError
from dagferry_server.peers.wire import FleetRequest, News, Poke, decode

ID = "0" * 32
POD = ["worker-0", "a", "worker", "v", "log", "", -1, -1, 1.0, 0.5, 9.0, True]
DEPLOYMENT = {"log_id": "log", "head": 1, "generation": 1, "heard_in": -5.0, "crowded_for": -9.0, "pods": [POD]}
NEWS = {"server": ID, "sent": 5.0, "revision": 1, "change": 0, "deployments": {"prod": DEPLOYMENT}}


def test_news_are_read_and_what_a_later_release_adds_is_ignored() -> None:
    news = decode(News, json.dumps({**NEWS, "later": 1}).encode())
    pod = news.deployments["prod"].pods[0]
    assert (pod.instance, pod.reported, pod.is_open) == ("worker-0", 1.0, True)
    assert (news.full, news.whole, news.reaches_store, news.gone) == (False, False, False, [])
    assert decode(News, news.model_dump_json().encode()) == news


@pytest.mark.parametrize(
    "change",
    [
        {"server": "me"},
        {"sent": "NaN"},
        {"revision": -1},
        {"hears": ["x"]},
        {"deployments": {"prod": {**DEPLOYMENT, "pods": [POD[:-1]]}}},
        {"deployments": {"prod": {**DEPLOYMENT, "pods": [[*POD[:8], -1.0, *POD[9:]]]}}},
        {"deployments": {"prod": {**DEPLOYMENT, "heard_in": "Infinity"}}},
        {"deployments": []},
    ],
)
def test_anything_else_is_refused(change) -> None:
    with pytest.raises(FormatError, match="it is not News"):
        decode(News, json.dumps({**NEWS, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"server": 1}'])
@pytest.mark.parametrize("model", [News, FleetRequest, Poke])
def test_what_is_no_message_is_refused(model, data) -> None:
    with pytest.raises(FormatError):
        decode(model, data)


def test_what_was_reported_of_airflow_is_told_and_an_older_server_does_not_tell_it() -> None:
    assert decode(News, json.dumps(NEWS).encode()).deployments["prod"].reports == []
    parsed = {"version": "v", "sequence": 1, "digest": "d", "files": 2, "recorded": 2, "later": 1}
    row = {"component": "bundle", "instance": "a", "id": ID, "log_id": "log", "heard": 1.0, "came": 2.0}
    told = {**NEWS, "deployments": {"prod": {**DEPLOYMENT, "reports": [{**row, "parsed": parsed}, row]}}}
    news = decode(News, json.dumps(told).encode())
    [first, second] = news.deployments["prod"].reports
    assert (first.parsed and first.parsed.recorded, first.left, first.complete) == (2, False, None)
    assert second.parsed is None
    assert decode(News, news.model_dump_json().encode()) == news
