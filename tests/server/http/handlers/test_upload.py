"""``POST …/upload``: what comes back, what stays, what is logged and counted."""

import asyncio
import contextlib
import errno
import hashlib
import io
import logging
import os
import re

import aiohttp
import pytest

from credentials import SCOPES, TokensFile
from dagferry_core.limits import MIB
from dagferry_server.http.upload_body import MAX_FORM_BYTES
from harness import pack
from running import A, B, eventually


def form(file: bytes, *, name: str = "dags.tar.gz", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field(name, io.BytesIO(file), filename="/home/me/astro/dags.tar.gz")
    for field, value in fields.items():
        data.add_field(field, value)
    return data


def scratch_files() -> list[str]:
    """The scratch files that are open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of this listing
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if "/incoming/" in path]


async def test_the_first_deploy(server) -> None:
    answer = await server.upload(pack(A))
    assert answer.status == 200
    told = answer.json
    assert told == {
        "version": told["version"],
        "digest": told["digest"],
        "sequence": 1,
        "unchanged": False,
        "added": 3,
        "changed": 0,
        "removed": 0,
        "warnings": [],
        "excluded": 0,
        "excluded_paths": [],
        "kind": "upload",
        "under": "",
        "dry_run": False,
        "added_paths": ["etl.py", "shop.py", "sql/load.sql"],
        "changed_paths": [],
        "removed_paths": [],
        "cut": False,
    }
    assert told["version"].endswith("-000001")


async def test_the_counts_are_against_the_deploy_before(server) -> None:
    await server.deploy(A)
    told = await server.deploy({"etl.py": A["etl.py"], "shop.py": b"rate = 2\n", "new.py": b""})
    assert (told["sequence"], told["added"], told["changed"], told["removed"]) == (2, 1, 1, 1)


@pytest.mark.parametrize("name", ["dags.tar.gz", "file", "anything", "x" * 200])
async def test_the_file_may_have_any_field_name(server, name) -> None:
    assert (await server.upload(form(pack(A), name=name))).status == 200


async def test_the_answer_to_an_upload_warns_of_secrets_and_the_deploy_is_made(server) -> None:
    told = await server.deploy({**A, "conf/.env": b"PASSWORD=x\n"})
    assert "conf/.env" in told["warnings"][0]
    assert b"PASSWORD" not in repr(told).encode()
    assert told["sequence"] == 1


async def test_a_token_that_is_limited_to_folders_may_not_deploy_the_whole(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("team", ["deploy"], prefixes=["team-a/"])
    server = await start("--tokens-file", str(tokens.path), "--deployments", "default")
    headers = {"Authorization": secret}
    answer = await server.call("POST", "/default/dags/upload", data=io.BytesIO(pack(A)), headers=headers)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "only below team-a/" in answer.json["message"]
    assert (await server.get("/default/dags/deploys", Authorization=secret)).json["deploys"] == []


async def test_the_description_may_come_after_the_file_or_before(server) -> None:
    await server.upload(form(pack(A), description="größer & besser"))
    data = aiohttp.FormData()
    data.add_field("description", "before")
    data.add_field("file", pack(B), filename="x")
    await server.upload(data)
    deploys = (await server.get("/default/dags/deploys")).json["deploys"]
    assert [deploy["description"] for deploy in deploys] == ["before", "größer & besser"]


async def test_a_raw_body_has_its_description_in_the_query(server) -> None:
    assert (await server.upload(pack(A), "/default/dags/upload?description=by%20hand")).status == 200
    assert (await server.get("/default/dags/current")).json["description"] == "by hand"


async def test_a_form_may_have_its_description_in_the_query_too(server) -> None:
    for files, fields, expected in ((A, {}, "query"), (B, {"description": "field"}, "field")):
        await server.upload(form(pack(files), **fields), "/default/dags/upload?description=query")
        assert (await server.get("/default/dags/current")).json["description"] == expected


async def test_the_short_url_is_that_of_the_deployment_named_default(start) -> None:
    server = await start("--deployments", "default,prod")
    await server.upload(pack(A), "/upload")
    assert (await server.get("/default/dags/current")).json["sequence"] == 1
    assert (await server.get("/prod/dags/current")).json["sequence"] == 0


async def test_root_dot_takes_the_archive_as_it_is(server) -> None:
    mixed = pack({"dags/a.py": b"", "plugins/b.py": b""}, prefix="")
    refused = await server.upload(mixed)
    assert (refused.status, refused.json["code"]) == (422, "root_mixed")
    assert "root=." in refused.json["hint"]
    assert (await server.upload(mixed, "/default/dags/upload?root=.")).json["added"] == 2


@pytest.mark.parametrize("root", ["", "..", "/", "a/../b"])
async def test_a_root_that_can_be_no_folder_of_an_archive_is_refused(server, root) -> None:
    answer = await server.upload(pack(A), f"/default/dags/upload?root={root}")
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert "root" in answer.json["message"]


async def test_excluded_paths_are_reported(server) -> None:
    told = await server.deploy({**A, "__pycache__/etl.cpython-311.pyc": b"x", ".DS_Store": b"x"})
    assert (told["added"], told["excluded"]) == (3, 2)
    assert len(told["excluded_paths"]) == 2


async def test_an_empty_archive_is_refused_unless_a_setting_allows_it(start) -> None:
    server = await start()
    refused = await server.upload(pack({}))
    assert (refused.status, refused.json["code"]) == (422, "bundle_empty")
    assert "--allow-empty" in refused.json["hint"]
    await server.close()


async def test_allow_empty_takes_an_empty_archive(start) -> None:
    server = await start("--allow-empty")
    await server.deploy(A)
    assert (await server.deploy({}))["removed"] == 3


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"hello", "archive_not_recognized"),
        (pack(A)[:-1], "archive_truncated"),
        (pack(A) + b"x", "archive_trailing_data"),
    ],
)
async def test_a_refused_archive_changes_nothing(server, body, code) -> None:
    before = await server.deploy(A)
    answer = await server.upload(body)
    assert (answer.status, answer.json["code"]) == (422, code)
    assert set(answer.json) == {"code", "message", "hint"}
    assert (await server.get("/default/dags/current")).json["version"] == before["version"]
    assert await server.metric(f'uploads_total{{deployment="default",outcome="{code}"}}') == 1
    assert scratch_files() == []


async def test_a_form_must_have_exactly_one_file(server) -> None:
    two = aiohttp.FormData()
    two.add_field("a", pack(A), filename="a")
    two.add_field("b", pack(A), filename="b")
    none = aiohttp.FormData()
    none.add_field("description", "x", content_type="text/plain")
    none.add_field("other", "y", content_type="text/plain")
    for data in (two, none):
        answer = await server.upload(data)
        assert (answer.status, answer.json["code"]) == (400, "multipart_invalid")


async def test_the_fields_of_a_form_are_limited(server) -> None:
    answer = await server.upload(form(pack(A), note="x" * (MAX_FORM_BYTES + 1)))
    assert (answer.status, answer.json["code"]) == (400, "multipart_invalid")
    assert (await server.upload(form(pack(A), description="x" * 60_000))).status == 200
    assert len((await server.get("/default/dags/current")).json["description"]) == 1000


async def test_the_answer_to_too_large_an_upload_names_limit_rule_size_and_what_to_do(server) -> None:
    for body in (bytes(15 * MIB + 1), form(bytes(15 * MIB + 1)), chunks(15 * MIB + 1)):
        answer = await server.upload(body)
        assert (answer.status, answer.json["code"]) == (413, "upload_too_large")
        assert "15,728,640 bytes (1 tier of 15 MiB)" in answer.json["message"]
        seen = int(re.search(r"has (?:at least )?([0-9,]+) bytes;", answer.json["message"])[1].replace(",", ""))
        assert seen > 15 * MIB
        assert "--tiers" in answer.json["hint"]
    assert scratch_files() == []


async def chunks(size: int):
    """A body without Content-Length."""
    for start in range(0, size, MIB):
        yield bytes(min(MIB, size - start))


async def test_exactly_the_limit_passes(server) -> None:
    assert (await server.upload(bytes(15 * MIB))).json["code"] == "bundle_empty"
    assert (await server.upload(form(bytes(15 * MIB)))).json["code"] == "bundle_empty"


async def test_an_upload_is_followed_through_the_log(server, caplog) -> None:
    caplog.set_level(logging.INFO)
    body = pack(A)
    told = await server.deploy(A)
    lines = {record.message: record.fields for record in caplog.records if hasattr(record, "fields")}
    assert lines["Upload received"]["sha256"] == hashlib.sha256(body).hexdigest()
    assert lines["Upload received"]["bytes"] == len(body)
    for message in ("Deployed", "Upload answered"):
        assert lines[message]["sha256"] == lines["Upload received"]["sha256"]
        assert lines[message]["version"] == told["version"]
        assert lines[message]["deployment"] == "default"


async def test_a_refusal_is_in_the_log(server, caplog) -> None:
    await server.upload(b"hello")
    record = next(record for record in caplog.records if record.message == "Audit")
    assert record.fields["outcome"] == "archive_not_recognized"


async def test_uploads_are_counted_by_outcome(server) -> None:
    body = pack(A)
    for _ in range(2):
        await server.upload(body)
    await server.upload(pack(B))
    assert await server.metric('uploads_total{deployment="default",outcome="ok"}') == 2
    assert await server.metric('uploads_total{deployment="default",outcome="unchanged"}') == 1
    assert await server.metric('upload_received_bytes_total{deployment="default"}') == 2 * len(body) + len(pack(B))
    assert await server.metric('upload_check_seconds_count{deployment="default"}') == 3


async def test_bytes_are_counted_as_they_arrive_also_of_uploads_that_fail(server) -> None:
    received = 'upload_received_bytes_total{deployment="default"}'
    more = asyncio.Event()

    async def slowly():
        yield b"x" * 1000
        await more.wait()
        yield b"x" * 234

    upload = asyncio.create_task(server.upload(slowly()))
    count = server.service.metrics.received_bytes.labels("default")._value
    await eventually("the first bytes", lambda: count.get() == 1000)
    more.set()
    assert (await upload).status == 422
    assert await server.metric(received) == 1234


async def test_uploads_that_are_refused_before_they_are_looked_at_are_counted_too(start, tmp_path) -> None:
    """Under the deployment's name only if there is one, and the caller may know of it."""
    tokens = TokensFile(tmp_path / "tokens.toml")
    headers = {
        "reader": {"Authorization": tokens.add("reader", ["read"], ["default", "team-*"])},
        "stranger": {"Authorization": tokens.add("stranger", SCOPES, ["other"])},
        "nobody": {},
    }
    server = await start("--tokens-file", str(tokens.path), "--deployments", "default,other")
    for name, deployment, code, label in (
        ("nobody", "default", "unauthenticated", ""),
        ("stranger", "default", "deployment_not_found", ""),
        ("reader", "default", "forbidden", "default"),
        ("reader", "team-a", "forbidden", ""),
    ):
        counter = server.service.metrics.uploads.labels(label, code)._value
        before = counter.get()
        answer = await server.call("POST", f"/{deployment}/dags/upload", headers=headers[name], data=pack(A))
        assert (answer.json["code"], counter.get()) == (code, before + 1)


async def test_uploads_of_web_pages_are_counted_too(server) -> None:
    page = {"Origin": "https://elsewhere.example"}
    answer = await server.call("POST", "/default/dags/upload", headers=page, data=pack(A))
    assert answer.json["code"] == "origin_refused"
    counted = [sample for metric in server.service.metrics.uploads.collect() for sample in metric.samples]
    assert [sample.value for sample in counted if sample.labels["outcome"] == "origin_refused"][:1] == [1]


async def test_many_uploads_at_once_to_one_deployment_leave_a_log_without_gaps(server) -> None:
    bodies = [pack({"dag.py": b"n = %d\n" % number}) for number in range(20)]
    answers = await asyncio.gather(*map(server.upload, bodies))
    assert sorted(answer.json["sequence"] for answer in answers) == list(range(1, 21))


async def test_deployments_do_not_wait_for_each_other(start) -> None:
    server = await start("--deployments", "prod,staging")
    async with server.service.deployments["prod"].lock:
        slow = asyncio.create_task(server.upload(pack(A), "/prod/dags/upload"))
        assert (await server.upload(pack(A), "/staging/dags/upload")).status == 200
        assert not slow.done()
    assert (await slow).status == 200


async def test_a_full_volume_is_507_and_leaves_nothing_half_done(server, monkeypatch) -> None:
    before = await server.deploy(A)
    real, left = os.fsync, [True]

    def full(descriptor: int) -> None:
        if left:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    answer = await server.upload(pack(B))
    assert (answer.status, answer.json["code"]) == (507, "store_full")
    assert (await server.get("/default/dags/current")).json["version"] == before["version"]
    left.clear()
    assert (await server.upload(pack(B))).json["sequence"] == 2


async def test_a_failing_volume_is_503(server, monkeypatch) -> None:
    def fail(folder: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dagferry_server.store.local.sync_folder", fail)
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")


async def test_a_defect_is_500_without_details_but_with_a_log(server, monkeypatch, caplog) -> None:
    def defect(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("dagferry_server.deploys.deployer.check_archive", defect)
    answer = await server.upload(pack(A))
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)
    assert await server.metric('uploads_total{deployment="default",outcome="internal"}') == 1


async def test_the_deploy_goes_on_when_the_client_leaves_before_the_answer(server) -> None:
    deployment = server.service.deployments["default"]
    async with deployment.lock:
        task = asyncio.create_task(server.upload(pack(A)))
        await eventually("the upload to wait for the lock", lambda: deployment.lock._waiters)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually("the deploy", lambda: deployment.current)
    assert (await server.upload(pack(A))).json["unchanged"] is True


async def test_a_taken_sequence_is_read_and_the_deploy_follows_it(server) -> None:
    await server.deploy(A)
    deployment, store = server.service.deployments["default"], server.service.store
    entry = deployment.current._replace(sequence=2, version="20300101T000000Z-000002", time=1893456000)
    await asyncio.to_thread(store.create_entry, "default", 2, entry.encode())
    assert (await server.upload(pack(B))).json["version"] == "20300101T000000Z-000003"


@pytest.mark.parametrize(("names", "taker"), [("prod", "prod"), ("prod,default", "default")])
async def test_a_path_without_a_deployment_means_the_only_one_or_default(start, names, taker) -> None:
    server = await start("--deployments", names)
    assert (await server.upload(pack(A), "/upload")).status == 200
    assert [name for name, deployment in server.service.deployments.items() if deployment.current] == [taker]


async def test_a_path_without_a_deployment_is_refused_where_it_may_mean_several(start) -> None:
    server = await start("--deployments", "prod,test")
    answer = await server.upload(pack(A), "/upload")
    assert (answer.status, answer.json["code"]) == (404, "deployment_not_found")
