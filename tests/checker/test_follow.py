"""Following: first what is live, then each candidate, oldest first; the server may be away, candidates may go."""

from typing import Any

import pytest

from checker_site import ABOUT, LIVE, Site
from dagferry_checker.errors import ImportCheckFailed
from dagferry_checker.follow import AGAIN_SECONDS
from dagferry_checker.problems import Fault, Kind, Outcome
from dagferry_core import protocol
from dagferry_follow.errors import ProxyFailed, ServerRefused, ServerUnreachable
from dagferry_runtime.signals import Stopped


@pytest.fixture
def site(tmp_path):
    made = Site(str(tmp_path / "work"))
    yield made
    made.store.close()


def test_what_is_live_is_checked_before_any_candidate(site) -> None:
    site.server.deploy(LIVE)
    site.server.upload({**LIVE, "dag_c.py": b"new\n"})
    site.steps()
    assert site.engine.parsed == [["dag_a.py", "dag_b.py"]]
    assert site.server.asked == [(0, {**ABOUT, protocol.CHECKER: protocol.WARMING})]
    site.steps()
    assert site.engine.parsed[1:] == [["dag_c.py"]]
    assert site.server.asked[1] == (0, ABOUT)
    assert len(site.server.verdicts) == 1


def test_a_verdict_says_which_problems_are_new(site) -> None:
    site.server.deploy(LIVE)
    candidate = site.server.upload({**LIVE, "dag_c.py": b"broken now\n"})
    site.steps(2)
    verdict = site.verdict()
    assert {problem["path"]: problem["new"] for problem in verdict["problems"]} == {"dag_b.py": False, "dag_c.py": True}
    assert (verdict["problem_count"], verdict["new_problem_count"]) == (2, 1)
    assert (verdict["base"], verdict["digest"], verdict["instance"]) == (candidate.base, candidate.digest, "checker-0")
    assert (verdict["airflow"], verdict["python"]) == ("3.3.2", "3.11.7")


def test_only_what_changed_or_imports_it_is_parsed(site) -> None:
    site.server.deploy({**LIVE, "dag_d.py": b"other\n"})
    site.server.upload({**LIVE, "dag_d.py": b"other\n", "shop.py": b"rate = 2\n"})
    site.steps(2)
    assert site.engine.parsed[1] == ["dag_a.py"]
    assert [kind for _, kind in site.server.sent] == ["whole", "patch"]


def test_without_a_deploy_the_checker_is_ready_at_once_and_parses_all(site) -> None:
    site.server.upload(LIVE)
    site.steps(2)
    assert site.engine.parsed == [["dag_a.py", "dag_b.py"]]
    assert site.verdict()["new_problem_count"] == 1


def test_a_candidate_that_became_live_is_not_parsed_again(site) -> None:
    site.server.deploy(LIVE)
    files = {**LIVE, "dag_c.py": b"broken now\n"}
    site.server.upload(files)
    site.steps(2)
    site.server.deploy(files)
    site.server.upload({**files, "dag_e.py": b"e\n"})
    site.steps(2)
    assert site.engine.parsed[2:] == [["dag_e.py"]]
    assert site.verdict()["new_problem_count"] == 0, "what is live has both problems"
    assert len(site.server.sent) == 3, "its tree was there"


def test_the_oldest_candidate_is_first_and_each_is_answered_once(site) -> None:
    site.server.deploy(LIVE)
    ids = [site.server.upload({**LIVE, f"dag_{name}.py": b"x\n"}).id for name in "cde"]
    site.steps(6)
    assert [candidate for candidate, _ in site.server.verdicts] == ids


def test_with_nothing_to_do_the_server_is_asked_to_wait(site) -> None:
    site.server.deploy(LIVE)
    site.steps(3)
    assert [wait for wait, _ in site.server.asked] == [0, 30, 30]


def test_a_candidate_that_is_gone_costs_nothing(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    candidate = site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    original = site.server.candidate
    site.server.candidate = lambda candidate, have: site.server.withdraw(candidate) or original(candidate, have)
    site.steps(2)
    assert site.server.verdicts == []
    assert site.engine.parsed == [["dag_a.py", "dag_b.py"]]
    assert candidate.id not in {one.id for one in site.server.waiting}


def test_a_candidate_that_goes_during_its_check_ends_the_check(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    candidate = site.server.upload({**LIVE, "dag_c.py": b"c\n"})

    def during() -> None:
        site.now += 60
        site.server.withdraw(candidate.id)

    site.engine.during = during
    site.steps(2)
    assert site.server.verdicts == []
    assert len(site.engine.parsed) == 1


def test_while_a_check_runs_the_server_hears_of_the_checker(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    asked = len(site.server.asked)

    def during() -> None:
        site.now += 60

    site.engine.during = during
    site.steps()
    assert site.server.asked[asked + 1 :] == [(0, ABOUT)]
    assert len(site.server.verdicts) == 1


def test_a_server_that_is_away_during_a_check_does_not_end_it(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    site.server.upload({**LIVE, "dag_c.py": b"c\n"})

    def during() -> None:
        site.now += 60
        site.server.away = 1

    site.engine.during = during
    site.steps()
    assert len(site.server.verdicts) == 1


def test_a_check_that_could_not_be_done_is_said_and_repeated_later(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    site.engine.fails = [ImportCheckFailed("The engine ended (1).")]
    site.server.withdraw = lambda _candidate: None
    site.steps()
    assert site.verdict() == {"instance": "checker-0", "failed": "The engine ended (1)."}
    site.steps()
    assert len(site.server.verdicts) == 1, "not at once"
    site.now += AGAIN_SECONDS
    site.steps()
    assert "problems" in site.verdict()


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(0, "It was too long.", kind) for kind in (Kind.TIMEOUT, Kind.MEMORY, Kind.CRASH)),
        Fault(1, "ConnectionRefusedError: [Errno 111] Connection refused", Kind.IMPORT),
    ],
    ids=lambda fault: fault.message.partition(":")[0] + fault.kind.value,
)
def test_what_may_have_passed_is_parsed_again_when_it_is_uploaded_again(site, fault) -> None:
    site.server.deploy(LIVE)
    site.steps()
    files = {**LIVE, "dag_c.py": b"c\n", "dag_d.py": b"broken, for good\n"}
    parse = site.engine.parse
    site.engine.parse = lambda tree, paths, heartbeat: {
        **parse(tree, paths, heartbeat),
        "dag_c.py": Outcome((), (fault,), ()),
    }
    site.server.upload(files)
    site.steps()
    site.engine.parse = parse
    site.server.upload(files)
    site.steps()
    site.server.upload(files)
    site.steps()
    assert site.engine.parsed == [["dag_a.py", "dag_b.py"], ["dag_c.py", "dag_d.py"], ["dag_c.py"]]
    found = site.verdict()
    assert ([problem["path"] for problem in found["problems"] if problem["new"]], found["unjudged"]) == (
        ["dag_d.py"],
        [],
    )


def test_what_may_have_passed_is_parsed_once_for_each_upload(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    site.server.withdraw = lambda _candidate: None
    slow = {"dag_c.py": Outcome((), (Fault(0, "It was too long.", Kind.TIMEOUT),), ())}
    parsed = []
    site.engine.parse = lambda _tree, paths, _heartbeat: parsed.append(paths) or slow
    for _ in range(3):
        site.steps()
        site.now += AGAIN_SECONDS
    assert len(site.server.verdicts) == 3
    assert parsed == [["dag_c.py"]]


def test_a_candidate_that_comes_back_after_a_failed_check_is_answered_soon(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    candidate = site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    site.engine.fails = [ImportCheckFailed("The engine ended (1).")]
    site.steps()
    site.now += 3
    site.server.waiting.append(candidate)  # its deployer tries again at once
    site.server._changes += 1
    site.steps(2)
    site.now += AGAIN_SECONDS - 3
    site.steps()
    assert [wait for wait, _ in site.server.asked][-2] == AGAIN_SECONDS - 3
    assert "problems" in site.verdict()


@pytest.mark.parametrize("status", [503, 429, 507])
def test_a_verdict_that_could_not_be_stored_is_sent_again(site, status) -> None:
    site.server.deploy(LIVE)
    site.steps()
    site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    stored = site.server.verdict

    def away(*_: Any) -> bool:
        site.server.verdict = stored
        raise refusal(status)

    site.server.verdict = away
    with pytest.raises(ServerRefused):
        site.steps()
    site.steps()
    assert site.verdict()["problem_count"] == 1


def refusal(status: int) -> ServerRefused:
    error = ServerRefused(f"The server answered {status}.")
    error.answered = status
    return error


@pytest.mark.parametrize(
    "error",
    [refusal(503), refusal(429), refusal(502), refusal(507), ServerUnreachable("No."), ProxyFailed("No.")],
    ids=lambda error: f"{error.code}-{getattr(error, 'answered', '')}",
)
def test_a_content_that_the_server_cannot_send_now_is_fetched_again_and_no_failed_check(site, error) -> None:
    site.server.deploy(LIVE)
    site.steps()
    candidate = site.server.upload({**LIVE, "dag_c.py": b"broken now\n"})
    site.server.busy[candidate.id] = [error]
    with pytest.raises(type(error)):
        site.steps()
    assert site.server.verdicts == []
    site.steps()
    assert site.verdict()["new_problem_count"] == 1


def test_a_content_that_the_server_refuses_for_good_is_a_failed_check(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    candidate = site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    site.server.busy[candidate.id] = [refusal(400)]
    site.steps()
    assert site.verdict() == {"instance": "checker-0", "failed": "The server answered 400."}


def test_candidates_that_the_server_cannot_send_hold_up_no_others(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    lost, busy, other = (site.server.upload({**LIVE, f"dag_{name}.py": b"x\n"}).id for name in "cde")
    site.server.busy = {lost: [refusal(503)] * 10, busy: [refusal(503)]}
    for _ in range(2):
        with pytest.raises(ServerRefused):
            site.steps()
    site.steps()
    assert [candidate for candidate, _ in site.server.verdicts] == [other]
    with pytest.raises(ServerRefused):
        site.steps()
    site.steps()
    assert [candidate for candidate, _ in site.server.verdicts] == [other, busy]


def test_a_verdict_that_did_not_arrive_is_sent_when_the_server_is_back(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    site.server.upload({**LIVE, "dag_c.py": b"c\n"})
    site.engine.during = lambda: setattr(site.server, "away", 1)
    with pytest.raises(ServerUnreachable):
        site.steps()
    site.steps()
    assert site.verdict()["problem_count"] == 1
    assert len(site.engine.parsed) == 2, "what is known is not parsed again"


def test_a_server_that_is_away_is_tried_again_with_pauses(site) -> None:
    site.server.deploy(LIVE)
    site.server.away = 10
    with pytest.raises(Stopped):
        site.follower.run()
    assert len(site.pauses) == 3
    assert all(0 < pause < 1 for pause in site.pauses), "it may be restarting"
    assert site.server.away == 7


def test_long_absences_have_longer_pauses(site) -> None:
    site.server.away = 10
    site.sleep = lambda seconds: (site.pauses.append(seconds), setattr(site, "now", site.now + 61))
    site.follower._sleep = lambda seconds: Site.sleep(site, seconds) or setattr(site, "now", site.now + 61)
    with pytest.raises(Stopped):
        site.follower.run()
    assert site.pauses[2] > site.pauses[0]


def test_a_patch_that_does_not_fit_is_followed_by_everything(site) -> None:
    site.server.deploy(LIVE)
    site.steps()
    with open(f"{site.store.find(site.server.live.digest).folder}/dag_a.py", "w") as file:
        file.write("a DAG file wrote into its folder")
    site.server.upload({**LIVE, "shop.py": b"rate = 2\n"})
    site.steps()
    assert [kind for _, kind in site.server.sent] == ["whole", "patch", "whole"]
    assert site.verdict()["new_problem_count"] == 0


def test_a_signal_to_stop_ends_a_check(site) -> None:
    site.server.deploy(LIVE)
    site.engine.during = lambda: setattr(site.stopping, "received", True)
    with pytest.raises(Stopped):
        site.follower.run()
    site.follower.leave()
    assert site.server.left
