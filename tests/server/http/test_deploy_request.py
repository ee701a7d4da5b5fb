"""What the requests that deploy share: ``If-Match``, ``dry_run``, ``skip_gate``, ``allow_removals``, ``git``."""

import io
import json
from urllib.parse import quote

import aiohttp
import pytest

from credentials import TokensFile
from dagferry_server.deploys.request import ANY_VERSION
from dagferry_server.errors import RequestError
from dagferry_server.http.deploy_request import if_match
from harness import pack
from running import A, B, Running

UPLOAD = "/default/dags/upload"


def form(file: bytes, git: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(file), filename="dags.tar.gz")
    data.add_field("git", git)
    return data


async def upload(server: Running, files, query: str = "", **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.call("POST", UPLOAD + query, data=pack(files), headers=named)


# --- If-Match --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "versions"),
    [
        ([], None),
        (["*"], {ANY_VERSION}),
        ([" * "], {ANY_VERSION}),
        (['"a"'], {"a"}),
        (['"a", "b"'], {"a", "b"}),
        (['"a","b"', '"c"'], {"a", "b", "c"}),
        (['"a,b"'], {"a,b"}),
        (['W/"a"'], set()),
        (['W/"a", "b"'], {"b"}),
        (['""'], {""}),
        (['"*"'], {"*"}),
    ],
)
def test_if_match_is_read_as_rfc_9110_has_it(headers, versions) -> None:
    assert if_match(headers) == (None if versions is None else frozenset(versions))


@pytest.mark.parametrize(
    "text", ["", "a", "20261120T064501Z-000042", '"a" "b"', '"a', '"a",', ',"a"', '*, "a"', "w/'a'"]
)
def test_a_malformed_if_match_is_refused_rather_than_ignored(text) -> None:
    with pytest.raises(RequestError, match="malformed"):
        if_match([text])


async def test_a_deploy_on_top_of_the_expected_version_is_accepted(server) -> None:
    first = await server.deploy(A)
    told = await upload(server, B, If_Match=f'"{first["version"]}"')
    assert (told.status, told.json["sequence"]) == (200, 2)
    assert (await upload(server, A, If_Match=f'"other", "{told.json["version"]}"')).status == 200
    assert (await upload(server, B, If_Match="*")).status == 200


async def test_another_version_is_412_and_the_answer_names_it_and_who_deployed_it(server) -> None:
    first = await server.deploy(A)
    second = await server.deploy(B)
    for tag in (f'"{first["version"]}"', f'W/"{second["version"]}"', '"x"'):
        answer = await upload(server, {"dag.py": b""}, If_Match=tag)
        assert (answer.status, answer.json["code"]) == (412, "version_mismatch")
        assert second["version"] in answer.json["message"]
        assert (answer.json["version"], answer.json["actor"]) == (second["version"], "anonymous")
        assert answer.json["time"] > 0
    rolled = await server.call(
        "POST",
        "/default/dags/rollback",
        json={"version": first["version"]},
        headers={"If-Match": f'"{first["version"]}"'},
    )
    assert rolled.status == 412
    assert (await server.get("/default/dags/current")).json["sequence"] == 2


async def test_before_the_first_deploy_only_none_is_current(server) -> None:
    assert (await upload(server, A, If_Match="*")).json["code"] == "version_mismatch"
    told = (await upload(server, A, If_Match='"20200101T000000Z-000001"')).json
    assert (told["code"], told["version"]) == ("version_mismatch", "")
    assert (await upload(server, A, If_Match='"none"')).json["sequence"] == 1
    assert (await upload(server, B, If_Match='"none"')).json["code"] == "version_mismatch"


async def test_a_repeated_request_whose_answer_was_lost_is_unchanged_and_no_mismatch(server) -> None:
    first = await server.deploy(A)
    tag = f'"{first["version"]}"'
    told = (await upload(server, B, If_Match=tag)).json
    again = await upload(server, B, If_Match=tag)
    assert (again.status, again.json["unchanged"], again.json["version"]) == (200, True, told["version"])


# --- parameters ------------------------------------------------------------------------------------------------------


async def test_a_dry_run_of_an_upload_stores_nothing(server, tmp_path) -> None:
    empty = (await upload(server, A, "?dry_run=1")).json
    assert (empty["version"], empty["sequence"], empty["dry_run"], empty["added_paths"]) == ("", 0, True, sorted(A))
    first = await server.deploy(A)
    assert first["digest"] == empty["digest"]
    folder = tmp_path / "data" / "default"
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    told = (await upload(server, B, "?dry_run=1")).json
    assert (told["version"], told["sequence"], told["changed_paths"]) == (first["version"], 1, ["shop.py"])
    assert told["digest"] != first["digest"]
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    assert (await upload(server, A, "?dry_run=1")).json["unchanged"] is True
    assert await server.metric('uploads_total{deployment="default",outcome="dry_run"}') == 3


@pytest.mark.parametrize("name", ["dry_run", "skip_gate", "allow_removals"])
@pytest.mark.parametrize("value", ["", "0", "true", "1&{name}=0"])
async def test_a_parameter_has_the_value_1_or_is_refused(server, name, value) -> None:
    answer = await upload(server, A, f"?{name}={value.format(name=name)}")
    assert (answer.status, answer.json["code"]) == (400, "request_invalid")
    assert name in answer.json["message"]
    assert (await server.get("/default/dags/current")).json["sequence"] == 0


@pytest.mark.parametrize("name", ["skip_gate", "allow_removals"])
async def test_bypassing_a_check_needs_the_scope_override_and_is_recorded(start, tmp_path, name) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ci = tokens.add("ci", ["deploy"])
    chief = tokens.add("chief", ["deploy", "override"])
    server = await start("--tokens-file", str(tokens.path))
    refused = await upload(server, A, f"?{name}=1", Authorization=ci)
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert "override" in refused.json["message"]
    assert name in refused.json["hint"]
    told = (await upload(server, A, f"?{name}=1", Authorization=chief)).json
    entry = (await server.get(f"/default/dags/deploys/{told['version']}", Authorization=chief)).json
    assert entry["flags"] == [name]


# --- git -------------------------------------------------------------------------------------------------------------

GIT = {
    "commit": "3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
    "branch": "feature/größer",
    "author": "Ann <ann@example.com>",
    "repository": "acme/dags",
    "url": "https://git.example.com/acme/dags/commit/3b18e51",
    "image": "Dockerfile=1a2b3c4d plugins=dags",
}


async def test_where_a_content_comes_from_is_in_the_log(server) -> None:
    await upload(server, A, f"?git={quote(json.dumps(GIT))}")
    await server.upload(form(pack(B), git=json.dumps({"commit": "abc"})), f"{UPLOAD}?git={quote(json.dumps(GIT))}")
    log = (await server.get("/default/dags/deploys")).json["deploys"]
    assert [entry["git"] for entry in log] == [{"commit": "abc"}, GIT]
    assert (await server.get(f"/default/dags/deploys/{log[1]['version']}")).json["git"] == GIT


@pytest.mark.parametrize(
    "git",
    [
        "main",
        "[]",
        "null",
        '"main"',
        "{",
        '{"comit": "abc"}',
        '{"commit": 7}',
        '{"commit": null}',
        '{"commit": ["abc"]}',
        '{"commit": "a\\u001b[31m"}',
        '{"commit": "a\\nb"}',
        json.dumps({"commit": "x" * 201}),
        json.dumps({"url": "x" * 4096}),
        '{"commit": "\\ud800"}',
    ],
    ids=lambda text: text[:30],
)
async def test_another_git_is_refused_and_nothing_is_deployed(server, git) -> None:
    for answer in (await upload(server, A, f"?git={quote(git)}"), await server.upload(form(pack(A), git=git))):
        assert (answer.status, answer.json["code"]) == (400, "request_invalid")
        assert "git" in answer.json["message"]
        assert "xxxxxxxxxxxx" not in answer.json["message"]
    assert (await server.get("/default/dags/current")).json["sequence"] == 0


async def test_an_empty_git_says_nothing(server) -> None:
    for query in ("?git=", "?git={}", '?git={"commit":""}'):
        assert (await upload(server, {"dag.py": query.encode()}, query)).status == 200
    assert {entry["git"] for entry in (await server.get("/default/dags/deploys")).json["deploys"]} == {None}
