"""``dagferry doctor`` names what is wrong between this machine and a deployment, and how to mend it."""

import io
import json
import os
import socket
import threading
import time
from email.utils import formatdate

import pytest

from authorities import make_plain_authority
from dagferry_client.airflow_doctor import NAMES as VALUES_NAMES
from dagferry_client.doctor import NAMES
from deployfiles import AIRFLOW
from harness import free_port
from recorded_answers import LISTED
from scripted_server import ScriptedServer

ALIVE = {"status": "ok"}
ME = {
    "actor": "token:ci",
    "expires": 4102444800,
    "deployments": [{"name": "prod", "scopes": ["deploy", "read"], "prefixes": []}],
}


def answers(server, me=ME, listed=(LISTED,), alive=ALIVE) -> None:
    """Have ``server`` answer each question of the doctor."""
    server.answer("GET /healthz", alive)
    server.answer("GET /-/whoami", me)
    server.answer("GET /-/deployments", {"deployments": list(listed)})


def checks(done) -> dict[str, tuple[str, str]]:
    """State and text of each check, by its name: a line each, in their order."""
    found = {}
    for line in done.out.splitlines():
        state, name, *words = line.split()
        found[name] = (state, " ".join(words))
    assert tuple(found) == NAMES
    assert len(found) == len(done.out.splitlines())
    return found


def failed(done, name: str) -> str:
    """The text of ``name``, which alone failed; what comes after it was skipped, or is known to be fine."""
    found = checks(done)
    assert [each for each, (state, _) in found.items() if state == "failed"] == [name]
    after = NAMES[NAMES.index(name) + 1 :]
    assert {found[each][0] for each in after} <= {"skipped"}
    assert done.code != 0
    return found[name][1]


def test_what_is_fine_is_said_one_line_each(at, server) -> None:
    answers(server)
    done = at("doctor", DAGFERRY_TOKEN="dgf_secret")
    found = checks(done)
    assert (done.code, done.err) == (0, "")
    assert {name: state for name, (state, _) in found.items()} == {**dict.fromkeys(NAMES, "ok"), "tls": "skipped"}
    assert found["settings"][1] == f"{server.url} (by DAGFERRY_SERVER), deployment prod."
    assert found["dns"][1] == "127.0.0.1 is 127.0.0.1."
    assert found["server"][1].startswith("It is dagferry/9.8.7; this command is dagferry/")
    assert found["token"][1].startswith("You are token:ci, by the token of DAGFERRY_TOKEN. It expires in ")
    assert found["scopes"][1] == "prod: deploy read."
    assert found["limits"][1] == "prod: uploads up to 15.0 MiB."
    assert "dgf_secret" not in done.out


def test_the_token_is_sent_to_no_stranger(at, server) -> None:
    server.answer("GET /healthz", b"<html>Sign in</html>", Content_Type="text/html")
    done = at("doctor", DAGFERRY_TOKEN="dgf_secret")
    assert "It may be a login page." in failed(done, "server")
    assert [request.headers.get("Authorization") for request in server.requests] == [None]
    assert checks(done)["connection"][0] == "ok"
    assert done.code == 5


def test_json_has_the_same_checks(at, server) -> None:
    answers(server)
    report = at("doctor", "--json").json
    assert (report["ok"], report["server"], report["deployment"]) == (True, server.url, "prod")
    assert [check["name"] for check in report["checks"]] == list(NAMES)
    server.answer("GET /healthz", b"", 302, Location="https://login.example.com")
    done = at("doctor", "--json")
    assert (done.json["ok"], done.code, done.err) == (False, 5, "")
    [check] = [one for one in done.json["checks"] if one["state"] == "failed"]
    assert "redirects to https://login.example.com" in check["message"]
    assert check["hint"]


# --- what fails -------------------------------------------------------------------------------------------------------


def test_no_server_at_all(dagferry) -> None:
    done = dagferry("doctor")
    assert "DAGFERRY_SERVER" in failed(done, "settings")
    assert done.code == 2
    assert json.loads(dagferry("doctor", "--json").out)["server"] == ""


def test_a_url_that_is_none(dagferry) -> None:
    done = dagferry("doctor", "--server", "dags.example.com")
    assert "a URL such as http://dagferry-server:8000 is expected" in failed(done, "settings")


def test_a_token_over_plain_http(dagferry) -> None:
    done = dagferry("doctor", "--server", "http://dags.example.com", DAGFERRY_TOKEN="t")
    assert "--allow-plain-http" in failed(done, "settings")


def test_a_host_that_nobody_knows(dagferry) -> None:
    done = dagferry("doctor", "--server", "https://dags.invalid")
    assert "Check the name in the server's URL" in failed(done, "dns")
    assert done.code == 5


def test_a_port_on_which_nobody_listens(dagferry) -> None:
    done = dagferry("doctor", "--server", f"http://127.0.0.1:{free_port()}")
    assert "refuses connections" in failed(done, "connection")
    assert done.code == 5


@pytest.fixture
def secure(clean_environment, tmp_path):
    """A server with TLS, and the CA that signed its certificate, which is valid for a day."""
    ca_file, _ = make_plain_authority(tmp_path)
    server = ScriptedServer(tmp_path / "cluster.pem")
    yield server, ca_file
    server.stop()


def test_a_certificate_that_is_not_trusted(dagferry, secure) -> None:
    server, _ = secure
    text = failed(dagferry("doctor", "--server", server.url), "tls")
    assert "is not trusted" in text
    assert "--ca-file" in text


def test_a_ca_file_that_cannot_be_used(dagferry, secure) -> None:
    server, _ = secure
    done = dagferry("doctor", "--server", server.url, "--ca-file", "absent.pem")
    assert "absent.pem cannot be used" in failed(done, "tls")
    assert done.code == 2


def test_a_certificate_that_expires_soon_is_a_warning(at, secure) -> None:
    server, ca_file = secure
    answers(server)
    done = at("doctor", "--ca-file", ca_file, DAGFERRY_SERVER=server.url)
    state, text = checks(done)["tls"]
    assert (state, done.code) == ("warning", 0)
    assert text.startswith(f"The certificate is trusted by {ca_file}, and expires in 2")
    assert text.endswith("Renew the server's certificate.")


def test_https_where_http_is_spoken(dagferry, server) -> None:
    done = dagferry("doctor", "--server", server.url.replace("http:", "https:"))
    text = failed(done, "tls")
    assert "Write http:// in the server's URL" in text
    assert "_ssl.c" not in text
    assert [checks(done)[name][0] for name in ("dns", "proxy", "connection")] == ["ok", "ok", "ok"]


def test_http_where_https_is_spoken(dagferry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def alert() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46\n")

        thread = threading.Thread(target=alert)
        thread.start()
        done = dagferry("doctor", "--server", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert "Write https:// in the server's URL" in failed(done, "tls")


def test_a_proxy_that_refuses(dagferry, server) -> None:
    proxy = server.url.removeprefix("http://")
    server.act("CONNECT dags.example.com:443", lambda handler: handler.send_error(407))
    done = dagferry("doctor", "--server", "https://dags.example.com", https_proxy=f"http://{proxy}")
    text = failed(done, "proxy")
    assert text.startswith(f"The proxy {proxy} did not connect to https://dags.example.com")
    assert "USER:PASSWORD" in text
    assert checks(done)["dns"] == ("skipped", "The proxy finds the host.")


def test_a_proxy_that_is_no_address(dagferry) -> None:
    done = dagferry("doctor", "--server", "https://dags.example.com", https_proxy="http://x:y")
    assert "not an http:// address" in failed(done, "proxy")


def test_a_server_without_the_endpoint_is_too_old(at, server) -> None:
    server.answer("GET /healthz", ALIVE)
    server.answer("GET /-/whoami", {"code": "route_not_found", "message": "No.", "hint": "See."}, 404)
    done = at("doctor")
    assert "Upgrade the server" in failed(done, "server")
    assert done.code == 5


def test_another_web_server_is_no_dagferry_server(at, server) -> None:
    server.answer("GET /healthz", b"fine", Content_Type="text/plain")
    done = at("doctor", DAGFERRY_TOKEN="dgf_secret")
    assert "not as Dagferry does. Check the server's URL" in failed(done, "server")
    assert [request.headers.get("Authorization") for request in server.requests] == [None]


def test_an_expired_token(at, server) -> None:
    server.answer("GET /healthz", ALIVE)
    server.answer("GET /-/whoami", {"code": "unauthorized", "message": "The token expired.", "hint": "Ask."}, 401)
    done = at("doctor", DAGFERRY_TOKEN="t")
    assert failed(done, "token") == "The token expired. The token came from DAGFERRY_TOKEN. Ask."
    assert checks(done)["clock"][0] == "ok"
    assert done.code == 4


def test_no_token_where_one_is_needed(at, server) -> None:
    server.answer("GET /healthz", ALIVE)
    server.answer("GET /-/whoami", {"code": "unauthorized", "message": "Who are you?", "hint": "Ask."}, 401)
    assert "Give a token: in the variable DAGFERRY_TOKEN" in failed(at("doctor"), "token")


def test_a_token_file_that_cannot_be_read(at, server) -> None:
    server.answer("GET /healthz", ALIVE)
    done = at("doctor", "--token-file", "absent")
    assert "The token file absent cannot be read" in failed(done, "token")
    assert done.code == 6


def test_a_deployment_that_the_token_may_not_see(at, server) -> None:
    server.answer("GET /healthz", ALIVE)
    server.answer("GET /-/whoami", ME)
    text = failed(at("doctor", DAGFERRY_DEPLOYMENT="prdo"), "scopes")
    assert text.startswith("You have no scope on prdo, if it exists. Did you mean prod?")


def test_a_token_without_any_deployment(at, server) -> None:
    server.answer("GET /healthz", ALIVE)
    server.answer("GET /-/whoami", {**ME, "deployments": []})
    done = at("doctor", DAGFERRY_DEPLOYMENT=None)
    assert "You may not see any deployment." in failed(done, "scopes")
    assert done.code == 4


# --- what deserves attention ------------------------------------------------------------------------------------------


def test_a_token_that_may_only_read_is_a_warning(at, server) -> None:
    reader = {**ME, "deployments": [{"name": "prod", "scopes": ["read"], "prefixes": ["a/"]}]}
    answers(server, reader)
    done = at("doctor")
    assert checks(done)["scopes"] == (
        "warning",
        "prod: read, uploads only below a/. You may not deploy. Ask for a token with scope deploy.",
    )
    assert done.code == 0


@pytest.mark.parametrize(("actor", "state"), [("token:ci", "warning"), ("github:repo:a/b", "ok")])
def test_a_token_of_the_tokens_file_that_expires_soon_is_a_warning(at, server, actor, state) -> None:
    answers(server, {**ME, "actor": actor, "expires": time.time() + 86400})
    found = checks(at("doctor", DAGFERRY_TOKEN="t"))["token"]
    assert found[0] == state
    assert ("Ask the server's operators for a new token." in found[1]) is (state == "warning")


@pytest.mark.parametrize(("seconds", "said"), [(3600, "behind"), (-3600, "ahead of")])
def test_a_clock_that_is_wrong_is_a_warning(at, server, seconds, said) -> None:
    server.answer("GET /healthz", ALIVE)
    server.act("GET /-/whoami", lambda handler: dated(handler, formatdate(time.time() + seconds, usegmt=True)))
    server.answer("GET /-/deployments", {"deployments": [LISTED]})
    done = at("doctor")
    state, text = checks(done)["clock"]
    assert (state, done.code) == ("warning", 0)
    assert f" s {said} the server's." in text
    assert 3590 < int(text.split()[4]) <= 3601


def dated(handler, date: str) -> None:
    """Answer who asks, with ``date`` in the header."""
    body = json.dumps(ME).encode()
    handler.send_response_only(200)
    handler.send_header("Date", date)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 32 Foo 99999999 00:00:00 GMT"])
def test_a_server_that_does_not_say_the_time(at, server, date) -> None:
    server.answer("GET /healthz", ALIVE)
    server.act("GET /-/whoami", lambda handler: dated(handler, date))
    server.answer("GET /-/deployments", {"deployments": [LISTED]})
    assert checks(at("doctor"))["clock"][0] == "skipped"


def test_a_deployment_that_is_closed_is_a_warning(at, server) -> None:
    frozen = {"reason": "audit", "until": None, "actor": "ann"}
    answers(server, listed=[{**LISTED, "frozen": frozen}, {**LISTED, "name": "other"}])
    state, text = checks(at("doctor"))["limits"]
    assert state == "warning"
    assert text.startswith("prod: uploads up to 15.0 MiB. prod is closed. Frozen by ann: audit Deploys are refused ")


def test_plain_http_to_another_machine_is_a_warning(dagferry, server, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_client.doctor.is_loopback", lambda _: False)
    answers(server)
    state, text = checks(dagferry("doctor", "--server", server.url))["settings"]
    assert state == "warning"
    assert "It is plain HTTP. Use https" in text


def test_without_a_deployment_all_of_them_are_shown(at, server) -> None:
    more = {"name": "lab", "scopes": ["read"], "prefixes": []}
    answers(server, {**ME, "deployments": [more, *ME["deployments"]]}, [{**LISTED, "name": "lab"}, LISTED])
    found = checks(at("doctor", DAGFERRY_DEPLOYMENT=None))
    assert found["scopes"][1] == "lab: read; prod: deploy read."
    assert found["limits"][1] == "lab: uploads up to 15.0 MiB; prod: uploads up to 15.0 MiB."


def test_a_token_file_that_others_may_read_is_said(at, server, project) -> None:
    (project / "token").write_text("dgf_secret")
    os.chmod(project / "token", 0o644)
    answers(server)
    done = at("doctor", "--token-file", "token")
    assert "chmod 600 token" in done.err
    assert done.code == 0


# --- values for Airflow's chart ---------------------------------------------------------------------------------------


def test_values_are_checked_without_any_server(dagferry, project) -> None:
    (project / "mine.yaml").write_text("executor: KubernetesExecutor\n")
    files = ("--values", str(AIRFLOW / "sidecar.yaml"), "--values", "mine.yaml")
    done = dagferry("doctor", *files, "--chart-version", "1.22.0")
    assert (done.code, done.err) == (0, "")
    found = {name: state for state, name, *_ in map(str.split, done.out.splitlines())}
    assert tuple(found) == VALUES_NAMES
    assert found["task-pods"] == "ok"


def test_a_chart_that_fails_silently_is_named_and_decides_the_exit_code(dagferry, project) -> None:
    (project / "mine.yaml").write_text("executor: KubernetesExecutor\n")
    files = ("--values", str(AIRFLOW / "sidecar.yaml"), "--values", "mine.yaml")
    done = dagferry("doctor", *files, "--chart-version=1.19.0", "--json")
    [failing] = [check for check in done.json["checks"] if check["state"] == "failed"]
    assert (failing["name"], done.json["ok"], done.code) == ("task-pods", False, 3)
    assert "This chart does not use workers.kubernetes.extraInitContainers" in failing["message"]


def test_values_are_read_from_stdin_too(dagferry, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("executor: LocalExecutor\n"))
    done = dagferry("doctor", "--values", "-")
    assert done.code == 3
    assert "neither a sidecar nor the DAG bundle" in done.out


def test_a_values_file_that_is_none_is_an_error_of_usage(dagferry) -> None:
    done = dagferry("doctor", "--values", "absent.yaml")
    assert (done.code, done.out) == (2, "")
    assert "absent.yaml cannot be read" in done.err


@pytest.mark.parametrize("version", ["new", "airflow-1.22.0"])
def test_a_chart_version_that_is_none_is_an_error_of_usage(dagferry, version) -> None:
    done = dagferry("doctor", "--values", "absent.yaml", "--chart-version", version)
    assert done.code == 2
    assert f"--chart-version={version}" in done.err


def test_a_chart_version_alone_checks_nothing(dagferry) -> None:
    done = dagferry("doctor", "--chart-version", "1.22.0")
    assert done.code == 2
    assert "--values FILE" in done.err
