"""How large bodies are sent."""

import asyncio
import gc
import io
import os
import socket
import ssl
import time
import warnings

import aiohttp
import pytest

from credentials import TokensFile
from dagferry_server.errors import StoreAway
from dagferry_server.http import sending
from dagferry_server.http.handlers import download
from dagferry_server.metrics import CLIENT_DISCONNECTED
from dagferry_server.store.base import BundleSource
from dagferry_server.store.local import LocalStore
from harness import pack
from issuer import make_certificate
from running import A, B, Running, eventually

pytestmark = pytest.mark.slow


async def begin(server: Running, path: str):
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    return writer


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_open(server) -> None:
    told = (await server.upload(pack({**A, "noise": os.urandom(9_000_000)}))).json
    bundles = f"{server.service.folder.root}/default/bundles/"
    for path in (f"/default/dags/versions/{told['version']}", "/default/dags/download"):
        for _ in range(3):
            writer = await begin(server, path)
            writer.transport.abort()
        await eventually("the requests to be over", lambda: not server.state.busy._count)
        await eventually("the files to be closed", lambda: not open_files(bundles))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("path", ["versions/{}", "versions/{}?from={}", "download"], ids=["bundle", "patch", "packed"])
async def test_a_client_that_takes_nothing_is_disconnected_and_frees_its_place(
    start, tmp_path, monkeypatch, path, tls
) -> None:
    monkeypatch.setattr(sending, "SEND_IDLE_SECONDS", 0.2)
    certificate, key = await asyncio.to_thread(make_certificate, tmp_path)
    server = await start()
    noise = os.urandom(4_000_000)
    old = (await server.deploy(A))["version"]
    new = (await server.deploy({**A, "noise": noise, "more": os.urandom(3_900_000)}))["version"]
    if tls:
        await server.close()
        server = await start("--tls-cert", certificate, "--tls-key", key)
    context = trusting(certificate) if tls else None
    before = server.connections()
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, (server.host, server.port))
    _, writer = await asyncio.open_connection(
        sock=small, ssl=context, server_hostname="127.0.0.1" if tls else None, limit=1024
    )
    writer.write(f"GET /default/dags/{path.format(new, old)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    taken = server.state.download_slots if path == "download" else server.state.bundle_slots
    await eventually("the download to begin", lambda: len(taken))
    await eventually("it to be cut off", lambda: not len(taken))
    await eventually("the request to be over", lambda: not server.state.busy._count)
    await eventually("the connection to be closed", lambda: server.connections() <= before)
    await eventually("the files to be closed", lambda: not open_files(f"{server.service.folder.root}/default/bundles/"))
    writer.transport.abort()


async def test_a_client_that_is_slow_but_keeps_the_pace_gets_all_of_it(server, monkeypatch) -> None:
    monkeypatch.setattr(sending, "SEND_IDLE_SECONDS", 0.5)
    files = {**A, "noise": os.urandom(3_000_000)}
    version = (await server.deploy(files))["version"]
    for path in (f"versions/{version}", "download"):
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
        writer.write(f"GET /default/dags/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        seen = 0
        while piece := await reader.read(100_000):
            seen += len(piece)
            await asyncio.sleep(0.02)  # over a second for all of it
        assert seen > 3_000_000
        writer.close()


async def test_a_client_is_not_disconnected_for_what_the_server_takes_to_pack(server, monkeypatch) -> None:
    monkeypatch.setattr(sending, "SEND_IDLE_SECONDS", 0.1)

    def slowly(*_: object):
        for _ in range(3):
            yield bytes(1000)
            time.sleep(0.3)

    monkeypatch.setattr(download, "packed", slowly)
    await server.deploy(A)
    assert len((await server.get("/default/dags/download")).body) == 3000


async def test_a_client_that_hangs_up_as_soon_as_it_has_all_has_not_disconnected(start, tmp_path) -> None:
    certificate, key = await asyncio.to_thread(make_certificate, tmp_path)
    server = await start("--tls-cert", certificate, "--tls-key", key)
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{server.port}", connector=aiohttp.TCPConnector(ssl=trusting(certificate), force_close=True)
    ) as session:
        async with session.post("/default/dags/upload", data=io.BytesIO(pack(A))) as answer:
            version = (await answer.json())["version"]
        for _ in range(10):
            async with session.get(f"/default/dags/versions/{version}") as answer:
                assert (answer.status, len(await answer.read())) == (200, answer.content_length)
    await eventually("the requests to be over", lambda: not server.state.busy._count)
    counted = server.service.metrics.requests.labels
    route = "/{deployment}/dags/versions/{version}"
    assert [counted(route, status)._value.get() for status in ("2xx", CLIENT_DISCONNECTED)] == [10, 0]


class Ranged(BundleSource):
    """A bundle that lies in no file, as in a bucket: it is there in ranges only."""

    def __init__(self, content: bytes, encoded_index: bytes) -> None:
        super().__init__(len(content), encoded_index)
        self._content = content
        self.closed = False

    def read(self, offset: int, size: int) -> bytes:
        assert not self.closed
        return self._content[offset : offset + size]

    def close(self) -> None:
        self.closed = True


class RangedStore(LocalStore):
    """A store that has no file to give to the kernel; it notes what it opened."""

    def __init__(self, root: str, kind: type[Ranged] = Ranged) -> None:
        super().__init__(root)
        self._kind = kind
        self.opened: list[Ranged] = []

    def open_bundle(self, deployment: str, digest: str) -> Ranged:
        with super().open_bundle(deployment, digest) as source:
            self.opened.append(self._kind(source.read(0, source.size), source.encoded_index))
        return self.opened[-1]


async def test_a_bundle_that_is_in_no_file_is_sent_by_ranges(start, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    store = RangedStore(str(tmp_path / "data"))
    server = await start(store=store)
    told = await server.deploy({**A, "noise": os.urandom(1_000_001)})
    path = f"/default/dags/versions/{told['version']}"
    answer = await server.get(path)
    with await asyncio.to_thread(LocalStore(store._root).open_bundle, "default", told["digest"]) as source:
        assert answer.body == source.read(0, source.size)
    head = await server.call("HEAD", path)
    assert (head.status, int(head.headers["Content-Length"])) == (200, len(answer.body))
    await server.deploy(B)
    assert (await server.get("/default/dags/download")).status == 200
    await eventually("all of them to be closed", lambda: all(source.closed for source in store.opened))


class Short(Ranged):
    """A bundle that lost its end."""

    def read(self, offset: int, size: int) -> bytes:
        return super().read(offset, size) if offset < sending.SMALL_BYTES else b""


class Away(Ranged):
    """A bundle in a store that stops answering."""

    def read(self, offset: int, size: int) -> bytes:
        if offset >= sending.SMALL_BYTES:
            raise StoreAway("The bucket does not answer.")
        return super().read(offset, size)


@pytest.mark.parametrize("kind", [Short, Away])
async def test_a_bundle_that_cannot_be_read_to_its_end_is_aborted_and_not_ended(start, tmp_path, caplog, kind) -> None:
    (tmp_path / "data").mkdir()
    server = await start(store=LocalStore(str(tmp_path / "data")))
    version = (await server.deploy({**A, "noise": os.urandom(1_000_001)}))["version"]
    await server.close()
    store = RangedStore(str(tmp_path / "data"), kind)
    server = await start(store=store)
    with pytest.raises(aiohttp.ClientPayloadError):
        await server.get(f"/default/dags/versions/{version}")
    assert "Response aborted" in [record.message for record in caplog.records]
    await eventually("it to be closed", lambda: all(source.closed for source in store.opened))


async def test_the_bundles_of_one_deployment_that_are_packed_are_few(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secrets = [tokens.add(f"reader-{number}", ["deploy"], ["prod"]) for number in range(5)]
    other = tokens.add("other", ["deploy"], ["other"])
    server = await start("--tokens-file", str(tokens.path), "--deployments", "prod,other")
    data = pack({**A, "noise": os.urandom(9_000_000)})
    for name, secret in (("prod", secrets[0]), ("other", other)):
        body = io.BytesIO(data)
        answer = await server.call("POST", f"/{name}/dags/upload", headers={"Authorization": secret}, data=body)
        assert answer.status == 200
    writers = []

    async def ask(secret: str) -> bytes:
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
        writer.write(f"GET /prod/dags/download HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\n\r\n".encode())
        writers.append(writer)
        return (await reader.readuntil(b"\r\n")).split()[1]

    answers = [await ask(secret) for secret in secrets for _ in range(3)]
    # Two for each caller, four for the deployment.
    assert answers == [b"200", b"200", b"503", b"200", b"200", *[b"503"] * 10]
    refused = await server.get("/prod/dags/download", Authorization=secrets[4])
    assert (refused.status, refused.json["code"]) == (503, "too_many_downloads")
    assert int(refused.headers["Retry-After"]) > 0
    assert (await server.get("/other/dags/download", Authorization=other)).status == 200
    for writer in writers:
        writer.transport.abort()


def trusting(certificate: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def open_files(prefix: str) -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        found += [target] if target.startswith(prefix) else []
    return found
