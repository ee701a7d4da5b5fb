"""The one decision: every scope of an endpoint, against every kind of caller."""

import pytest

from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import (
    ANYBODY,
    MAX_NAME_CHARACTERS,
    MAX_SHOWN_NAMES,
    SCOPES,
    Caller,
    Grant,
    Scope,
    authorize,
    no_deployment,
)
from dagferry_server.errors import DeploymentNotFound, Forbidden, Unauthenticated


def refused(scope: Scope | None, deployment: str, caller: Caller | None) -> type[DagferryError] | None:
    """The error that a request gets, ``None`` if it is let through."""
    try:
        authorize(scope, deployment, caller)
    except DagferryError as error:
        return type(error)
    return None


def caller(*scopes: Scope, deployments: tuple[str, ...] = ("prod", "team-*")) -> Caller:
    return Caller("token:x", (Grant(frozenset(scopes), deployments),))


# What each scope alone allows; everything else is forbidden. Written out, because it is the promise.
HOLDS: dict[Scope, set[Scope]] = {
    "deploy": {"deploy", "read"},
    "override": {"override"},
    "admin": {"admin"},
    "sync": {"sync"},
    "read": {"read"},
}


@pytest.mark.parametrize("needed", SCOPES)
@pytest.mark.parametrize("held", SCOPES)
def test_a_scope_allows_itself_and_deploy_also_read(held: Scope, needed: Scope) -> None:
    assert refused(needed, "prod", caller(held)) is (None if needed in HOLDS[held] else Forbidden)


@pytest.mark.parametrize("needed", SCOPES)
@pytest.mark.parametrize("deployment", ["other", "prod2", "my-prod", "team", "", "*", "Prod"])
def test_a_deployment_the_caller_may_not_see_does_not_exist(needed: Scope, deployment: str) -> None:
    assert refused(needed, deployment, caller(*SCOPES)) is DeploymentNotFound


@pytest.mark.parametrize("needed", SCOPES)
def test_without_credentials_every_request_is_refused_whatever_the_deployment(needed: Scope) -> None:
    assert {refused(needed, name, None) for name in ("prod", "no-such")} == {Unauthenticated}


def test_an_open_endpoint_is_open_to_all() -> None:
    assert {refused(None, "", who) for who in (None, caller(), caller("read"), ANYBODY)} == {None}


@pytest.mark.parametrize("needed", SCOPES)
def test_a_caller_without_grants_sees_nothing(needed: Scope) -> None:
    assert refused(needed, "prod", Caller("x", ())) is DeploymentNotFound


@pytest.mark.parametrize("needed", SCOPES)
def test_anybody_may_do_everything_on_a_server_without_credentials(needed: Scope) -> None:
    assert refused(needed, "prod", ANYBODY) is None


def test_grants_add_up_for_each_deployment_and_never_across() -> None:
    both = Caller("x", (Grant(frozenset({"deploy"}), ("dev",)), Grant(frozenset({"sync"}), ("dev", "prod"))))
    assert both.scopes("dev") == {"deploy", "read", "sync"}
    assert both.scopes("prod") == {"sync"}
    assert refused("deploy", "prod", both) is Forbidden


def test_a_refusal_names_the_caller_and_what_is_missing() -> None:
    with pytest.raises(Forbidden, match="requires the scope 'deploy' on 'prod', which 'token:x' does not have"):
        authorize("deploy", "prod", caller("sync"))


def test_a_hidden_deployment_and_a_missing_one_get_the_same_message() -> None:
    with pytest.raises(DeploymentNotFound) as hidden:
        authorize("read", "team", caller("sync"))
    assert hidden.value.as_dict() == no_deployment("team").as_dict()


def test_a_server_that_hides_nothing_says_what_it_has() -> None:
    assert (
        no_deployment("prod", ["default"]).message == "There is no deployment 'prod' on this server. It has: default."
    )
    many = [f"team-{number:02}" for number in range(MAX_SHOWN_NAMES + 1)]
    assert no_deployment("x", many).message.endswith("team-08, team-09, ….")


def test_of_a_long_name_only_the_beginning_is_quoted() -> None:
    assert no_deployment("x" * 1000).message.count("x") == MAX_NAME_CHARACTERS
