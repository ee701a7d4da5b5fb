"""``dagferry verify`` notices a log or a content that is not what it was."""

import hashlib
from typing import Any

import pytest

from dagferry_client.deploy_log import LoggedDeploy
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.deploylog import entry_sha256
from harness import pack
from recorded_answers import logged

GONE = {"code": "bundle_gone", "message": "It is gone.", "hint": "Deploy again."}


def listed(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return [
        {"path": path, "size": len(content), "mode": 0o644, "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in files.items()
    ]


def digest_of(files: dict[str, bytes]) -> str:
    return Manifest(Entry(**one) for one in listed(files)).digest


CONTENTS = {1: {"a.py": b"1"}, 2: {"a.py": b"2", "b.py": b"b"}, 3: {"a.py": b"1"}}


def log(**changed_in_2: Any) -> list[dict[str, Any]]:
    """A log of three deploys, newest first; the first and the last have the same content."""
    deploys: list[dict[str, Any]] = []
    previous = ""
    for sequence, files in CONTENTS.items():
        deploy = logged(sequence, digest=digest_of(files), previous=previous)
        previous = entry_sha256(LoggedDeploy(**deploy).entry().encode())
        deploys.insert(0, {**deploy, **(changed_in_2 if sequence == 2 else {})})
    return deploys


@pytest.fixture
def holds(server):
    """The server has this log, and these contents."""

    def answer(deploys: list[dict[str, Any]], **contents: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
        server.answer("GET /prod/dags/deploys?limit=200", {"deploys": deploys[:2], "next": 2})
        server.answer("GET /prod/dags/deploys?limit=200&before=2", {"deploys": deploys[2:], "next": None})
        for name, (files, archived) in contents.items():
            version = logged(int(name.removeprefix("v")))["version"]
            server.answer(
                f"GET /prod/dags/versions/{version}/files",
                {"version": version, "digest": digest_of(files), "files": listed(files)},
            )
            if archived:
                server.answer(f"GET /prod/dags/download?version={version}", pack(archived))

    return answer


def test_an_intact_log_and_the_current_content_are_fine(at, holds) -> None:
    deploys = log()
    holds(deploys, v3=(CONTENTS[3], CONTENTS[3]))
    done = at("verify")
    assert done.code == 0
    assert done.out.splitlines() == [
        "prod: 3 entries, 2 of them chained.",
        f"The newest entry has the sha256 {entry_sha256(LoggedDeploy(**deploys[0]).entry().encode())}.",
        f"intact  {deploys[0]['version']}  1 file, 1 B",
    ]


def test_a_changed_entry_is_named(at, holds) -> None:
    holds(log(actor="somebody"), v3=(CONTENTS[3], CONTENTS[3]))
    done = at("verify")
    assert done.code == 6
    assert "damaged  entry 2 is not what it was when entry 3 was made\n" in done.out
    assert "dagferry-server verify" in done.err


def test_all_checks_each_content_once_and_says_which_are_gone(at, holds, server) -> None:
    deploys = log()
    holds(deploys, v3=(CONTENTS[3], CONTENTS[3]))
    server.answer(f"GET /prod/dags/versions/{deploys[1]['version']}/files", GONE, 410)
    done = at("verify", "--all", "--json")
    assert done.code == 0
    assert (done.json["entries"], done.json["chained"], done.json["log_problems"]) == (3, 2, [])
    assert [(one["version"], one["state"], one["files"]) for one in done.json["contents"]] == [
        (deploys[0]["version"], "intact", 1),
        (deploys[1]["version"], "gone", 0),
    ]


def test_one_version_can_be_chosen(at, holds) -> None:
    deploys = log()
    holds(deploys, v2=(CONTENTS[2], CONTENTS[2]))
    assert at("verify", deploys[1]["version"], "--json").json["contents"][0]["files"] == 2


def test_a_file_with_another_content_is_named(at, holds) -> None:
    deploys = log()
    holds(deploys, v2=(CONTENTS[2], {"a.py": b"2", "b.py": b"B"}))
    done = at("verify", deploys[1]["version"])
    assert done.code == 6
    assert "'b.py' is not what the manifest says\n" in done.out


def test_a_manifest_that_is_not_the_one_in_the_log_is_damaged(at, holds) -> None:
    holds(log(), v3=({"a.py": b"other"}, {}))
    done = at("verify", "--json")
    assert done.code == 6
    [content] = done.json["contents"]
    assert (content["state"], "has the digest" in content["problem"]) == ("damaged", True)


def test_an_error_of_the_server_is_no_damage(at, holds, server) -> None:
    holds(log())
    refused = {"code": "forbidden", "message": "No.", "hint": "Ask."}
    server.answer(f"GET /prod/dags/versions/{log()[0]['version']}/files", refused, 403)
    done = at("verify")
    assert done.code == 4
    assert "Error: No." in done.err


def test_entries_of_a_newer_server_are_not_checked_and_that_is_said(at, holds) -> None:
    holds(log(format=99), v3=(CONTENTS[3], CONTENTS[3]))
    done = at("verify")
    assert done.code == 5
    assert "1 entries have a newer format than this command knows" in done.err


def test_nothing_deployed_is_fine(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=200", {"deploys": [], "next": None})
    done = at("verify")
    assert (done.code, done.out) == (0, "prod: 0 entries, 0 of them chained.\n")


def test_all_and_a_version_are_a_mistake(at, server) -> None:
    assert at("verify", "42", "--all").code == 2
