"""A change is sent if the server can use it, else everything; and much is only removed if somebody said so."""

import json
import os
from urllib.parse import quote

import pytest

from dagferry_client import upload
from dagferry_client.api import DeployOptions
from dagferry_client.base import Base
from dagferry_client.errors import RequestRefused
from dagferry_client.local.errors import OverUploadLimit
from dagferry_client.output import Output
from dagferry_client.upload import Content, Uploader, fitting
from dagferry_core.bundle.manifest import EMPTY, Manifest
from localtrees import read, write
from recorded_answers import LISTED, logged
from scripted_deploys import accept, refuse, uploads

FILES = {"a.py": b"a = 1\n", "sub/b.py": b"b = 1\n", "c.py": b"c = 1\n"}
VERSION = logged()["version"]


@pytest.fixture
def api(server, clean_environment):
    from dagferry_client.api import Api
    from dagferry_client.credentials import Credentials, TokenSource
    from dagferry_client.http import Http
    from dagferry_client.settings import Target

    target = Target(server.url, "prod", "", TokenSource(), None, False, None, (), ())
    return Api(Http(target, Credentials(target.token, server.url, {}), lambda _: None))


@pytest.fixture
def tree(tmp_path):
    return read(write(tmp_path / "dags", FILES))


@pytest.fixture
def send(api, tree):
    def run(base: Manifest | None = None, *, yes: bool = False, under: str = "", options=None, **git: str):
        content = Content(tree, Base(VERSION, base) if base else None, under, "Why", git)
        return Uploader(api, "prod", Output(), yes=yes).send(content, options or DeployOptions())

    return run


def change(tree, under: str = "") -> str:
    digest = quote(tree.manifest.digest, safe="")
    return (f"?under={quote(under, safe='')}&" if under else "?") + f"base={VERSION}&digest={digest}"


def older(tree, *without: str, **more: bytes) -> Manifest:
    entries = [one for path, one in tree.manifest.files.items() if path not in without]
    return Manifest([*entries, *(entries[0]._replace(path=path) for path in more)])


def test_without_a_base_everything_is_sent(server, send, tree) -> None:
    accept(server, tree.manifest.digest)
    sent = send(commit="4f2a")
    assert (sent.deployed.sequence, sent.whole) == (43, True)
    [one] = uploads(server)
    assert one.query == {}
    assert one.fields == {"description": "Why", "git": '{"commit": "4f2a"}'}
    assert one.files == {f"dags/{path}": content for path, content in FILES.items()}


def test_a_change_has_what_is_new_at_its_plain_path_and_names_what_is_gone(server, send, tree) -> None:
    accept(server, tree.manifest.digest, change(tree))
    sent = send(older(tree, "sub/b.py", **{"gone.py": b"", "x/gone.py": b""}))
    assert not sent.whole
    [one] = uploads(server)
    assert one.query == {"base": VERSION, "digest": tree.manifest.digest}
    assert one.files == {"sub/b.py": FILES["sub/b.py"]}
    assert json.loads(one.fields["removed"]) == ["gone.py", "x/gone.py"]


def test_below_a_folder_the_digest_is_that_of_the_folder(server, send, tree) -> None:
    accept(server, "sha256:" + "0" * 64, change(tree, "team-a/"))
    send(EMPTY, under="team-a/")
    [one] = uploads(server)
    assert one.query == {"under": "team-a/", "base": VERSION, "digest": tree.manifest.digest}
    assert one.files == FILES


@pytest.mark.parametrize("refusal", [("base_gone", 409), ("change_mismatch", 422), ("request_invalid", 400)])
def test_a_change_that_the_server_cannot_use_is_followed_by_everything(server, send, tree, capsys, refusal) -> None:
    refuse(server, *refusal, change(tree))
    accept(server, tree.manifest.digest)
    assert send(tree.manifest).whole
    assert [len(one.files) for one in uploads(server)] == [0, 3]
    assert "Sending everything." in capsys.readouterr().err


def test_any_other_refusal_ends_it(server, send, tree) -> None:
    refuse(server, "gate_refused", 422, change(tree))
    with pytest.raises(RequestRefused) as caught:
        send(tree.manifest)
    assert caught.value.reason == "gate_refused"


def test_more_removed_paths_than_a_form_may_have_are_not_sent_as_a_change(server, send, tree) -> None:
    accept(server, tree.manifest.digest)
    assert send(older(tree, **{f"{'x' * 200}{n}.py": b"" for n in range(300)})).whole


def test_options_are_parameters_and_a_header(server, send, tree) -> None:
    accept(server, tree.manifest.digest, "?dry_run=1&skip_gate=1&allow_removals=1", dry_run=True)
    send(options=DeployOptions(True, VERSION, True, True))
    [one] = uploads(server)
    assert one.headers["If-Match"] == f'"{VERSION}"'


# --- removals ---------------------------------------------------------------------------------------------------------


def removals(server, **details: object) -> None:
    refuse(server, "removals_refused", 422, removed_paths=[f"{n}.py" for n in range(25)], **details)


def test_without_a_terminal_a_mass_removal_is_refused(server, send) -> None:
    removals(server)
    with pytest.raises(RequestRefused) as caught:
        send()
    assert caught.value.reason == "removals_refused"


def test_on_a_terminal_it_is_asked_about_with_the_names(server, send, tree, monkeypatch, capsys) -> None:
    asked = []
    monkeypatch.setattr(upload, "can_ask", lambda _: True)
    monkeypatch.setattr(upload, "confirm", lambda _, question: asked.append(question))
    removals(server)
    accept(server, tree.manifest.digest, "?allow_removals=1")
    assert send().deployed.sequence == 43
    assert "override" in asked[0]
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[1], lines[-1]) == (
        "Warning: It is removals_refused.",
        "Warning: would be removed: 0.py",
        "Warning: and 5 more",
    )


def test_yes_is_the_answer_without_the_question(server, send, tree, monkeypatch) -> None:
    monkeypatch.setattr(upload, "confirm", None)
    removals(server)
    accept(server, tree.manifest.digest, "?allow_removals=1")
    assert send(yes=True).deployed.sequence == 43


def test_a_refusal_of_what_was_allowed_is_not_asked_about_again(server, send) -> None:
    refuse(server, "removals_refused", 422, "?allow_removals=1")
    with pytest.raises(RequestRefused):
        send(yes=True, options=DeployOptions(allow_removals=True))


# --- the limit --------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(api, tmp_path):
    files = {"big.bin": os.urandom(1_500_000), "small.bin": os.urandom(1000)}
    tree = read(write(tmp_path / "large", files))
    content = Content(tree, None, "", "", {})
    return tree, lambda: Uploader(api, "prod", Output(), yes=False).send(content, DeployOptions())


def test_what_is_over_the_limit_is_not_sent_and_the_largest_files_are_named(server, large) -> None:
    _, send = large
    server.answer("GET /-/deployments", {"deployments": [{**LISTED, "upload_limit_bytes": 1_400_000}]})
    with pytest.raises(OverUploadLimit) as caught:
        send()
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        "The packed files have 1.4 MiB; prod accepts 1.3 MiB. The largest of the files, before packing: "
        "'big.bin' (1.4 MiB), 'small.bin' (1000 B)."
    )
    assert uploads(server) == []


@pytest.mark.parametrize("others", [[LISTED], [], None])
def test_within_the_limit_or_if_it_is_not_known_it_is_sent(server, large, capsys, others) -> None:
    tree, send = large
    if others is None:
        server.answer("GET /-/deployments", {"code": "route_not_found", "message": "No.", "hint": ""}, 404)
    else:
        server.answer("GET /-/deployments", {"deployments": others})
    accept(server, tree.manifest.digest)
    assert send().sent_bytes > 1_500_000
    assert capsys.readouterr().err == "Packing 1.4 MiB.\nSending 1.4 MiB.\n"


def test_what_git_says_is_cut_to_what_the_server_takes() -> None:
    assert fitting({}) == ""
    assert json.loads(fitting({"commit": "4f2a", "author": "ü" * 100})) == {"commit": "4f2a", "author": "ü" * 100}
    assert json.loads(fitting({"commit": "4f2a", "author": "ü" * 2100})) == {"commit": "4f2a"}
