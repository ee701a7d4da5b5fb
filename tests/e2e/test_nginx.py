"""nginx from Debian in front of the server, configured as docs/how-to/proxies.md says."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

from credentials import TokensFile
from harness import PATIENCE_SECONDS, Server, free_port, pack
from issuer import make_certificate
from login_service import login_service
from nginx import adapted, documented, nginx
from plain_browser import PlainBrowser

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
PROXY_SECRET = "0123456789abcdef" * 4
OLD, NEW = {"etl.py": b"rate = 1\n"}, {"etl.py": b"rate = 2\n"}
ONE = "/-/ui/deployments/default"


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


def undo(browser: PlainBrowser, home: str) -> None:
    """From the address of the server: see what is live, what changed, and undo it."""
    first = browser.open(home)
    assert (first.status, first.url) == (200, home + "-/ui/")
    page = browser.open(first.link("default"))
    assert "rate = 2" in browser.open(page.link("What changed")).words
    confirm = browser.open(page.link("Undo: back to #1"))
    done = browser.send(confirm, "/rollback", description="Undone on the page")
    assert (done.status, done.url) == (200, home + ONE[1:])
    assert "Undone on the page" in done.text


def test_who_logged_in_elsewhere_sees_and_undoes_and_the_page_stays_current(serve, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    tokens.users = [
        '{ name = "ann@example.com", scopes = ["deploy"], deployments = ["default"] },',
        '{ name = "*@example.com", scopes = ["read"], deployments = ["*"] },',
    ]
    secret = tokens.add("ci", ["deploy"])
    (tmp_path / "proxy-secret").write_text(PROXY_SECRET + "\n")
    server = serve(
        *("--tokens-file", str(tokens.path), "--proxy-user-header", "X-Forwarded-User"),
        *("--proxy-secret-file", str(tmp_path / "proxy-secret")),
    )
    server.headers = {"Authorization": f"Bearer {secret}"}
    server.deploy(OLD)
    server.deploy(NEW)
    with login_service() as login, fronted(server, tmp_path, "nginx with auth_request", login=login) as front:
        ann, bob = (PlainBrowser(front.ca_file, Authorization=name) for name in ("ann", "bob"))
        for path in ("/", ONE + "?x=1"):
            login_page = PlainBrowser(front.ca_file).open(front.url + path)
            assert (login_page.status, login_page.text) == (200, "Sign in")
            assert login_page.url == f"{front.url}/oauth2/start?rd={path}"
        assert PlainBrowser(front.ca_file).open(front.url + "/default/dags/current").status == 401
        seen = bob.open(front.url + ONE)
        assert (seen.status, "Undo: back" in seen.text, "Sign out" in seen.text) == (200, False, False)
        # The live part waits at the server, past what nginx asks the login service.
        tag = seen.text.partition('data-tag="')[2].partition('"')[0]
        context = ssl.create_default_context(cafile=front.ca_file)
        waiting = HTTPSConnection(front.url.removeprefix("https://"), timeout=PATIENCE_SECONDS, context=context)
        headers = {"Authorization": "bob", "If-None-Match": f'"{tag}"', "Prefer": "wait=45"}
        waiting.request("GET", "/-/ui/live/default", headers=headers)
        undo(ann, front.url + "/")
        answer = waiting.getresponse()
        assert (answer.status, b"#3" in answer.read()) == (200, True)
        waiting.close()
        [newest, *_] = json.loads(front.get("/default/dags/deploys", Authorization="bob")[1])["deploys"]
        assert (newest["kind"], newest["actor"]) == ("rollback", "proxy:ann@example.com")
        # A form of bob's page is none of ann's, and another site can send none.
        confirm = ann.open(front.url + f"{ONE}/rollback?to=2")
        address, fields = confirm.form("/rollback")
        assert bob.open(address, fields).status == 403
        assert front.request(f"{ONE}/rollback", b"", Authorization="ann", Sec_Fetch_Site="cross-site")[0] == 403


def test_below_a_path_links_forms_redirects_and_the_session_stay_there(serve, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ann", ["deploy"])
    server, port = serve("--tokens-file", str(tokens.path)), free_port()
    server.headers = {"Authorization": f"Bearer {secret}"}
    server.deploy(OLD)
    server.deploy(NEW)
    names = {"listen 8080": f"listen 127.0.0.1:{port}", "http://127.0.0.1:8000": server.url}
    with nginx(tmp_path / "nginx", adapted(documented("nginx below a path"), names)):
        home = f"http://127.0.0.1:{port}/dagferry/"
        browser = PlainBrowser()
        asked = browser.open(home + ONE[1:])
        assert asked.status == 401
        signed_in = browser.send(asked, "sign-in", token=secret)
        assert (signed_in.status, signed_in.url) == (200, home + ONE[1:])
        undo(browser, home)
        out = browser.send(browser.open(home), "sign-out")
        assert (out.url, list(browser.cookies)) == (home + "-/ui/sign-in", [])


def test_with_tls_at_nginx_the_session_is_for_https_alone(serve, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ann", ["deploy"])
    server = serve("--tokens-file", str(tokens.path))
    server.headers = {"Authorization": f"Bearer {secret}"}
    server.deploy(OLD)
    server.deploy(NEW)
    with fronted(server, tmp_path, "nginx with TLS") as front:
        # By a name that is not of this machine, as everybody has it.
        browser = PlainBrowser(front.ca_file, Host="dags.example.com")
        page = browser.open(front.url + "/-/ui/sign-in")
        address, fields = page.form("sign-in")
        signed_in = browser.open(address, {**fields, "token": secret})
        assert signed_in.status == 200, signed_in.text
        [cookie] = browser.cookies
        assert (cookie.name, cookie.secure, cookie.path) == ("__Host-dagferry", True, "/")
        undo(browser, front.url + "/")
