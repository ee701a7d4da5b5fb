"""What a person does who has never seen the product: what is live, who changed what, which pod is behind; undo it."""

import json
import re
from typing import Any

import pytest

from harness import Server, Sidecar, eventually
from reporting import error, parsed, report

DAGS = {
    "etl.py": b"from airflow import DAG\nimport shop\n\nwith DAG('etl'):\n    pass\n",
    "shop.py": b"# The shop's rates.\nrate = 1\n",
    "sql/orders.sql": b"select * from orders\n",
}
MINUS = "\N{MINUS SIGN}"
BETTER = {**DAGS, "shop.py": b"# The shop's rates.\nrate = 2\n", "docs.md": b"# Notes\n"}


@pytest.fixture
def server(serve) -> Server:
    return serve("--deployments", "prod")


def deploy(server: Server, files: dict[str, bytes], description: str) -> str:
    return str(server.deploy(files, "prod", f"?description={description}")["version"])


def pods(server: Server, tmp_path, started, *names: str) -> list[Sidecar]:
    found = [
        Sidecar(server.url, tmp_path / name, "--deployment", "prod", "--component", name.partition("-")[0])
        for name in names
    ]
    started += found
    return found


def current(page: Any) -> str:
    return page.locator("#current h2").inner_text()


def test_the_tour_of_a_user(server, visit, tmp_path, started) -> None:
    first = deploy(server, DAGS, "First")
    sidecars = pods(server, tmp_path, started, "scheduler-0", "worker-0")
    for sidecar in sidecars:
        sidecar.runs(first)
    page = visit(server.url).tab("/")
    page.get_by_role("link", name="prod").click()
    page.locator("#state .healthy").wait_for()
    assert current(page) == "Current deploy: #1"

    # A deploy shows up and converges, without a reload.
    page.evaluate("window.stayed = true")
    deploy(server, BETTER, "Raise")
    page.locator("#current h2", has_text="#2").wait_for()
    page.locator("#reason", has_text="All 2 pods have").wait_for()
    assert page.locator("#announce").text_content() == page.locator("#reason").text_content(), "screen readers say it"
    assert page.locator("#fleet td[data-name='Live version']").all_inner_texts() == ["#2", "#2"]
    assert page.evaluate("window.stayed") is True

    # What changed.
    page.get_by_role("link", name="What changed").click()
    assert page.locator("h1").inner_text() == "Deploy #2 current"
    assert page.locator(".file h3").all_inner_texts() == ["added docs.md", "changed shop.py"]
    lines = page.locator(".file", has_text="shop.py").locator(".diff tr")
    assert [re.sub(r"\s+", " ", text).strip() for text in lines.all_inner_texts()] == [
        "Line 1", "# The shop's rates.", f"{MINUS} rate = 1", "+ rate = 2",
    ]  # fmt: skip
    assert page.locator(".diff .m").first.inner_text() == "1", "numbers are colored"

    # Undo it.
    page.get_by_role("link", name="Undo: back to #1").click()
    assert page.locator("h1").inner_text() == "Roll back prod to #1?"
    assert page.locator(".file h3").all_inner_texts() == ["removed docs.md", "changed shop.py"]
    page.get_by_label("Why").fill("It was wrong")
    page.get_by_role("button", name="Roll back to #1").click()
    page.locator("#current h2", has_text="#3").wait_for()
    page.locator("#state .healthy").wait_for()
    assert "It was wrong" in page.locator("#current").inner_text()
    assert "rollback to #1" in page.locator("#history .row").first.inner_text()
    for sidecar in sidecars:
        eventually("the pod to have the old content", lambda sidecar=sidecar: sidecar.tree() == DAGS)


def test_a_pod_that_is_behind_or_fails_is_seen_at_once(server, visit, tmp_path, started) -> None:
    first = deploy(server, DAGS, "First")
    [good, bad] = pods(server, tmp_path, started, "scheduler-0", "worker-0")
    for sidecar in (good, bad):
        sidecar.runs(first)
    page = visit(server.url).tab("/-/ui/deployments/prod")
    page.locator("#state .healthy").wait_for()
    bad.process.kill()
    server.deploy(BETTER, "prod")
    page.locator("#reason", has_text="worker-0 has not reported").wait_for()
    assert page.locator("#fleet td[data-name='State']").all_inner_texts() == ["behind", "live"]
    page.get_by_role("link", name="1 behind").click()
    assert page.locator("#fleet tbody tr").count() == 1


def test_any_two_versions_can_be_compared(server, visit) -> None:
    for number in range(4):
        deploy(server, {**DAGS, "shop.py": b"rate = %d\n" % number}, f"n{number}")
    page = visit(server.url).tab("/-/ui/deployments/prod/diff")
    page.get_by_label("From").fill("1")
    page.get_by_label("To", exact=True).fill("#4")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="#1 → #4").wait_for()
    assert f"{MINUS} rate = 0" in re.sub(r"\s+", " ", page.locator(".diff").inner_text())


def test_a_file_is_saved_as_it_is(server, visit) -> None:
    deploy(server, {"page.html": b"<script>alert(1)</script>"}, "x")
    page = visit(server.url).tab("/-/ui/deployments/prod")
    page.get_by_role("link", name="What changed").click()
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save new").click()
    assert saving.value.suggested_filename == "page.html"
    assert saving.value.path().read_bytes() == b"<script>alert(1)</script>"


def test_two_tabs_that_roll_back_do_it_once(server, visit) -> None:
    for files in (DAGS, BETTER):
        deploy(server, files, "x")
    person = visit(server.url)
    tabs = [person.tab("/-/ui/deployments/prod/rollback?to=1") for _ in range(2)]
    for tab in tabs:
        tab.get_by_role("button", name="Roll back to #1").click()
        tab.locator("#current h2", has_text="#3").wait_for()


def test_two_tabs_of_which_one_is_out_of_date(server, visit) -> None:
    for files in (DAGS, BETTER):
        deploy(server, files, "x")
    person = visit(server.url)
    tab = person.tab("/-/ui/deployments/prod/rollback?to=1")
    deploy(server, {**BETTER, "new.py": b""}, "Others")
    tab.get_by_role("button", name="Roll back to #1").click()
    assert "has version" in tab.locator("[role=alert]").inner_text()
    assert server.current("prod")["sequence"] == 3


def test_everything_but_the_live_parts_works_without_javascript(server, visit) -> None:
    for files in (DAGS, BETTER):
        deploy(server, files, "x")
    page = visit(server.url, java_script_enabled=False).tab("/")
    page.get_by_role("link", name="prod").click()
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name="Deploy #1").click()
    page.get_by_role("link", name="Roll back to #1").click()
    page.get_by_role("button", name="Roll back to #1").click()
    assert current(page) == "Current deploy: #3"


def test_the_guide_has_the_address_that_this_browser_uses(server, visit) -> None:
    page = visit(server.url).tab("/-/ui/deployments/prod/guide")
    assert (
        f"dagferry deploy --server {server.url} --deployment prod --wait" in page.locator(".command").first.inner_text()
    )


def test_a_server_that_is_gone_is_noticed_and_found_again(serve, visit, tmp_path) -> None:
    server = serve("--deployments", "prod")
    deploy(server, DAGS, "x")
    person = visit(server.url)
    first, page = person.tab("/-/ui/"), person.tab("/-/ui/deployments/prod")
    server.stop()
    page.locator("#connection", has_text="does not answer").wait_for()
    first.locator("#connection", has_text="does not answer").wait_for(timeout=60_000)
    again = Server(tmp_path / "data", "--deployments", "prod", port=server.port).ready()
    try:
        deploy(again, BETTER, "y")
        page.locator("#current h2", has_text="#2").wait_for()
        page.locator("#connection").wait_for(state="hidden")
    finally:
        again.stop()
    person.problems = [problem for problem in person.problems if "net::ERR" not in problem]


def test_what_airflow_cannot_import_is_seen_at_once_and_an_open_trace_stays_open(server, visit) -> None:
    deploy(server, DAGS, "First")
    now = server.current("prod")

    def say(*errors: dict[str, Any]) -> None:
        body = json.dumps(report(now["log_id"], parsed(now, errors=errors))).encode()
        assert server.request("/prod/dags/reports", body, Content_Type="application/json")[0] == 200

    page = visit(server.url).tab("/-/ui/deployments/prod")
    assert not page.locator("#parsed").is_visible()
    say(error("etl.py", message="<b>no</b>"))
    page.locator("#parsed li", has_text="<b>no</b>").wait_for()
    trace = page.locator("#parsed details", has_text="Traceback").locator("pre")
    assert not trace.is_visible()
    page.locator("#parsed li summary").click()
    assert trace.is_visible()
    say(error("etl.py", message="<b>no</b>"), error("other.py"))
    page.locator("#parsed li", has_text="other.py").wait_for()
    [first, second] = page.locator("#parsed li details").all()
    assert (first.get_attribute("open") is not None, second.get_attribute("open") is not None) == (True, False)
