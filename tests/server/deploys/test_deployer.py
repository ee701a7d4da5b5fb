"""From a received file to a deploy, also when the store is not what it was."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dagferry_server.deploys import bundles
from dagferry_server.deploys import deployer as deploying
from dagferry_server.deploys.deployer import DeployResult
from dagferry_server.deploys.receive import receive
from dagferry_server.deploys.request import DeployRequest
from dagferry_server.errors import StoreAway, StoreFull
from harness import pack
from running import A, B


async def test_a_file_is_deployed_without_a_request(server) -> None:
    deployer, deployment = server.service.deployer, server.service.deployments["default"]

    async def pieces() -> AsyncIterator[bytes]:
        body = pack(A)
        yield body[:100]
        yield body[100:]

    async def deploy() -> DeployResult:
        async with deployer.incoming(deployment) as file:
            received = await receive(pieces(), file, server.service.upload_limit(deployment), arrived.append)
            return await deployer.deploy(deployment, received, DeployRequest("ann", "by hand"), root=None)

    arrived: list[int] = []
    result = await deploy()
    assert sum(arrived) == len(pack(A))
    assert (result.deploy, result.unchanged, result.warnings) == (deployment.current, False, [])
    assert (result.deploy.actor, result.deploy.description, result.deploy.added) == ("ann", "by hand", 3)
    again = await deploy()
    assert (again.deploy, again.unchanged) == (result.deploy, True)


@pytest.mark.parametrize("error", [StoreAway("It is away."), StoreFull("It is full.")])
async def test_after_a_failure_of_the_storage_bundles_without_a_deploy_are_removed(server, error) -> None:
    deployer, deployment = server.service.deployer, server.service.deployments["default"]
    digest = "sha256:" + "a" * 64
    await asyncio.to_thread(server.service.store.put_bundle, "default", digest, lambda _: b"")
    with pytest.raises(type(error)):
        async with deployer.incoming(deployment) as file:
            raise error
    assert file.closed
    await server.service.settled()
    assert await asyncio.to_thread(server.service.store.bundles, "default") == {}


async def test_the_version_never_runs_backwards_even_if_the_clock_does(start) -> None:
    moments = iter([1_800_000_000.0, 1_700_000_000.0, 1_800_000_005.0])
    server = await start(clock=lambda: next(moments, 1_800_000_009.0))
    # Retention asks for the time at the start.
    told = [await server.deploy({"dag.py": b"n = %d\n" % number}) for number in range(2)]
    assert told[0]["version"].split("-")[0] <= told[1]["version"].split("-")[0]


async def test_checking_goes_on_for_two_at_a_time(server, monkeypatch) -> None:
    running, most = [0], [0]
    real = deploying._check

    def counted(*arguments: object, **options: object) -> object:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return real(*arguments, **options)
        finally:
            running[0] -= 1

    monkeypatch.setattr(deploying, "_check", counted)
    await asyncio.gather(*(server.upload(pack({"dag.py": b"n = %d\n" % number})) for number in range(10)))
    assert 1 <= most[0] <= 2


async def test_what_a_source_imports_is_read_once_for_each_content(server, monkeypatch) -> None:
    read = []
    real = bundles.imported_names
    monkeypatch.setattr(bundles, "imported_names", lambda source: read.append(source) or real(source))
    await server.deploy(A)
    assert sorted(read) == sorted([A["etl.py"], A["shop.py"]])
    read.clear()
    await server.deploy(B)
    assert read == [B["shop.py"]]
