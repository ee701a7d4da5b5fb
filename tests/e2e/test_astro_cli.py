"""The ``astro`` CLI against a real server, through a proxy and over TLS: first its requests, then the real one."""

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astro_cli import AstroCli
from credentials import TokensFile
from harness import Server, free_port, pack
from issuer import make_certificate
from nginx import adapted, documented, nginx
from proxies import Front

DAG = "from airflow import DAG\n\ndag = DAG('shop')\n"
BROKEN = "from airflow import DAG\n\ndag = DAG('shop'\n"
DEPLOYMENT = "query GetDeployment($id: String!) { deployment(where: {id: $id}) { id urls { type url } } }"
DEPLOYMENTS = "query GetDeployment($workspaceId: Uuid!) { workspaceDeployments(workspaceUuid: $workspaceId) { id } }"


@pytest.fixture
def held(tmp_path: Path) -> tuple[str, str]:
    """The path of a tokens file, and the secret of a token that may deploy to ``prod`` and ``staging``."""
    tokens = TokensFile(tmp_path / "tokens.toml")
    return str(tokens.path), tokens.add("ci", ["deploy"], ["prod", "staging"])


@pytest.fixture
def server(serve: Callable[..., Server], held: tuple[str, str]) -> Server:
    return serve(
        *("--tokens-file", held[0], "--deployments", "prod,staging,secret", "--astro-cli", "/astro"),
        *("--airflow-python", "3.12"),
    )


def ask(server: Server, query: str, token: str, **variables: str) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    status, answer = server.request("/astro", body, Content_Type="application/json", Authorization=token)
    assert status == 200
    return json.loads(answer)["data"]


def form(files: dict[str, bytes]) -> tuple[bytes, str]:
    """The multipart body of an upload as the CLI sends it, and its content type."""
    sent = io.BytesIO()
    sent.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="/builds/project/dags.tar.gz"\r\n')
    sent.write(b"Content-Type: application/octet-stream\r\n\r\n" + pack(files) + b"\r\n")
    sent.write(b'--b\r\nContent-Disposition: form-data; name="description"\r\n\r\n<astro deploy --dags>\r\n--b--\r\n')
    return sent.getvalue(), "multipart/form-data; boundary=b"


def deploys_through(front: Server, token: str) -> None:
    """Do what ``astro deploy prod --dags`` does, at the URL that the server gives."""
    (upload,) = ask(front, DEPLOYMENT, token, id="prod")["deployment"]["urls"]
    assert upload == {"type": "dagserver", "url": f"{front.url}/prod/dags/upload"}
    body, kind = form({"shop.py": DAG.encode()})
    status, answer = front.request("/prod/dags/upload", body, Content_Type=kind, Authorization=token)
    assert status == 200, answer
    shown = ask(front, DEPLOYMENTS, token, workspaceId="dagferry")["workspaceDeployments"]
    assert {row["id"]: row["deployInfo"]["current"] for row in shown} == {
        "prod": json.loads(answer)["version"],
        "staging": "",
    }


def test_behind_a_proxy_with_a_path_of_its_own_the_upload_goes_through_the_proxy_too(serve, held, tmp_path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/dagferry"
    server = serve(
        *("--tokens-file", held[0], "--deployments", "prod,staging,secret", "--astro-cli", "/astro"),
        *("--public-url", url),
    )
    names = {"listen 8080": f"listen 127.0.0.1:{port}", "http://127.0.0.1:8000": server.url}
    with nginx(tmp_path / "nginx", adapted(documented("nginx below a path"), names)):
        front = Front(port)
        front.url = url
        deploys_through(front, held[1])


def test_over_tls_the_url_of_the_upload_is_https(serve, held, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = serve(
        *("--tokens-file", held[0], "--deployments", "prod,staging,secret", "--astro-cli", "/astro"),
        *("--tls-cert", certificate, "--tls-key", key),
    )
    assert server.url.startswith("https://")
    deploys_through(server, held[1])


# --- the real one, where ASTRO_CLI names it ---------------------------------------------------------------------------


def test_login_lists_deploy_refused_deploy_unchanged_and_image_deploy(server, held, tmp_path) -> None:
    astro = AstroCli(tmp_path)
    astro.point_to(f"{server.url}/astro")
    login = astro("login", "houston", typed=held[1] + "\n")
    assert login.code == 0, login.text
    assert f"{server.url}/astro/token" in login.text
    assert '"Dagferry" Workspace found' in login.text

    assert "dagferry" in astro("workspace", "list").text
    for arguments in ((), ("--all",)):
        listed = astro("deployment", "list", *arguments)
        assert listed.code == 0
        assert "prod" in listed.text
        assert "staging" in listed.text
        assert "secret" not in listed.text

    astro.write({"shop.py": DAG})
    for _ in range(2):  # the second one is unchanged, which it does not say
        done = astro("deploy", "prod", "--dags", "-f")
        assert (done.code, "upload successful" in done.text) == (0, True), done.text
    (entry,) = json.loads(server.get("/prod/dags/deploys", Authorization=held[1])[1])["deploys"]
    assert (entry["actor"], entry["description"]) == ("token:ci", "Deployed via <astro deploy --dags>")
    assert entry["version"] in astro("deployment", "list").text

    astro.write({"shop.py": BROKEN})
    refused = astro("deploy", "prod", "--dags", "-f")
    assert refused.code == 1
    (line,) = [line for line in refused.text.splitlines() if line.startswith("Error: ")]
    head, _, body = line.partition(" and Message: ")
    assert head == "Error: file upload failed. Status code: 422"
    shown = json.loads(body)
    assert list(shown) == sorted(shown)
    assert "shop.py" in shown["message"]

    image = astro("deploy", "prod", "-f")
    assert image.code == 1
    assert (
        "Error: Dagferry deploys DAGs and no images, so nothing was deployed: type astro deploy --dags.\n" in image.text
    )
    assert "Building image" not in image.text
    update = astro("deployment", "update", "prod", "--dag-deployment-type", "dag_deploy")
    assert (update.code, "type astro deploy --dags" in update.text) == (1, True), update.text
    assert server.get("/prod/dags/deploys", Authorization=held[1])[1].count(b'"sequence"') == 1


def test_a_deployment_can_be_chosen_from_a_menu(server, held, tmp_path) -> None:
    astro = AstroCli(tmp_path)
    astro.is_configured_for(f"{server.url}/astro", held[1])
    astro.write({"shop.py": DAG})
    done = astro("deploy", "--dags", "-f", typed="2\n")
    assert (done.code, "upload successful" in done.text) == (0, True), done.text
    assert b'"sequence":1' in server.get("/staging/dags/deploys", Authorization=held[1])[1]


def test_what_the_docs_have_ci_run_needs_no_login(server, held, tmp_path) -> None:
    astro = AstroCli(tmp_path)
    astro.write({"shop.py": DAG})
    done = astro.job(f"{server.url}/astro", held[1])
    assert (done.code, "upload successful" in done.text) == (0, True), done.text
    assert b'"sequence":1' in server.get("/prod/dags/deploys", Authorization=held[1])[1]


def test_a_token_that_is_no_good_is_refused_at_login_and_at_a_deploy(server, tmp_path) -> None:
    astro = AstroCli(tmp_path)
    astro.point_to(f"{server.url}/astro")
    expected = "Error: This server does not know this token. Type astro login houston"
    login = astro("login", "houston", typed="dgf_no_good\n")
    assert (login.code, expected in login.text) == (1, True), login.text
    astro.is_configured_for(f"{server.url}/astro", "dgf_no_good")
    astro.write({"shop.py": DAG})
    for arguments in (("deploy", "prod", "--dags", "-f"), ("workspace", "list"), ("deployment", "list")):
        done = astro(*arguments)
        assert (done.code, expected in done.text) == (1, True), done.text


@pytest.mark.parametrize("name", ["secret", "nope"])
def test_a_deployment_that_the_token_does_not_cover_is_like_one_that_does_not_exist(
    server, held, tmp_path, name
) -> None:
    astro = AstroCli(tmp_path)
    astro.is_configured_for(f"{server.url}/astro", held[1])
    astro.write({"shop.py": DAG})
    done = astro("deploy", name, "--dags", "-f")
    assert (done.code, done.text) == (1, "Error: please specify a valid deployment ID\n")


def test_over_tls_and_through_a_proxy_it_needs_no_more_than_the_authority(serve, held, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    server = serve(
        *("--tokens-file", held[0], "--deployments", "prod,staging,secret", "--astro-cli", "/astro"),
        *("--public-url", url),
    )
    names = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/tls.crt": certificate,
        "/etc/nginx/tls.key": key,
        "http://127.0.0.1:8000": server.url,
    }
    with nginx(tmp_path / "nginx", adapted(documented("nginx with TLS"), names)):
        astro = AstroCli(tmp_path, SSL_CERT_FILE=certificate)
        astro.is_configured_for(f"{url}/astro", held[1])
        astro.write({"shop.py": DAG})
        done = astro("deploy", "prod", "--dags", "-f")
    assert (done.code, "upload successful" in done.text) == (0, True), done.text
    assert b'"sequence":1' in server.get("/prod/dags/deploys", Authorization=held[1])[1]


def test_it_sends_nothing_from_a_dirty_tree_and_ends_with_0_unless_forced(server, held, tmp_path) -> None:
    """Not our doing, but the reason why the how-to says ``-f``."""
    astro = AstroCli(tmp_path)
    astro.is_configured_for(f"{server.url}/astro", held[1])
    git = ["git", "-C", str(astro.project), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    astro.write({"shop.py": DAG})
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    astro.write({"shop.py": DAG + "# more\n"})
    done = astro("deploy", "prod", "--dags")
    assert (done.code, "uncommmited changes" in done.text) == (0, True), done.text
    assert b'"sequence"' not in server.get("/prod/dags/deploys", Authorization=held[1])[1]
