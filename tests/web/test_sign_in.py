"""People sign in with a token and out again; a session that has ended says so, and so do other tabs."""

import pytest

from credentials import TokensFile
from harness import Server, eventually, pack

DAGS = {"etl.py": b"from airflow import DAG\n"}
PAGE = "/-/ui/deployments/prod"


@pytest.fixture
def tokens(tmp_path) -> TokensFile:
    return TokensFile(tmp_path / "tokens.toml")


@pytest.fixture
def server(serve, tokens) -> Server:
    secret = tokens.add("ci", ["deploy"])
    server = serve("--deployments", "prod", "--tokens-file", str(tokens.path))
    for files in (DAGS, {**DAGS, "new.py": b"x = 1\n"}):
        server.request("/prod/dags/upload", pack(files), Authorization=f"Bearer {secret}")
    return server


def add(server: Server, tokens: TokensFile, name: str, *scopes) -> str:
    """A token that the server knows."""
    secret = tokens.add(name, scopes)

    def known() -> bool:
        return server.get("/-/whoami", Authorization=f"Bearer {secret}")[0] == 200

    eventually("the token to count", known)
    return secret


def test_a_link_leads_through_the_sign_in_to_its_page(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "read")
    person = visit(server.url)
    page = person.tab(f"{PAGE}/deploys?before=3")
    assert page.title().startswith("Sign in")
    assert page.evaluate("document.activeElement.id") == "token"
    person.sign_in(page, "dgf_wrong")
    assert "does not know this token" in page.locator("[role=alert]").inner_text()
    person.sign_in(page, secret)
    assert page.url == f"{server.url}{PAGE}/deploys?before=3"
    assert page.locator(".actor").inner_text() == "token:ann"


def test_the_cookie_cannot_be_read_by_scripts_and_signing_out_removes_it(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "read")
    person = visit(server.url)
    page = person.tab()
    person.sign_in(page, secret)
    [cookie] = person.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["name"]) == (True, "Lax", f"dagferry-{server.port}")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    assert person.context.cookies() == []
    page.goto(server.url + PAGE)
    assert page.get_by_role("heading", name="Sign in").is_visible()


def test_a_revoked_token_ends_the_session_on_open_pages_too(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "deploy")
    person = visit(server.url)
    page = person.tab(PAGE)
    person.sign_in(page, secret)
    form = person.tab(f"{PAGE}/rollback?to=1")
    tokens.entries.pop()
    add(server, tokens, "bob", "read")
    form.get_by_role("button", name="Roll back to #1").click()
    assert "Your session has ended" in form.locator("[role=status]").inner_text()
    page.reload()
    assert "Your session has ended" in page.locator("[role=status]").inner_text()


def test_a_page_that_is_open_when_its_session_ends_says_so(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "read")
    deployer = add(server, tokens, "ci2", "deploy")
    person = visit(server.url)
    page = person.tab(PAGE)
    person.sign_in(page, secret)
    person.context.clear_cookies()
    server.request("/prod/dags/upload", pack({"z.py": b"1"}), Authorization=f"Bearer {deployer}")
    page.locator("#connection", has_text="You are signed out").wait_for()


def test_signing_out_in_one_tab_counts_in_the_other(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "deploy")
    person = visit(server.url)
    one = person.tab(f"{PAGE}/rollback?to=1")
    person.sign_in(one, secret)
    other = person.tab(PAGE)
    other.get_by_role("button", name="Sign out").click()
    other.get_by_role("heading", name="Sign in").wait_for()
    one.get_by_role("button", name="Roll back to #1").click()
    assert one.get_by_role("heading", name="Sign in").is_visible()
    assert server.get("/prod/dags/current", Authorization=f"Bearer {secret}")[0] == 403  # it may not sync
    assert b'"sequence":3' not in server.get("/prod/dags/deploys", Authorization=f"Bearer {secret}")[1]


def test_a_form_of_one_user_is_not_sent_by_another_one_in_the_same_browser(server, tokens, visit) -> None:
    ann, bob = add(server, tokens, "ann", "deploy"), add(server, tokens, "bob", "deploy")
    person = visit(server.url)
    one = person.tab(f"{PAGE}/rollback?to=1")
    person.sign_in(one, ann)
    other = person.tab(PAGE)
    other.get_by_role("button", name="Sign out").click()
    person.sign_in(other, bob)
    one.get_by_role("button", name="Roll back to #1").click()
    assert "made for another session" in one.locator("[role=alert]").inner_text()


def test_a_form_on_another_site_changes_nothing(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "deploy", "admin")
    person = visit(server.url)
    page = person.tab(PAGE)
    person.sign_in(page, secret)
    word = page.locator("input[name=word]").first.get_attribute("value")
    evil = person.context.new_page()
    # It even knows the right word.
    evil.set_content(
        f'<form method=post action="{server.url}{PAGE}/freeze"><input name=word value="{word}">'
        "<input name=reason value=evil><button>Go</button></form>"
    )
    evil.get_by_role("button").click()
    evil.wait_for_url(f"**{PAGE}/freeze")
    assert evil.get_by_role("heading", name="Sign in").is_visible(), "the browser sent no cookie"
    page.reload()
    assert "evil" not in page.locator("main").inner_text()


def test_who_may_only_read_finds_no_button(server, tokens, visit) -> None:
    secret = add(server, tokens, "ann", "read")
    person = visit(server.url)
    page = person.tab(PAGE)
    person.sign_in(page, secret)
    assert page.get_by_text("Undo").count() == 0
    page.goto(f"{server.url}{PAGE}/rollback?to=1")
    assert "requires the scope 'deploy'" in page.locator("[role=alert]").inner_text()
