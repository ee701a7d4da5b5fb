"""The one decision: every scope of a call, against every kind of caller."""

import pytest

from dagferry_server.auth.access import (
    ANYBODY,
    MAX_SHOWN_NAMES,
    SCOPES,
    Caller,
    Decision,
    Grant,
    Scope,
    decide,
    no_deployment,
    refusal,
)
from dagferry_server.errors import DeploymentNotFound, Forbidden, Unauthenticated

ALLOWED, FORBIDDEN, NOT_FOUND = Decision.ALLOWED, Decision.FORBIDDEN, Decision.NOT_FOUND


def caller(*scopes: Scope, deployments: tuple[str, ...] = ("prod", "team-*")) -> Caller:
    return Caller("token:x", (Grant(frozenset(scopes), deployments),))


# What each scope alone allows; everything else is forbidden. Written out, because it is the promise.
HOLDS: dict[Scope, set[Scope]] = {
    "deploy": {"deploy", "read"},
    "override": {"override"},
    "sync": {"sync"},
    "read": {"read"},
}


@pytest.mark.parametrize("needed", SCOPES)
@pytest.mark.parametrize("held", SCOPES)
def test_a_scope_allows_itself_and_deploy_also_read(held: Scope, needed: Scope) -> None:
    assert decide(needed, "prod", caller(held)) is (ALLOWED if needed in HOLDS[held] else FORBIDDEN)


@pytest.mark.parametrize("needed", SCOPES)
@pytest.mark.parametrize("deployment", ["other", "prod2", "my-prod", "team", "", "*", "Prod"])
def test_a_deployment_the_caller_may_not_see_does_not_exist(needed: Scope, deployment: str) -> None:
    assert decide(needed, deployment, caller(*SCOPES)) is NOT_FOUND


@pytest.mark.parametrize("needed", SCOPES)
def test_without_credentials_every_call_is_refused_whatever_the_deployment(needed: Scope) -> None:
    assert {decide(needed, name, None) for name in ("prod", "no-such")} == {Decision.UNAUTHENTICATED}


def test_an_open_call_is_open_to_all() -> None:
    assert {decide(None, "", who) for who in (None, caller(), caller("read"), ANYBODY)} == {ALLOWED}


@pytest.mark.parametrize("needed", SCOPES)
def test_a_caller_without_grants_sees_nothing(needed: Scope) -> None:
    assert decide(needed, "prod", Caller("x", ())) is NOT_FOUND


@pytest.mark.parametrize("needed", SCOPES)
def test_anybody_may_do_everything_on_a_server_without_credentials(needed: Scope) -> None:
    assert decide(needed, "prod", ANYBODY) is ALLOWED


def test_grants_add_up_for_each_deployment_and_never_across() -> None:
    both = Caller("x", (Grant(frozenset({"deploy"}), ("dev",)), Grant(frozenset({"sync"}), ("dev", "prod"))))
    assert both.scopes("dev") == {"deploy", "read", "sync"}
    assert both.scopes("prod") == {"sync"}
    assert decide("deploy", "prod", both) is FORBIDDEN


def test_each_decision_has_its_error() -> None:
    assert refusal(ALLOWED, "read", "prod", ANYBODY) is None
    assert isinstance(refusal(Decision.UNAUTHENTICATED, "read", "prod", None), Unauthenticated)
    assert isinstance(refusal(FORBIDDEN, "read", "prod", caller("sync")), Forbidden)
    hidden = refusal(NOT_FOUND, "read", "prod", caller("sync"))
    assert isinstance(hidden, DeploymentNotFound)


def test_a_hidden_deployment_and_a_missing_one_get_the_same_words() -> None:
    hidden = refusal(NOT_FOUND, "read", "prod", caller("sync"))
    assert hidden
    assert hidden.as_dict() == no_deployment("prod").as_dict()


def test_a_server_that_hides_nothing_says_what_it_has() -> None:
    assert (
        no_deployment("prod", ["default"]).message == "There is no deployment 'prod' on this server. It has: default."
    )
    many = [f"team-{number:02}" for number in range(MAX_SHOWN_NAMES + 1)]
    assert no_deployment("x", many).message.endswith("team-08, team-09, ….")
