"""What pages need to know: pods the worst first, deploys by version or number, what a visitor may undo."""

import asyncio

import pytest

from dagferry_core.errors import DagferryError
from dagferry_server.errors import RequestError, VersionNotFound
from dagferry_server.fleet.status import Pod, PodState, State, Status
from dagferry_server.web.facts import PAGE_PODS, before, find_deploy, pods_of, shown_deploys
from dagferry_server.web.site import Site
from running import A, B


def status(**states: PodState) -> Status:
    pods = tuple(Pod(name, "", name[0], "", "", state, 0.0, 0.0) for name, state in states.items())
    return Status(State.DEGRADED, "", pods, 0.0)


def test_pods_come_the_worst_first_and_then_by_component_and_name() -> None:
    found = pods_of(
        status(b1=PodState.LIVE, a2=PodState.LIVE, a1=PodState.LIVE, z=PodState.BEHIND, y=PodState.FAILING), {}, 0, ""
    )
    assert [pod.instance for pod in found.pods] == ["y", "z", "a1", "a2", "b1"]


def test_components_are_counted_also_those_that_are_missing() -> None:
    found = pods_of(status(a1=PodState.LIVE, a2=PodState.BEHIND), {"a": 3, "s": 1}, 0, "")
    assert found.components == [("a", 1, 2, 3), ("s", 0, 0, 1)]


def test_a_page_has_some_pods_of_one_state() -> None:
    pods = status(**{f"p{number:03}": PodState.LIVE for number in range(PAGE_PODS + 10)}, x=PodState.LOST)
    first, last = (pods_of(pods, {}, first, "live") for first in (0, PAGE_PODS))
    assert (len(first.pods), len(last.pods), first.total) == (PAGE_PODS, 10, PAGE_PODS + 10)
    assert [pod.instance for pod in pods_of(pods, {}, 0, "lost").pods] == ["x"]


async def test_a_deploy_is_found_by_version_and_by_number(server) -> None:
    versions = [(await server.deploy(files))["version"] for files in (A, B)]
    deployment = server.service.deployments["default"]
    for name in (versions[0], "1", "#1", " #1 "):
        assert (await find_deploy(deployment, name)).sequence == 1
    for name, error in (("3", VersionNotFound), ("0", VersionNotFound), ("#", RequestError), ("9" * 30, DagferryError)):
        with pytest.raises(error):
            await find_deploy(deployment, name)


async def test_the_deploy_that_precedes_the_first_is_none(server) -> None:
    for files in (A, B):
        await server.deploy(files)
    deployment = server.service.deployments["default"]
    first, second = [await find_deploy(deployment, name) for name in "12"]
    assert await before(deployment, second) == first
    assert await before(deployment, first) is None


async def test_the_number_of_warnings_is_read_once(server, monkeypatch) -> None:
    await server.deploy({".env": b"x", **A})
    deployment, site = server.service.deployments["default"], await asyncio.to_thread(Site)
    deploys = await deployment.page(2, 1)
    [shown] = await shown_deploys(site, deployment, deploys)
    assert (shown.warnings, shown.is_current) == (1, True)

    async def not_again(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(deployment, "details", not_again)
    assert (await shown_deploys(site, deployment, deploys))[0].warnings == 1
