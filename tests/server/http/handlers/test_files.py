"""``GET …/versions/{version}/files``: the files of a version; and ``…/files/{path}``: one of them."""

import asyncio
import gzip
import hashlib
import json
import os
from urllib.parse import quote

import pytest

from dagferry_server.errors import RequestError
from dagferry_server.http import concurrency
from dagferry_server.http.handlers.files import requested_path
from dagferry_server.http.models import FilesAnswer
from running import A, B, eventually

NAMES = [
    "plain.py", "with space.py", "größer.py", "100%.sql", "a?b#c&d=e+f;g.txt", "<b>'\"`$(x)`.md", "{path}", "~",
    "日本/\N{GRINNING FACE}.py", "dags/in/dags.py", "files/files", "n" * 255, "/".join("d" * 64), ".airflowignore",
]  # fmt: skip
NASTY = {name: name.encode() * 3 for name in NAMES} | {"empty": b"", "big.bin": os.urandom(2_500_000)}


async def deployed(server, files) -> str:
    return (await server.deploy(files))["version"]


async def test_the_list_has_every_file_with_size_mode_and_hash(server) -> None:
    told = await server.deploy(NASTY)
    answer = await server.get(f"/default/dags/versions/{told['version']}/files")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["ETag"] == f'"{told["digest"]}"'
    assert answer.headers["Dagferry-Digest"] == told["digest"]
    assert (answer.json["version"], answer.json["digest"]) == (told["version"], told["digest"])
    assert answer.json["files"] == [
        {"path": path, "size": len(NASTY[path]), "mode": 420, "sha256": hashlib.sha256(NASTY[path]).hexdigest()}
        for path in sorted(NASTY)
    ]
    assert FilesAnswer.model_validate(answer.json).model_dump() == answer.json


async def test_a_version_without_files_has_an_empty_list(start) -> None:
    server = await start("--allow-empty")
    version = await deployed(server, {})
    assert (await server.get(f"/default/dags/versions/{version}/files")).json["files"] == []


@pytest.mark.parametrize("accepts", ["gzip", "br, gzip;q=0.1", "*"])
async def test_the_list_is_compressed_for_who_can_read_that(server, accepts) -> None:
    version = await deployed(server, {f"dag_{number}.py": b"%d" % number for number in range(3000)})
    path = f"/default/dags/versions/{version}/files"
    plain = await server.call("GET", path, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    async with server.session.get(path, headers={"Accept-Encoding": accepts}, auto_decompress=False) as answer:
        body = await answer.read()
        assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert len(body) < len(plain.body)
    assert gzip.decompress(body) == plain.body
    assert len(json.loads(plain.body)["files"]) == 3000


async def test_who_has_the_list_or_the_file_gets_304(server) -> None:
    told = await server.deploy(A)
    for what in ("files", "files/etl.py"):
        path = f"/default/dags/versions/{told['version']}/{what}"
        tag = (await server.get(path)).headers["ETag"]
        # A proxy that compresses makes a weak tag of it.
        for seen in (tag, f"W/{tag}", f'"x", {tag}'):
            again = await server.get(path, If_None_Match=seen)
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        assert (await server.get(path, If_None_Match='"x"')).status == 200


@pytest.mark.parametrize("path", NASTY)
async def test_one_file_comes_as_it_is(server, path) -> None:
    version = await deployed(server, NASTY)
    answer = await server.get(f"/default/dags/versions/{version}/files/{quote(path)}")
    assert (answer.status, answer.body) == (200, NASTY[path])
    assert answer.headers["ETag"] == f'"{hashlib.sha256(NASTY[path]).hexdigest()}"'
    assert answer.headers["Content-Length"] == str(len(NASTY[path]))


async def test_no_browser_shows_a_file_as_a_page_of_the_server(server) -> None:
    version = await deployed(server, {"sub/höhe.html": b"<script>alert(1)</script>"})
    answer = await server.get(f"/default/dags/versions/{version}/files/sub/{quote('höhe.html')}")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''h%C3%B6he.html"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"


@pytest.mark.parametrize("path", ["nothing.py", "sql", "etl.pyc", "ETL.PY", "dags/etl.py", "files"])
async def test_a_path_that_the_version_has_no_file_at_is_404(server, path) -> None:
    version = await deployed(server, A)
    answer = await server.get(f"/default/dags/versions/{version}/files/{path}")
    assert (answer.status, answer.json["code"]) == (404, "file_not_found")
    assert version in answer.json["message"]
    assert path in answer.json["message"]


@pytest.mark.parametrize(
    "raw",
    [
        "", "/etl.py", "etl.py/", "sql//load.sql", "./etl.py", "sql/../etl.py", "..", "../../../../etc/passwd",
        "sql%2Fload.sql", "sql%2fload.sql", "a%00b", "a%0Ab", "a%5Cb", "%FF", "d/" * 65 + "x", "n" * 256, "%C2%85",
        "sql/.", ".",
    ],
)  # fmt: skip
def test_a_path_that_no_bundle_can_have_is_invalid(raw) -> None:
    with pytest.raises(RequestError) as caught:
        requested_path(f"/default/dags/versions/v/files/{raw}")
    assert caught.value.code == "request_invalid"
    assert caught.value.message.isprintable()


async def test_an_invalid_path_is_400_on_the_wire_and_reads_nothing(server) -> None:
    version = await deployed(server, A)
    for raw in (b"..", b"%2e%2e", b"sql/../etl.py", b"sql%2Fload.sql", b"a%0Ab", b"/etl.py", b"\xff.py", b"%FF"):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        head = b"GET /default/dags/versions/%b/files/%b HTTP/1.0\r\nHost: localhost\r\n\r\n"
        writer.write(head % (version.encode(), raw))
        answer = await reader.read()
        status = answer.split(b" ", 2)[1]
        # Encoded unreserved characters have no route at all.
        assert status == (b"404" if raw == b"%2e%2e" else b"400"), (raw, answer)
        writer.close()


@pytest.mark.parametrize("path", ["files", "files/etl.py"])
async def test_a_bundle_that_retention_removed_is_410_even_for_who_has_it(server, path) -> None:
    told = await server.deploy(A)
    tag = (await server.get(f"/default/dags/versions/{told['version']}/{path}")).headers["ETag"]
    await asyncio.to_thread(server.service.store.delete_bundle, "default", told["digest"])
    for headers in ({}, {"If_None_Match": tag}):
        answer = await server.get(f"/default/dags/versions/{told['version']}/{path}", **headers)
        assert (answer.status, answer.json["code"]) == (410, "bundle_gone")
        assert told["version"] in answer.json["message"]


@pytest.mark.parametrize("path", ["files", "files/etl.py"])
@pytest.mark.parametrize(("version", "status"), [("20200101T000000Z-000001", 404), ("latest", 400)])
async def test_a_version_that_is_not_in_the_log_is_refused(server, path, version, status) -> None:
    await server.deploy(A)
    assert (await server.get(f"/default/dags/versions/{version}/{path}")).status == status


async def test_an_old_version_is_read_as_well_as_the_current_one(server) -> None:
    old, new = await deployed(server, A), await deployed(server, B)
    found = [(await server.get(f"/default/dags/versions/{each}/files/shop.py")).body for each in (old, new)]
    assert found == [A["shop.py"], B["shop.py"]]


async def test_more_reads_than_the_limit_get_503(server, monkeypatch) -> None:
    monkeypatch.setattr(concurrency, "MAX_READS", 1)
    server.state.read_slots = concurrency.reads()
    version = await deployed(server, {**A, "noise": os.urandom(9_000_000)})
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
    writer.write(f"GET /default/dags/versions/{version}/files/noise HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    for path in (f"versions/{version}/files", f"versions/{version}/files/etl.py", "diff"):
        refused = await server.get(f"/default/dags/{path}")
        assert (refused.status, refused.json["code"]) == (503, "too_many_downloads")
        assert "Retry-After" in refused.headers
    writer.transport.abort()
    await eventually("its place to be free", lambda: not len(server.state.read_slots))
    assert (await server.get(f"/default/dags/versions/{version}/files/etl.py")).status == 200
