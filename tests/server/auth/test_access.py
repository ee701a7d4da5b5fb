"""The one decision: every scope of an endpoint, against every kind of caller."""

import pytest

from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import (
    ANYBODY,
    GATE_LEVELS,
    MAX_NAME_CHARACTERS,
    MAX_PREFIX_CHARACTERS,
    MAX_SHOWN_NAMES,
    SCOPES,
    Caller,
    Grant,
    Scope,
    authorize,
    authorize_write,
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
    "check": {"check"},
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


# --- deploys to folders ----------------------------------------------------------------------------------------------


def deployer(
    *prefixes: str, deployments: tuple[str, ...] = ("prod",), scopes: tuple[Scope, ...] = ("deploy",)
) -> Grant:
    return Grant(frozenset(scopes), deployments, prefixes)


def may_write(under: str, *grants: Grant, deployment: str = "prod") -> bool:
    try:
        authorize_write(deployment, under, Caller("token:x", grants))
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("under", ["", "team-a/", "team-b/sub/"])
def test_a_caller_without_prefixes_may_deploy_anything(under: str) -> None:
    assert may_write(under, deployer())
    assert may_write(under, deployer("team-c/"), deployer())
    authorize_write("prod", under, ANYBODY)


@pytest.mark.parametrize("under", ["team-a/", "team-a/sub/", "b/c/"])
def test_a_limited_caller_may_deploy_to_its_folders_and_below(under: str) -> None:
    assert may_write(under, deployer("team-a/", "b/c/"))
    assert may_write(under, deployer("team-a/"), deployer("b/c/"))


@pytest.mark.parametrize("under", ["", "team-b/", "team-ab/", "team/", "b/", "Team-a/", "sub/team-a/"])
def test_a_limited_caller_may_deploy_nothing_else(under: str) -> None:
    assert not may_write(under, deployer("team-a/", "b/c/"))
    assert not may_write(under, deployer("team-a/"), deployer("b/c/"))


def test_what_another_deployment_or_scope_allows_does_not_count() -> None:
    limited = deployer("team-a/")
    assert not may_write("team-b/", limited, deployer(deployments=("dev",)))
    assert not may_write("team-b/", limited, deployer(scopes=("read", "override", "sync", "admin")))
    assert may_write("team-b/", limited, deployer("team-b/", deployments=("p*",)))


def test_reading_is_not_limited_to_folders() -> None:
    assert refused("read", "prod", Caller("token:x", (deployer("team-a/"),))) is None


def test_a_refusal_names_the_folders_and_how_to_ask_for_one() -> None:
    limited = Caller("token:x", (deployer("team-b/"), deployer("team-a/", "team-b/")))
    with pytest.raises(Forbidden, match=r"'token:x' may deploy to 'prod' only below team-a/, team-b/; .*") as all_of_it:
        authorize_write("prod", "", limited)
    assert all_of_it.value.message.endswith("this request is for all of it.")
    assert "under=" in all_of_it.value.hint
    with pytest.raises(Forbidden, match="this request is for 'other/'"):
        authorize_write("prod", "other/", limited)


def test_of_many_folders_and_of_a_long_one_a_refusal_shows_the_beginning() -> None:
    limited = Caller("token:x", (deployer(*(f"{number:02}/" for number in range(MAX_SHOWN_NAMES + 1))),))
    with pytest.raises(Forbidden, match="09/, …;") as error:
        authorize_write("prod", "x" * 1000, limited)
    assert error.value.message.count("x") == MAX_PREFIX_CHARACTERS + 1  # and one in the caller's name


def test_the_folders_of_a_caller_are_those_of_all_its_grants() -> None:
    caller = Caller("x", (deployer("b/", "a/"), deployer("a/", deployments=("*",)), Grant(frozenset({"read"}), ("*",))))
    assert caller.prefixes("prod") == ("a/", "b/")
    assert caller.prefixes("dev") == ("a/",)
    assert Caller("x", (deployer("a/"), deployer())).prefixes("prod") is None
    assert Caller("x", (Grant(frozenset({"read"}), ("*",)),)).prefixes("prod") == ()
    assert ANYBODY.prefixes("prod") is None


def test_the_gate_is_that_of_a_grant_that_allows_the_deploy() -> None:
    caller = Caller("x", (deployer("a/")._replace(gate="off"), deployer("b/")._replace(gate="enforce"), deployer("c/")))
    gates = [caller.gate("prod", under) for under in ("a/", "a/sub/", "b/", "c/", "d/", "")]
    assert gates == ["off", "off", "enforce", None, None, None]
    assert caller.gate("dev", "a/") is None
    assert Caller("x", (Grant(frozenset({"read"}), ("*",), (), "off"),)).gate("prod", "") is None


def test_of_several_grants_the_most_lenient_gate_counts() -> None:
    levels = [None, *reversed(GATE_LEVELS)]
    for index, level in enumerate(levels):
        grants = tuple(deployer()._replace(gate=each) for each in levels[: index + 1])
        assert Caller("x", grants).gate("prod", "a/") == level
