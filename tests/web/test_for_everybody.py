"""The pages are readable and usable: by keyboard, on a narrow screen, in the dark, and with what axe-core checks."""

import json

import pytest

from browsers import NARROW, axe_violations
from harness import Server, pack
from reporting import error, parsed, report

LONG = "a_very_long_file_name_without_any_place_to_break_" * 3 + ".py"
DAGS = {"etl.py": b"from airflow import DAG\n\nx = 'a text'\n", "dir/" + LONG: b"x = " + b"1 + " * 100 + b"1\n"}
PAGE = "/-/ui/deployments/prod"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("server") / "data",
        *("--deployments", "prod,staging", "--gate", "enforce", "--airflow-python", "3.11"),
    ).ready()
    git = json.dumps({"commit": "f" * 40, "branch": "main", "url": "https://example.com/commit/" + "f" * 40})
    for number in range(4):
        files = {**DAGS, "shop.py": b"rate = %d\n" % number, f"new{number}.py": b"x = 1\n"}
        server.deploy(files, "prod", f"?description=Number%20{number}&git={git.replace(' ', '%20')}")
    server.request("/prod/dags/upload", pack({"broken.py": b"from airflow import DAG\ndef f(:\n"}))
    for name, live in (("worker-0", ""), ("scheduler-0-with-a-rather-long-name-0123456789abcdef", "x")):
        server.get("/prod/dags/current", Dagferry_Instance=name, Dagferry_Component="worker", Dagferry_Live=live)
    current = server.current("prod")
    trace = "Traceback\n" + "  a line that is rather long, of a file that is deep in a package, and so on\n" * 40
    said = parsed(current, errors=[error("dir/" + LONG, trace=trace)], hindrances=["[core] x is 30: " + "slow " * 40])
    body = json.dumps(report(current["log_id"], said)).encode()
    assert server.request("/prod/dags/reports", body, Content_Type="application/json")[0] == 200
    yield server
    server.stop()


def addresses(server: Server) -> dict[str, str]:
    version = json.loads(server.get("/prod/dags/deploys")[1])["deploys"][0]["version"]
    return {
        "deployments": "/-/ui/",
        "deployment": PAGE,
        "history": f"{PAGE}/deploys",
        "deploy": f"{PAGE}/deploys/{version}",
        "compare": f"{PAGE}/diff?from=1&to=4",
        "rollback": f"{PAGE}/rollback?to=1",
        "refusals": f"{PAGE}/refusals",
        "guide": f"{PAGE}/guide",
        "sign in": "/-/ui/sign-in",
        "missing": "/-/ui/missing",
    }


NAMES = [
    "deployments",
    "deployment",
    "history",
    "deploy",
    "compare",
    "rollback",
    "refusals",
    "guide",
    "sign in",
    "missing",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(server, visit, name, scheme) -> None:
    page = visit(server.url, color_scheme=scheme).tab(addresses(server)[name])
    assert axe_violations(page) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_screen_needs_no_sideways_scrolling(server, visit, name) -> None:
    page = visit(server.url, viewport=NARROW).tab(addresses(server)[name])
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert axe_violations(page) == []


def focused(page) -> str:
    return page.evaluate(
        "document.activeElement.innerText || document.activeElement.id || document.activeElement.tagName"
    )


def press_until(page, text: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if text in focused(page):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", "the focus is seen"
            return
    raise AssertionError(f"Tab does not reach {text!r}")


def test_everything_can_be_done_by_keyboard_alone(server, visit) -> None:
    page = visit(server.url).tab("/-/ui/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    press_until(page, "prod")
    page.keyboard.press("Enter")
    page.locator("#current").wait_for()
    press_until(page, "Undo")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Roll back prod").wait_for()
    press_until(page, "description")
    page.keyboard.type("By keyboard")
    page.keyboard.press("Tab")
    assert focused(page).startswith("Roll back to")
    page.keyboard.press("Enter")
    page.locator("#current", has_text="By keyboard").wait_for()


def test_the_focus_stays_when_the_page_changes_by_itself(server, visit) -> None:
    page = visit(server.url).tab(PAGE)
    press_until(page, "What changed")
    server.get("/prod/dags/current", Dagferry_Instance="another", Dagferry_Component="worker")
    page.locator("#fleet", has_text="another").wait_for()
    assert focused(page) == "What changed"
