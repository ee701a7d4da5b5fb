"""nginx from Debian in front of the server, configured as docs/how-to/proxies.md says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from credentials import TokensFile
from harness import Server, free_port, pack
from issuer import make_certificate
from login_service import login_service
from nginx import adapted, documented, nginx

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
PROXY_SECRET = "0123456789abcdef" * 4


class Front(Server):
    """The server as it is seen through nginx: another URL, the same calls."""

    def __init__(self, port: int, certificate: str) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.ca_file = certificate
        self.headers = {}


@contextmanager
def fronted(server: Server, folder: Path, title: str, *, login: int = 0) -> Iterator[Front]:
    """Run nginx with what is documented under ``title`` in front of ``server``."""
    certificate, key = make_certificate(folder)
    port = free_port()
    (folder / "secret.conf").write_text(f'proxy_set_header Dagferry-Proxy-Secret "{PROXY_SECRET}";')
    names = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/tls.crt": certificate,
        "/etc/nginx/tls.key": key,
        "http://127.0.0.1:8000": server.url,
    }
    if login:
        names["http://127.0.0.1:4180"] = f"http://127.0.0.1:{login}"
        names["/etc/nginx/dagferry-secret.conf"] = str(folder / "secret.conf")
    with nginx(folder / "nginx", adapted(documented(title), names)):
        yield Front(port, certificate)


def test_uploads_waits_and_downloads_go_through_nginx_with_tls(serve, follow, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("all", ["deploy", "sync"])
    server = serve("--tokens-file", str(tokens.path))
    with fronted(server, tmp_path, "nginx with TLS") as front:
        pod = follow(front.url, "pod", "--ca-file", front.ca_file, DAGFERRY_TOKEN=secret)
        assert front.request("/default/dags/upload", pack(A))[0] == 401
        front.headers = {"Authorization": secret}
        for number in range(3):
            files = {**A, "shop.py": b"rate = %d\n" % number, "large.bin": bytes(3_000_000)}
            assert pod.runs(front.deploy(files)["version"]).tree() == files
        status, body = front.request("/default/dags/upload", bytes(16 << 20))
        assert (status, json.loads(body)["code"]) == (413, "upload_too_large")
        assert front.get("/default/dags/deploys", Dagferry_Proxy_Secret=PROXY_SECRET)[0] == 200
        pod.stop()


def test_who_logged_in_elsewhere_is_let_in_by_name_through_auth_request(serve, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    tokens.users = [
        '{ name = "ann@example.com", scopes = ["deploy"], deployments = ["default"] },',
        '{ name = "*@example.com", scopes = ["read"], deployments = ["*"] },',
    ]
    secret = tokens.add("pods", ["sync"])
    (tmp_path / "proxy-secret").write_text(PROXY_SECRET + "\n")
    server = serve(
        *("--tokens-file", str(tokens.path), "--proxy-user-header", "X-Forwarded-User"),
        *("--proxy-secret-file", str(tmp_path / "proxy-secret")),
    )
    upload = "/default/dags/upload"
    forged = {"X_Forwarded_User": "ann@example.com", "Dagferry_Proxy_Secret": "0" * 64}
    with login_service() as login, fronted(server, tmp_path, "nginx with auth_request", login=login) as front:
        assert front.request(upload, pack(A))[0] == 401
        assert front.request(upload, pack(A), Authorization="mallory", **forged)[0] == 401
        assert front.request(upload, pack(A), Authorization="bob", **forged)[0] == 403
        assert front.request(upload, pack(A), Authorization="ann")[0] == 200
        [deploy] = json.loads(front.get("/default/dags/deploys", Authorization="bob")[1])["deploys"]
        assert deploy["actor"] == "proxy:ann@example.com"
        page = {"Authorization": "ann", "Origin": "https://evil.example"}
        assert front.request(upload, pack(A), **page)[0] == 403
    # Past nginx, a name without the secret is nobody, and sidecars come with their own token.
    for headers in ({}, {"X_Forwarded_User": "ann@example.com"}, forged):
        assert server.request(upload, pack(A), **headers)[0] == 401
    assert server.get("/default/dags/current", Authorization=secret)[0] == 200
