"""The command ``dagferry-server`` as a process."""

import http.client
import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from commands import NEW_TOKEN, PATIENCE_SECONDS, run
from credentials import TokensFile, issuers_file
from harness import Process, Server, eventually, free_port, pack
from running import A, B

pytestmark = pytest.mark.slow


def test_start_up_says_every_limit_and_where_it_listens(serve) -> None:
    server = serve("--tiers", "3", "--deployments", "prod,staging")
    told = {line["message"]: line for line in server.logged()}
    assert told["Effective limits"]["upload_bytes"] == 3 * 15 * 1024 * 1024
    assert told["Effective limits"]["upload_rule"] == "3 tiers of 15 MiB"
    assert told["Effective limits"]["max_store_bytes"] > 0
    assert (told["Effective limits"]["max_ratio"], told["Effective limits"]["ratio_free_bytes"]) == (
        250,
        64 * 1024 * 1024,
    )
    assert told["Effective limits"]["max_paths_bytes"] == 16 * 1024 * 1024
    assert told["Listening"]["listen"] == f"127.0.0.1:{server.port}"
    assert [line["deployment"] for line in server.logged() if line["message"] == "Deployment loaded"] == [
        "prod",
        "staging",
    ]


def test_a_setting_may_come_from_the_environment(tmp_path, started) -> None:
    server = Server(tmp_path / "data", DAGFERRY_DEPLOYMENTS="prod", DAGFERRY_PORT="tcp://10.0.0.1:80")
    started.append(server)
    server.ready()
    assert server.get("/prod/dags/current")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "nonsense"], "--listen='nonsense'"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--listen", "0.0.0.0:0"], "--insecure-no-auth"),
        (["--deployments", "Prod"], "Prod"),
        (["--exclude", "*.pyc,tests/sub"], "'tests/sub' is not a valid exclude rule"),
        (["--data-dir="], "--data-dir='': a path is expected"),
        (["new-log-id", "--no-such-flag"], "--no-such-flag"),
        (["new-log-id", "--data-dir="], "--data-dir='': a path is expected"),
        (["verify", "--no-such-flag"], "--no-such-flag"),
        (["verify"], "no deploy log of any deployment"),
    ],
)
def test_a_bad_setting_is_exit_code_2_and_one_line(arguments, words, tmp_path) -> None:
    ended = run(*arguments, DAGFERRY_DATA_DIR=str(tmp_path / "data"))
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_wrong_deployments_file_is_exit_code_2_and_one_line(tmp_path) -> None:
    file = tmp_path / "deployments.toml"
    for text, words in (
        ("deployments = [ { name = 'prod', keep-dais = 7 } ]", "deployment 'prod', cannot be used: keep-dais"),
        (None, f"{file} cannot be read: No such file"),
    ):
        file.unlink(missing_ok=True)
        if text:
            file.write_text(text)
        ended = run("--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--deployments-file", str(file))
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert words in ended.stderr


@pytest.mark.parametrize("place", ["file", "file/data"])
def test_a_data_folder_that_is_a_file_is_exit_code_2_and_one_line(place, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("--data-dir", str(tmp_path / place), "--listen", "127.0.0.1:0")
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert f"--data-dir {tmp_path / place}: {tmp_path / 'file'} is not a folder" in line


def test_an_address_in_use_is_exit_code_2_and_one_line(serve, tmp_path) -> None:
    server = serve()
    ended = run("--listen", f"127.0.0.1:{server.port}", "--data-dir", str(tmp_path / "other"))
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert "in use" in line


def test_a_data_folder_has_one_server_at_a_time(serve) -> None:
    server = serve()
    for arguments in (("--listen", f"127.0.0.1:{free_port()}"), ("new-log-id",)):
        ended = run(*arguments, "--data-dir", str(server.data))
        assert ended.returncode == 5
        assert "Another server uses the data folder" in ended.stderr
    assert server.get("/readyz")[0] == 200


def test_a_missing_library_is_exit_code_2_and_names_the_extra(tmp_path) -> None:
    code = "import sys; sys.modules['aiohttp'] = None; from dagferry_server.__main__ import main; sys.exit(main())"
    ended = run("--data-dir", str(tmp_path), code=code)
    assert ended.returncode == 2
    assert 'pip install "dagferry[server]"' in ended.stderr
    assert "aiohttp" in ended.stderr


def test_help_and_version(tmp_path) -> None:
    for flag, words in (("--help", "DAGFERRY_DATA_DIR"), ("--version", "dagferry-server 0.")):
        ended = run(flag)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert words in ended.stdout


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_with_exit_code_0_and_nothing_is_lost(serve, signal_name) -> None:
    server = serve()
    told = server.deploy(A)
    server.process.send_signal(getattr(signal, signal_name))
    assert server.process.wait(PATIENCE_SECONDS) == 0
    again = serve()
    assert again.current()["version"] == told["version"]
    assert again.deploy(A)["unchanged"] is True


def test_leftovers_of_a_killed_server_are_swept_at_the_start(serve) -> None:
    server = serve()
    server.deploy(A)
    server.kill()
    (server.data / "default" / "bundles" / ".new-0123").write_bytes(b"half")
    (server.data / "default" / "deploys" / ".new-0123").write_bytes(b"half")
    (server.data / "default" / "incoming" / ".new-0123").write_bytes(b"half")
    again = serve()
    assert [path for path in server.data.rglob("*") if path.name.startswith(".new-")] == []
    assert again.deploy(B)["sequence"] == 2


def test_every_line_of_the_log_is_json_also_when_clients_send_nonsense(serve) -> None:
    server = serve()
    server.request("/default/dags/upload", b"--x\r\nContent-Disposition: ;;\r\n\r\n\r\n--x--\r\n",
                   Content_Type="multipart/form-data; boundary=x")  # fmt: skip
    server.request("/default/dags/upload", b"nonsense")
    server.stop()
    lines = server.log.read_text().splitlines()
    assert len(lines) == len(server.logged())
    for line in lines:
        assert {"time", "level", "message"} <= set(json.loads(line))


def test_an_upload_that_is_under_way_at_the_end_is_finished(serve) -> None:
    server = serve()
    body = pack(A)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.putrequest("POST", "/default/dags/upload")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    # The server has begun with it when it has answered somebody who came later.
    server.get("/healthz")
    server.process.send_signal(signal.SIGTERM)
    eventually("the end to begin", lambda: any(line["message"] == "Stopping" for line in server.logged()))
    connection.send(body[10:])
    assert connection.getresponse().status == 200
    connection.close()
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert serve().current()["sequence"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["token"], ["new", "list", "revoke"]),
        (["token", "new"], ["--expires DAYS", "--add FILE"]),
        (["token", "list"], ["--tokens-file FILE"]),
        (["token", "revoke"], ["--name NAME", "--id ID"]),
        (["new-log-id"], ["--data-dir DIR"]),
        (["serve"], ["--data-dir DIR", "[DAGFERRY_DATA_DIR]"]),
        (["verify"], ["--data-dir DIR", "--store URL"]),
        (["copy-store"], ["FROM", "TO", "--deployments NAME,…"]),
    ],
)
def test_every_command_has_help(arguments, words) -> None:
    ended = run(*arguments, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: dagferry-server " + " ".join(arguments))
    for word in words:
        assert word in ended.stdout
    assert "\nexample:\n  dagferry-server " + " ".join(arguments) in ended.stdout
    assert run(*arguments, "--version").stdout == run("--version").stdout


def test_help_lists_every_command_in_a_line(tmp_path) -> None:
    lines = run("--help").stdout.splitlines()
    for command in ("serve", "token", "new-log-id", "verify", "copy-store"):
        [line] = [line for line in lines if line.split()[:1] == [command]]
        assert line.endswith(".")
        assert len(line.split()) > 3


def test_serve_is_what_flags_alone_mean(started, tmp_path) -> None:
    flags = ("--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    server = Process(tmp_path / "log", "dagferry_server", "serve", *flags)
    started.append(server)
    eventually("it to listen", lambda: any(line["message"] == "Listening" for line in server.logged()))


def test_a_variable_counts_for_the_commands_that_have_its_setting(serve) -> None:
    server = serve()
    server.stop()
    # The listener's is wrong, and of no concern to the others; the server's list of deployments is not verify's.
    others = {"DAGFERRY_DATA_DIR": str(server.data), "DAGFERRY_LISTEN": "nonsense", "DAGFERRY_DEPLOYMENTS": "later"}
    assert run("serve", **others).stderr.count("DAGFERRY_LISTEN='nonsense'") == 1
    ended = run("verify", **others)
    assert (ended.returncode, ended.stdout.split(":")[0]) == (0, "default")
    ended = run("token", "list", **others)
    assert (ended.returncode, "--tokens-file is required" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["token"], "token needs a command: new, list, revoke. See dagferry-server token --help."),
        (["token", "make"], "Unknown command 'make'; the commands are new, list, revoke."),
        (["token", "revok"], "Unknown command 'revok'; did you mean revoke?"),
        (["verfy"], "Unknown command 'verfy'; did you mean verify? See dagferry-server --help."),
        (["--data-dir", "/nowhere", "verify"], "Unrecognized arguments: verify."),
        (["--data-dri", "/nowhere"], "Unrecognized arguments: --data-dri; did you mean --data-dir?"),
        (["token", "new"], "--name is required"),
        (["token", "list"], "--tokens-file is required"),
        (["token", "list", "--tokens-file", "/nowhere/tokens.toml"], "/nowhere/tokens.toml cannot be read"),
        (["token", "revoke", "--tokens-file", "/nowhere/tokens.toml"], "One of --name and --id is required"),
        (["token", "revoke", "--tokens-file=x", "--id=1"], "--id='1': the 12 digits"),
        ([*NEW_TOKEN, "--expires", "90"], "--expires='90': a number of days such as 90d"),
        ([*NEW_TOKEN, "--expires", "0d"], "--expires='0d': 1d to 3650d is expected"),
        ([*NEW_TOKEN, "--add="], "--add='': a path is expected"),
        ([*NEW_TOKEN, "--add=/nowhere/tokens.toml"], "/nowhere cannot be opened"),
        (["token", "new", "--name", "x", "--scopes", "root", "--deployments", "*"], "scopes are expected"),
        (["token", "new", "--name", "x y", "--scopes", "sync", "--deployments", "*"], "--name='x y': 1 to 100 letters"),
        (["token", "new", "--name", 'a"b', "--scopes", "sync", "--deployments", "*"], "--name='a\"b': 1 to 100"),
        (["token", "new", "--name", "x", "--scopes", "sync", "--deployments", "Prod"], "--deployments='Prod': names"),
        (["token", "new", "--name", "x", "--scopes", "sync", "--deployments", 'p"'], "--deployments='p\"': names"),
        (["--tls-cert=c.pem", "--tls-key="], "--tls-key='': a path is expected"),
        (["--tokens-file", "/nowhere/tokens.toml"], "/nowhere/tokens.toml cannot be read"),
        (["--issuers-file", "/nowhere/issuers.toml"], "/nowhere/issuers.toml cannot be read"),
        (["--tls-cert", "/nowhere/a", "--tls-key", "/nowhere/b"], "/nowhere/a cannot be read"),
    ],
)
def test_credentials_that_cannot_be_used_are_exit_code_2_and_one_line(arguments, words, tmp_path) -> None:
    ended = run(*arguments, DAGFERRY_DATA_DIR=str(tmp_path / "data"), DAGFERRY_LISTEN="127.0.0.1:0")
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert words in line


def test_a_rule_that_binds_nobody_is_exit_code_2(tmp_path) -> None:
    rule = 'claims = { ref = "refs/heads/main" }\nscopes = ["deploy"]\ndeployments = ["prod"]'
    issuers = issuers_file(tmp_path / "issuers.toml", "https://token.actions.githubusercontent.com", rule)
    ended = run("--issuers-file", issuers, "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 2
    assert "does not restrict who may use it" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_fifo_in_place_of_the_tokens_file_ends_neither_later_changes_nor_the_end(serve, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ci", ["read"])
    server = serve("--tokens-file", str(tokens.path))
    answered = partial(server.get, "/default/dags/deploys", Authorization=secret)
    tokens.path.unlink()
    os.mkfifo(tokens.path)
    eventually("the fault", lambda: "is not a regular file" in server.log.read_text())
    assert answered()[0] == 200
    tokens.path.unlink()
    tokens.entries.clear()
    tokens.write()
    eventually("the token to be revoked", lambda: answered()[0] == 401)
    os.unlink(tokens.path)
    os.mkfifo(tokens.path)
    server.stop()


HANGING = """
import sys, threading
from dagferry_server.auth import fetch
from dagferry_server.config import watched
from dagferry_server.__main__ import main

def hang_later(path, *arguments, read=watched.read_regular, **options):
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
    return read(path, *arguments, **options)

fetch.read_regular = watched.read_regular = hang_later
sys.exit(main())
"""
"""A server whose files hang as soon as it has started."""


def test_a_mount_that_hangs_does_not_keep_the_server_from_ending(tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    (tmp_path / "token").write_text("t")
    rule = 'claims = { sub = "somebody" }\nscopes = ["sync"]\ndeployments = ["*"]'
    issuers = issuers_file(
        tmp_path / "issuers",
        "https://127.0.0.1:1",
        rule,
        kind="generic",
        keys=f'bearer_token_file = "{tmp_path}/token"',
    )
    flags = ("--tokens-file", str(tokens.path), "--issuers-file", issuers, "--data-dir", str(tmp_path / "data"))
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", HANGING, "--listen", "127.0.0.1:0", *flags], stderr=out)
    try:
        eventually("both files to be told", lambda: log.read_text().count("could not be read within 5 s") >= 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
