"""Airflow is asked for one file of each of its bundles that has files of ours, with the credentials of a file."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import HookFailed
from dagferry_sidecar.airflow_api import PAGE_DAGS, AirflowApi
from harness import free_port
from issuer import make_certificate

DEPLOY = DeployRef("log", 1, "v", "d")


def dag(name: str, bundle: str = "dags-folder", path: str | None = None) -> dict[str, object]:
    path = path or f"{name}.py"
    return {"dag_id": name, "bundle_name": bundle, "relative_fileloc": path, "file_token": f"{bundle}/{path}"}


class FakeAirflow:
    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.dags: list[dict[str, object]] = []
        self.statuses: dict[str, int] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0].removeprefix("http://airflow.invalid")
                fake.requests.append((self.command, self.path, self.headers["Authorization"]))
                answer: object = {}
                if path == "/base/auth/token":
                    good = json.loads(body) == {"username": "me", "password": "pass:word"}
                    answer, status = {"access_token": "fresh"}, 201 if good else 401
                elif path == "/base/api/v2/dags":
                    start = int(self.path.partition("offset=")[2].partition("&")[0])
                    answer, status = {"dags": fake.dags[start : start + PAGE_DAGS]}, 200
                else:
                    status = 201
                self.send_response(fake.statuses.get(self.command, status))
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        class Listener(HTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Who does not trust us hangs up."""

        self.http = Listener(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.http.server_address[1]}/base"

    def put(self) -> list[str]:
        return [path.removeprefix("/base/api/v2/parseDagFile/") for method, path, _ in self.requests if method == "PUT"]


@pytest.fixture
def airflow():
    fake = FakeAirflow()
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def api(airflow, tmp_path):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/here.py").touch()
    (tmp_path / "credentials").write_text("a-token\n")
    return AirflowApi(airflow.url, str(tmp_path / "credentials"), str(tmp_path / "dags"))


def test_one_file_of_each_bundle_that_has_our_files_is_asked_for(airflow, api) -> None:
    airflow.dags = [
        dag("gone"),
        dag("here"),
        dag("here2", path="here.py"),
        dag("x", "other", "x.py"),
        dag("y", "b", "here.py"),
    ]
    api.run(DEPLOY)
    assert airflow.put() == ["dags-folder%2Fhere.py", "b%2Fhere.py"]
    assert {authorization for _, _, authorization in airflow.requests} == {"Bearer a-token"}


def test_later_pages_are_looked_at(airflow, api) -> None:
    airflow.dags = [*(dag(f"gone{number}") for number in range(PAGE_DAGS)), dag("here")]
    api.run(DEPLOY)
    assert airflow.put() == ["dags-folder%2Fhere.py"]


def test_a_dags_folder_below_ours_is_found_by_the_ends_of_its_paths(airflow, api, tmp_path) -> None:
    """As after ``?root=.``, with ``dags_folder`` set to ``<root>/current/dags``."""
    (tmp_path / "dags/dags/team").mkdir(parents=True)
    (tmp_path / "dags/dags/team/deep.py").touch()
    airflow.dags = [
        dag("gone"),
        dag("x", "half", "eep.py"),
        dag("y", "more", "dags/dags/team/deep.py/"),
        dag("deep", path="team/deep.py"),
        dag("deep2", "b", "deep.py"),
    ]
    api.run(DEPLOY)
    assert airflow.put() == ["dags-folder%2Fteam%2Fdeep.py", "b%2Fdeep.py"]


def test_a_file_in_our_folder_comes_before_one_below(airflow, api, tmp_path) -> None:
    (tmp_path / "dags/lib").mkdir()
    (tmp_path / "dags/lib/below.py").touch()
    airflow.dags = [dag("below"), dag("here")]
    api.run(DEPLOY)
    assert airflow.put() == ["dags-folder%2Fhere.py"]


def test_where_nothing_is_asked_the_log_says_so(airflow, api, caplog) -> None:
    with caplog.at_level("INFO"):
        api.run(DEPLOY)
    assert "Airflow does not know any DAG of this folder" in caplog.text


def test_where_airflow_knows_none_of_our_files_nothing_is_asked(airflow, api) -> None:
    airflow.dags = [dag("gone"), {**dag("here"), "relative_fileloc": None}]
    api.run(DEPLOY)
    assert airflow.put() == []


def test_a_user_and_a_password_are_exchanged_for_a_token(airflow, api, tmp_path) -> None:
    (tmp_path / "credentials").write_text("me:pass:word\n")
    airflow.dags = [dag("here")]
    api.run(DEPLOY)
    assert airflow.requests[-1] == ("PUT", "/base/api/v2/parseDagFile/dags-folder%2Fhere.py", "Bearer fresh")


def test_a_request_that_waits_already_is_no_failure(airflow, api) -> None:
    airflow.dags = [dag("here")]
    airflow.statuses["PUT"] = 409
    api.run(DEPLOY)


def test_a_refusal_is_a_failure_that_shows_no_secret(airflow, api, tmp_path) -> None:
    (tmp_path / "credentials").write_text("me:wrong-secret")
    with pytest.raises(HookFailed, match="answered 401 to POST /auth/token") as caught:
        api.run(DEPLOY)
    assert "wrong-secret" not in str(caught.value)
    airflow.statuses["GET"] = 403
    (tmp_path / "credentials").write_text("a-token")
    with pytest.raises(HookFailed, match="answered 403 to GET /api/v2/dags"):
        api.run(DEPLOY)


def test_an_airflow_that_is_away_and_a_file_that_is_missing_are_failures(airflow, api, tmp_path) -> None:
    away = AirflowApi("http://127.0.0.1:9", str(tmp_path / "credentials"), "")
    with pytest.raises(HookFailed, match="does not answer"):
        away.run(DEPLOY)
    with pytest.raises(HookFailed, match="cannot be read"):
        AirflowApi(airflow.url, str(tmp_path / "none"), "").run(DEPLOY)


def test_an_airflow_behind_a_private_authority_is_asked_with_the_ca_file(api, tmp_path) -> None:
    certificate = make_certificate(tmp_path)
    airflow = FakeAirflow(certificate)
    airflow.dags = [dag("here")]
    arguments = (airflow.url, str(tmp_path / "credentials"), str(tmp_path / "dags"))
    try:
        with pytest.raises(HookFailed, match=r"The certificate of .* is not trusted: ") as caught:
            AirflowApi(*arguments).run(DEPLOY)
        assert "--ca-file" in caught.value.hint
        assert airflow.requests == []
        AirflowApi(*arguments, certificate[0]).run(DEPLOY)
        assert airflow.put() == ["dags-folder%2Fhere.py"]
    finally:
        airflow.http.shutdown()
        airflow.http.server_close()


def test_airflow_is_asked_through_the_environments_proxy(airflow, api, tmp_path, monkeypatch) -> None:
    airflow.dags = [dag("here")]
    # It takes the requests that a proxy would pass on: their path is a whole URL.
    monkeypatch.setenv("http_proxy", airflow.url.removesuffix("/base"))
    AirflowApi("http://airflow.invalid/base", str(tmp_path / "credentials"), str(tmp_path / "dags")).run(DEPLOY)
    assert [path.partition("?")[0] for _, path, _ in airflow.requests] == [
        "http://airflow.invalid/base/api/v2/dags",
        "http://airflow.invalid/base/api/v2/parseDagFile/dags-folder%2Fhere.py",
    ]


def test_a_proxy_that_is_down_is_named_and_not_airflow(api, tmp_path, monkeypatch) -> None:
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(HookFailed, match=f"The proxy 127.0.0.1:{port} cannot be reached") as caught:
        AirflowApi("http://airflow.invalid/base", str(tmp_path / "credentials"), "").run(DEPLOY)
    assert "no_proxy" in caught.value.hint
