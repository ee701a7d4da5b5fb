"""Liveness, readiness, metrics, the description; and which listener has which."""

import errno
import math
import re
import time

from dagferry_server.metrics import documented
from issuer import make_certificate
from running import A


async def test_healthz_and_readyz(server) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await server.get(path)
        assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_a_store_that_takes_no_writes_is_not_ready(server, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("dagferry_server.store.local.publish", fail)
    answer = await server.get("/readyz")
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert (await server.get("/healthz")).status == 200


async def test_every_documented_metric_is_scraped_and_no_other_of_ours(server) -> None:
    await server.deploy(A)
    await server.upload(b"hello")
    text = (await server.get("/metrics")).body.decode()
    scraped = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE dagferry_server_")}
    scraped -= {name for name in scraped if name.endswith("_created")}
    assert scraped == {name.strip("`") for name, *_ in documented()}


async def test_the_gauges_show_the_state(server) -> None:
    assert await server.metric('current_sequence{deployment="default"}') == 0
    assert await server.metric('uploads_total{deployment="default",outcome="ok"}') == 0
    await server.deploy(A)
    current = server.service.deployments["default"].current
    assert await server.metric('current_sequence{deployment="default"}') == 1
    assert await server.metric('current_deploy_timestamp_seconds{deployment="default"}') == current.time
    assert await server.metric("upload_limit_bytes") == 15 * 1024 * 1024


async def test_the_gauges_show_the_volume_and_how_much_of_it_may_be_stored(server, monkeypatch) -> None:
    size, free = await server.metric("volume_bytes"), await server.metric("volume_free_bytes")
    assert 0 < free < size
    assert await server.metric("store_limit_bytes") == int(size * 0.8)

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.statvfs", fail)
    assert math.isnan(await server.metric("volume_free_bytes"))


async def test_the_gauge_shows_when_the_certificate_expires(start, server, tmp_path) -> None:
    name = "dagferry_server_certificate_expiry_timestamp_seconds"
    assert await server.metric(name.removeprefix("dagferry_server_")) == 0
    certificate, key = make_certificate(tmp_path, days=3)
    flags = ("--tls-cert", certificate, "--tls-key", key, "--admin-listen", "127.0.0.1:0")
    secured = await start(*flags, "--data-dir", str(tmp_path / "other"))
    async with secured.session.get(f"http://{secured.host}:{secured.admin_port}/metrics") as answer:
        [shown] = re.findall(rf"^{name} (.*)$", await answer.text(), re.MULTILINE)
    assert 70.9 < (float(shown) - time.time()) / 3600 <= 71  # it began an hour ago


async def test_failures_of_every_endpoint_are_counted_from_zero(server) -> None:
    for path in ("/{deployment}/dags/upload", "/{deployment}/dags/rollback", "/healthz"):
        assert await server.metric(f'requests_total{{route="{path}",status="5xx"}}') == 0


async def test_a_deployment_that_is_not_there_makes_no_label(server) -> None:
    await server.upload(b"x", "/other/dags/upload")
    assert b'"other"' not in (await server.get("/metrics")).body


async def test_with_an_admin_listener_the_public_one_has_healthz_alone(start) -> None:
    server = await start("--admin-listen", "127.0.0.1:0")
    assert server.admin_port != server.port
    admin = f"http://{server.host}:{server.admin_port}"
    for path, public in (("/healthz", 200), ("/readyz", 404), ("/metrics", 404), ("/openapi.json", 404)):
        assert (await server.get(path)).status == public
        async with server.session.get(admin + path) as answer:
            assert answer.status == 200
    async with server.session.get(f"{admin}/default/dags/current") as answer:
        assert answer.status == 404


async def test_the_description_is_served(server) -> None:
    assert (await server.get("/openapi.json")).json["openapi"].startswith("3.1")
