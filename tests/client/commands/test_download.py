"""``dagferry download`` writes what the deploy log says or nothing, and replaces nothing unasked."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dagferry_client import asking
from dagferry_client.commands import download
from dagferry_core.bundle.manifest import Entry, Manifest
from harness import pack
from recorded_answers import DETAILS, logged

FILES = {"a.py": b"a = 1\n", "sql/b.sql": b"select 1\n"}
ARCHIVE = pack(FILES)
DIGEST = Manifest(
    Entry(path, len(content), 0o644, hashlib.sha256(content).hexdigest()) for path, content in FILES.items()
).digest
DEPLOY = logged(digest=DIGEST)
VERSION = DEPLOY["version"]
DOWNLOAD = f"GET /prod/dags/download?version={VERSION}"
NAME = f"prod-{VERSION}.tar.gz"


@pytest.fixture
def sent(server):
    """The server has the current version, and sends these bytes as its download."""

    def send(data: bytes = ARCHIVE, **changed: Any) -> None:
        server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [{**DEPLOY, **changed}], "next": None})
        server.answer(DOWNLOAD, data, Content_Type="application/gzip")

    return send


@pytest.fixture
def answers(monkeypatch):
    """A person at the terminal, who gives these answers."""

    def give(*lines: str) -> list[str]:
        left, asked = list(lines), []

        def confirm(_output: object, question: str) -> None:
            asked.append(question)
            if left.pop(0) != "y":
                raise asking.click.Abort

        monkeypatch.setattr(download, "can_ask", lambda _output: True)
        monkeypatch.setattr(download, "confirm", confirm)
        return asked

    return give


def names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != ".git")


def test_the_current_version_goes_into_a_file_of_its_name(at, sent, project) -> None:
    sent()
    done = at("download")
    assert (done.code, done.out) == (0, f"{project / NAME}\n")
    assert f"{VERSION} of prod: 2 files, 15 B; the digest is {DIGEST}." in done.err
    assert (project / NAME).read_bytes() == ARCHIVE
    assert names(project) == [NAME]


def test_an_older_version_is_named_and_goes_where_it_is_wanted(at, server, project) -> None:
    server.answer(f"GET /prod/dags/deploys/{VERSION}", {**DEPLOY, "details": DETAILS})
    server.answer(DOWNLOAD, ARCHIVE)
    done = at("download", VERSION, "-o", "old.tar.gz", "--json")
    assert done.json == {
        "deployment": "prod",
        "version": VERSION,
        "digest": DIGEST,
        "path": str(project / "old.tar.gz"),
        "files": 2,
        "bytes": 15,
    }
    assert (project / "old.tar.gz").read_bytes() == ARCHIVE


@pytest.mark.parametrize("data", [ARCHIVE[:-20], pack({**FILES, "a.py": b"a = 2\n"}), pack({"a.py": b"a = 1\n"}), b""])
@pytest.mark.parametrize("arguments", [(), ("--extract", "out")])
def test_what_is_not_what_the_log_says_is_not_kept(at, sent, project, data, arguments) -> None:
    sent(data)
    done = at("download", *arguments)
    assert (done.code, done.out) == (5, "")
    assert names(project) == []
    assert "Nothing was written" in done.err


def test_an_existing_file_is_not_replaced_unasked(at, server, sent, project) -> None:
    (project / NAME).write_text("mine")
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [DEPLOY], "next": None})
    done = at("download")
    assert (done.code, done.out) == (6, "")
    assert "exists" in done.err
    assert "--yes" in done.err
    assert (project / NAME).read_text() == "mine"
    sent()
    assert at("download", "--yes").code == 0
    assert (project / NAME).read_bytes() == ARCHIVE


def test_at_a_terminal_it_asks(at, server, sent, project, answers) -> None:
    (project / NAME).write_text("mine")
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [DEPLOY], "next": None})
    assert answers("n") == []
    assert at("download").code == 130
    assert (project / NAME).read_text() == "mine"
    sent()
    asked = answers("y")
    assert at("download").code == 0
    assert asked == [f"{NAME} exists. Replace it?"]
    assert (project / NAME).read_bytes() == ARCHIVE


def test_a_file_that_came_meanwhile_is_not_replaced(at, server, project) -> None:
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [DEPLOY], "next": None})

    def send(handler) -> None:
        (project / NAME).write_text("mine")
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ARCHIVE)))
        handler.end_headers()
        handler.wfile.write(ARCHIVE)

    server.act(DOWNLOAD, send)
    assert at("download").code == 6
    assert (project / NAME).read_text() == "mine"
    assert names(project) == [NAME]


def test_a_folder_is_made_of_the_files(at, sent, project) -> None:
    (project / "empty").mkdir()
    for folder in ("new", "empty"):
        sent()
        done = at("download", "--extract", folder)
        assert (done.code, done.out) == (0, f"{project / folder}\n")
        found = {str(path.relative_to(project / folder)): path for path in (project / folder).rglob("*")}
        assert {name: path.read_bytes() for name, path in found.items() if path.is_file()} == FILES
    assert names(project) == ["empty", "new"]


@pytest.mark.parametrize("there", ["a file", "a folder with a file"])
def test_a_folder_with_something_in_it_stays_as_it_is(at, server, project, there) -> None:
    out = project / "out"
    if there == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [DEPLOY], "next": None})
    done = at("download", "--extract", "out", "--yes")
    assert done.code == 6
    assert "not an empty folder" in done.err
    assert names(project) == ["out"]


def test_a_folder_that_is_not_there_to_write_into_is_said(at, server, project) -> None:
    for arguments in (("-o", "no/where.tar.gz"), ("--extract", "no/where")):
        server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [DEPLOY], "next": None})
        done = at("download", *arguments)
        assert done.code == 6
        assert "cannot be written: No such file or directory" in done.err


def test_an_archive_may_go_to_another_program(server, sent, project) -> None:
    command = [sys.executable, "-m", "dagferry_client", "download", "-s", server.url, "-d", "prod", "-o", "-"]
    for data, code in ((ARCHIVE, 0), (ARCHIVE[:-1], 5)):
        sent(data)
        done = subprocess.run(command, capture_output=True, check=False, cwd=project)
        assert (done.returncode, done.stdout) == (code, data)
    assert names(project) == []


def test_an_archive_does_not_mix_with_json(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [DEPLOY], "next": None})
    done = at("download", "-o", "-", "--json")
    assert (done.code, done.out) == (2, "")


def test_two_places_are_a_mistake(at, server) -> None:
    assert at("download", "-o", "a", "--extract", "b").code == 2
    assert server.requests == []


def test_nothing_deployed_is_an_error(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [], "next": None})
    done = at("download")
    assert done.code == 4
    assert "Nothing is deployed to prod yet." in done.err
