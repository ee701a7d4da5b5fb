"""Templates compile, links are relative to the page, and what is remembered is bounded."""

import re

import pytest

from dagferry_server.web.site import Remembered, Site
from running import A


def test_all_templates_compile() -> None:
    Site().compile()


def test_what_is_remembered_is_bounded_and_the_longest_unused_goes() -> None:
    kept = Remembered(most=2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]


@pytest.mark.parametrize(
    ("path", "home"),
    [("/-/ui/", "./"), ("/-/ui/x", "./"), ("/-/ui/deployments/default", "../"),
     ("/-/ui/deployments/default/deploys", "../../"), ("/-/ui/x/y/z/", "../../../")],
)  # fmt: skip
async def test_links_lead_back_from_any_depth(start, path, home) -> None:
    server = await start(web=True)
    await server.deploy(A)
    text = (await server.get(path)).body.decode()
    assert f'<a class="brand" href="{home}">' in text
    assert re.search(rf'href="{re.escape(home)}static/style.css\?v=[0-9a-f]{{12}}"', text)


async def test_what_pages_load_is_kept_by_browsers_and_changes_its_address(start) -> None:
    server = await start(web=True)
    for name, kind in (("style.css", "text/css"), ("live.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        page = (await server.get("/-/ui/")).body.decode()
        answer = await server.get(
            re.search(rf"\./static/{re.escape(name)}\?v=[0-9a-f]+", page)[0].replace("./", "/-/ui/")
        )
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert "immutable" in answer.headers["Cache-Control"]
    assert (await server.get("/-/ui/static/..%2Fsite.py")).status == 404


@pytest.mark.parametrize("query", ["", "?v=", "?v=000000000000"])
async def test_under_the_address_of_another_release_nothing_is_kept(start, query) -> None:
    """During a rollout, the page may come from a new server and its style from an old one."""
    answer = await (await start(web=True)).get(f"/-/ui/static/style.css{query}")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store, no-transform")


async def test_parts_that_are_the_same_for_all_are_made_once(start, monkeypatch) -> None:
    server = await start(web=True)
    await server.deploy(A)
    server.service.clock = lambda: 1_795_000_000.0
    site = next(route.pages for route in server.listeners._pages)
    await server.get("/-/ui/deployments/default")
    made: list[object] = []
    monkeypatch.setattr(site.parts, "put", lambda *put: made.append(put))
    for _ in range(3):
        assert (await server.get("/-/ui/deployments/default")).status == 200
    assert made == []
