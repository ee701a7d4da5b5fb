"""What the server learns of a process that it counts as a pod: what is live there, why not, and that it is there."""

import pytest

from dagferry_airflow.follower import HEARTBEAT_SECONDS, MAX_SECONDS, Follower
from dagferry_core import protocol
from dagferry_follow.remote.server import Server
from fakeserver import FakeServer

A = {"etl.py": b"rate = 1\n"}
B = {"etl.py": b"rate = 2\n"}


class Process:
    def __init__(self, root: str, fake: FakeServer, *, reports: bool) -> None:
        self.fake, self.now = fake, 1000.0
        self.follower = Follower(root, self.connect, clock=lambda: self.now, jitter=lambda: 1.0)
        self.follower.reports = reports

    def connect(self, timeouts) -> Server:
        return Server(self.fake.url, "default", "dp-0", "bundle", agent="test", volume="v", timeouts=timeouts)

    def asked(self, after: float, *, only_look: bool = False) -> list[dict[str, str]]:
        """Follow so much later, or give a sign of life; return the headers of the requests for the newest deploy."""
        self.now += after
        before = len(self.fake.requests)
        if only_look:
            self.follower.heartbeat()
        else:
            self.follower.follow()
        requests = self.fake.requests[before:]
        return [headers for path, headers in requests if path.endswith("/current")]


@pytest.fixture
def process(tmp_path, fake) -> Process:
    return Process(str(tmp_path / "live"), fake, reports=True)


def test_before_the_first_deploy_it_is_a_pod_with_nothing_live(process) -> None:
    [headers] = process.asked(0)
    assert headers[protocol.INSTANCE] == "dp-0"
    assert protocol.LIVE not in headers


def test_what_was_published_is_told_at_once(process, fake) -> None:
    version = fake.deploy(A)
    first, second = process.asked(0)
    assert protocol.LIVE not in first
    assert (second[protocol.LIVE], second[protocol.LOG]) == (version, fake.log_id)
    assert len(process.asked(5)) == 1


def test_why_a_deploy_is_not_live_is_told_until_it_is(process, fake) -> None:
    fake.deploy(A)
    process.asked(0)
    fake.deploy(B)
    fake.corrupt = lambda kind, body: body if kind == "current" else b"\xff" + body
    process.asked(5)
    [headers, *_] = process.asked(MAX_SECONDS)
    assert headers[protocol.ERROR].startswith("digest_mismatch")
    fake.corrupt = lambda _kind, body: body
    told = process.asked(MAX_SECONDS)
    assert protocol.ERROR in told[0], "it is not known yet that this attempt succeeds"
    assert protocol.ERROR not in told[-1]
    assert protocol.ERROR not in process.asked(5)[0]


def test_that_the_server_was_away_is_not_told(process, fake) -> None:
    fake.deploy(A)
    process.asked(0)
    fake.stop()
    process.asked(5)
    fake.start()
    [headers] = process.asked(MAX_SECONDS)
    assert protocol.ERROR not in headers


def test_without_a_refresh_there_is_a_sign_of_life_that_changes_nothing(process, fake, tmp_path) -> None:
    fake.deploy(A)
    process.asked(0)
    fake.deploy(B)
    sent = [len(process.asked(5, only_look=True)) for _ in range(9)]
    assert sum(sent) == 45 // HEARTBEAT_SECONDS
    assert (tmp_path / "live/current/etl.py").read_bytes() == A["etl.py"], "Airflow must know of a new version first"
    process.asked(5)
    assert (tmp_path / "live/current/etl.py").read_bytes() == B["etl.py"]


def test_a_sign_of_life_is_not_given_during_the_pause_after_a_failure(process, fake) -> None:
    def hang(_kind, handler) -> bool:
        process.now += 3
        fake.send(handler, 503, b"{}")
        return True

    fake.deploy(A)
    process.asked(0)
    fake.intercept = hang
    assert len(process.asked(HEARTBEAT_SECONDS, only_look=True)) == 1
    assert len(process.asked(HEARTBEAT_SECONDS, only_look=True)) == 0
    assert len(process.asked(HEARTBEAT_SECONDS, only_look=True)) == 1


def test_tasks_and_others_give_no_sign_of_life_and_tell_no_error(tmp_path, fake) -> None:
    process = Process(str(tmp_path / "live"), fake, reports=False)
    [headers] = process.asked(0)
    assert protocol.INSTANCE not in headers
    assert process.asked(HEARTBEAT_SECONDS, only_look=True) == []
