"""A sidecar process and a server that misbehaves: the live tree stays, probes are right, the next cycle recovers."""

import time

import pytest

from harness import eventually
from pods import A, B, C, cut_at, leftovers, lines, outcome, ready

pytestmark = pytest.mark.slow


def test_an_unreachable_server_at_start_and_later_removes_nothing_that_was_published(fake, pod) -> None:
    version = fake.deploy(A)
    pod().runs(version).stop()
    fake.stop()
    sidecar = pod()
    eventually("readiness without a server", lambda: ready(sidecar)["ready"])
    assert sidecar.tree() == A
    eventually("the error", lambda: (ready(sidecar)["error"] or {}).get("code") == "server_unreachable")
    fake.start()
    sidecar.runs(fake.deploy(B))
    eventually("no error", lambda: ready(sidecar)["error"] is None)
    fake.stop()
    eventually("the error again", lambda: (ready(sidecar)["error"] or {}).get("code") == "server_unreachable")
    assert ready(sidecar)["ready"] is True
    assert len(lines(sidecar, "Recovered")) == 1


def test_waits_that_are_interrupted_are_no_errors_and_become_shorter(fake, pod) -> None:
    def cut_waits(kind: str, handler) -> bool:
        wait = int(handler.headers.get("Prefer", "wait=0").removeprefix("wait="))
        if kind != "current" or wait <= 2:
            return False
        time.sleep(3)
        handler.connection.shutdown(2)
        handler.close_connection = True
        return True

    fake.intercept = cut_waits
    sidecar = pod("--poll-wait", "30").runs(fake.deploy(A))
    eventually("a shorter wait", lambda: any(headers.get("Prefer") == "wait=2" for _, headers in fake.requests))
    assert outcome(sidecar, "server_unreachable") == 0
    assert ready(sidecar)["error"] is None
    [line] = [line for line in sidecar.logged() if line["level"] != "info"]
    assert line["message"] == "Long polls are cut off on the way. For an hour they are limited to 2 s."
    assert "--poll-wait" in line["hint"]
    sidecar.runs(fake.deploy(B))


@pytest.mark.parametrize("after", [0, 40, 150])
def test_an_interrupted_download_changes_nothing_and_the_next_one_works(fake, pod, tmp_path, after) -> None:
    sidecar = pod().runs(fake.deploy(A))
    fake.intercept = cut_at(fake, after)
    version = fake.deploy(C)
    eventually("failures", lambda: outcome(sidecar, "server_unreachable") >= 2)
    assert sidecar.tree() == A
    assert leftovers(tmp_path / "pod") == set()
    assert ready(sidecar)["ready"] is True
    fake.intercept = lambda _kind, _handler: False
    sidecar.runs(version)
    assert sidecar.tree() == C


def test_a_patch_that_does_not_fit_is_followed_by_the_whole_bundle(fake, pod) -> None:
    sidecar = pod().runs(fake.deploy(A))
    wrong = fake.deploys[0][1].patch_from  # of the first to itself: leads elsewhere
    fake.corrupt = lambda kind, body: wrong(fake.deploys[0][1]) or b"" if kind == "patch" else body
    sidecar.runs(fake.deploy(B))
    assert sidecar.tree() == B
    assert sidecar.metric('dagferry_sidecar_download_bytes_total{kind="whole"}') > 0


@pytest.mark.parametrize("harm", ["another bundle", "flipped bits", "not a bundle"])
def test_a_download_that_is_not_what_was_announced_is_not_published_nor_tried_in_a_hot_loop(
    fake, pod, tmp_path, harm
) -> None:
    sidecar = pod("--poll-interval", "0.3").runs(fake.deploy(A))
    bad = {
        "another bundle": lambda _: fake.deploys[0][1].body,
        "flipped bits": lambda body: body[:60] + bytes([body[60] ^ 0x55]) + body[61:],
        "not a bundle": lambda _: b"<html>" * 100,
    }[harm]
    fake.corrupt = lambda _kind, body: bad(body)
    refused = fake.deploy(B)
    codes = ("digest_mismatch", "answer_invalid", "patch_mismatch")
    eventually("failures", lambda: sum(outcome(sidecar, code) for code in codes) >= 3)
    assert sidecar.tree() == A
    assert leftovers(tmp_path / "pod") == set()
    assert ready(sidecar)["ready"] is True
    assert ready(sidecar)["error"]["code"] in codes
    told = [headers["Dagferry-Error"] for _, headers in fake.requests if "Dagferry-Error" in headers]
    eventually("the server to be told", lambda: told or [h for _, h in fake.requests if "Dagferry-Error" in h])
    assert fake.asked(f"/versions/{refused}") < 20
    fake.corrupt = lambda _kind, body: body
    sidecar.runs(refused)
    assert sidecar.tree() == B


def test_a_newer_deploy_is_applied_at_once_though_the_one_before_failed(fake, pod) -> None:
    sidecar = pod("--poll-interval", "60").runs(fake.deploy(A))
    fake.corrupt = lambda _kind, _body: b"bad"
    fake.deploy(B)
    eventually("a failure", lambda: outcome(sidecar, "answer_invalid") + outcome(sidecar, "digest_mismatch") >= 1)
    fake.corrupt = lambda _kind, body: body
    sidecar.runs(fake.deploy(C))


def test_an_older_sequence_is_not_applied(fake, pod) -> None:
    fake.deploy(A)
    sidecar = pod().runs(fake.deploy(B))
    fake.forget("log-1", keep=1)
    eventually("the refusal", lambda: outcome(sidecar, "sequence_regressed") >= 1)
    assert sidecar.tree() == B
    assert ready(sidecar)["error"]["code"] == "sequence_regressed"


def test_a_store_that_was_lost_does_not_change_the_tree_and_one_with_deploys_is_followed(fake, pod) -> None:
    fake.deploy(A)
    sidecar = pod().runs(fake.deploy(B))
    fake.forget("log-2")
    eventually("the warning", lambda: any("another log id" in line["message"] for line in sidecar.logged()))
    assert sidecar.tree() == B
    sidecar.runs(fake.deploy(A))
    assert sidecar.tree() == A
