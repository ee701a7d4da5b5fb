"""Names, texts and contents of others are shown as what they are: no script of theirs runs, nothing is loaded."""

import json
from urllib.parse import quote

import pytest

from harness import Server, pack

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
PATHS = [
    f"{SCRIPT.replace('/', '')}.py",
    "<img src=x onerror=alert(1)>.py",
    '" onmouseover="alert(1)" x=".sql',
    "'-alert(1)-'.yaml",
    "{{1337*1337}}{% raise %}.py",
    "javascript:alert(1).py",
    "a\u202egnp.py",
    "a&lt;b&#60;c.py",
    "%3Cscript%3E.py",
    "<!--.py",
    "</title><svg onload=alert(1)>.py",
]
CONTENT = f"""</td></table></pre>{SCRIPT}
x = '{IMAGE}'  # </b>{SCRIPT}
'''{SCRIPT}
{{{{ 1337*1337 }}}} &lt; \u202e hidden \u2066
"""
TEXT = f"</p>{SCRIPT}{IMAGE}{{{{1337*1337}}}}\u202e</title>"
GIT = {
    "commit": f"{SCRIPT[:9]}", "branch": TEXT, "author": TEXT, "repository": TEXT, "url": "javascript:alert(1)//https://x"
}  # fmt: skip
PAGE = "/-/ui/deployments/prod"


@pytest.fixture
def server(serve) -> Server:
    server = serve("--deployments", "prod", "--gate", "enforce", "--airflow-python", "3.11")
    query = f"?description={quote(TEXT)}&git={quote(json.dumps(GIT))}&skip_gate=1"
    server.deploy({path: CONTENT.encode() for path in PATHS}, "prod", query)
    changed = {path: CONTENT.replace("x =", "y =").encode() for path in PATHS}
    changed |= {
        "page.html": SCRIPT.encode(),
        "image.svg": f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode(),
    }
    server.deploy(changed, "prod", query)
    refused = f"{SCRIPT[:8]}.py"
    assert server.request("/prod/dags/upload", pack({refused: b"from airflow import DAG\n def <:\n"}))[0] == 422
    body = json.dumps({"reason": TEXT.replace("\u202e", "")}).encode()
    assert server.request("/prod/dags/freeze", body, Content_Type="application/json")[0] == 200
    server.get(
        "/prod/dags/current", Dagferry_Instance=IMAGE, Dagferry_Component=SCRIPT, Dagferry_Live=SCRIPT,
        Dagferry_Error=quote(TEXT), Dagferry_Volume="v" * 20,
    )  # fmt: skip
    return server


PAGES = [
    "/-/ui/",
    PAGE,
    f"{PAGE}/deploys",
    f"{PAGE}/deploys/1",
    f"{PAGE}/deploys/2",
    f"{PAGE}/diff?from=1&to=2",
    f"{PAGE}/rollback?to=1",
    f"{PAGE}/refusals",
    f"{PAGE}/guide",
    f"{PAGE}/diff?from=%3Cscript%3Ealert(1)%3C/script%3E",
    f"/-/ui/{quote(SCRIPT)}",
    f"{PAGE}?state={quote(IMAGE)}",
    f"/-/ui/sign-in?next={quote(IMAGE)}",
    f"/-/ui/deployments/{quote(SCRIPT.replace('/', ''))}",
]


def test_no_page_runs_or_loads_anything_of_theirs(server, visit) -> None:
    versions = [deploy["version"] for deploy in json.loads(server.get("/prod/dags/deploys")[1])["deploys"]][::-1]
    person = visit(server.url)  # its end fails the test if anything ran or was loaded
    page = person.tab()
    for asked in PAGES:
        path = asked
        if path[-2:] in {"/1", "/2"}:
            path = f"{path[:-1]}{versions[int(path[-1]) - 1]}"
        page.goto(server.url + path)
        found = page.evaluate(
            """() => ({
              scripts: [...document.scripts].map((script) => script.getAttribute("src")),
              handlers: [...document.querySelectorAll("*")].flatMap(
                (element) => [...element.attributes].filter((attribute) => attribute.name.startsWith("on"))).length,
              foreign: document.querySelectorAll("main img, main svg, iframe, object, embed, base, style").length,
              links: [...document.links].map((link) => link.protocol),
            })"""
        )
        assert [source.partition("?")[0].rpartition("/")[2] for source in found["scripts"]] == ["live.js"], path
        assert (found["handlers"], found["foreign"]) == (0, 0), path
        assert set(found["links"]) <= {"http:", "https:"}, path
        text = page.locator("body").inner_text()
        assert str(1337 * 1337) not in text, path
        assert "\u202e" not in page.content(), path


def test_the_attacks_are_seen_as_the_texts_they_are(server, visit) -> None:
    page = visit(server.url).tab(f"{PAGE}/diff?from=1&to=2")
    names = page.locator(".file h3 bdi").all_inner_texts()
    assert sorted([*(path.replace("\u202e", "⟨U+202E⟩") for path in PATHS), "image.svg", "page.html"]) == sorted(names)
    assert SCRIPT in page.locator(".diff").first.inner_text()
    assert page.get_by_text("This file has invisible characters").count() == len(PATHS)


def test_raw_files_are_saved_and_never_shown(server, visit) -> None:
    person = visit(server.url)
    version = json.loads(server.get("/prod/dags/deploys")[1])["deploys"][0]["version"]
    page = person.tab()
    for name in ("page.html", "image.svg", PATHS[0]):
        with page.expect_download() as saving:
            page.evaluate("address => { location = address; }", f"{PAGE}/versions/{version}/files/{quote(name)}")
        assert saving.value.path().stat().st_size > 0
    status, _ = server.get(f"{PAGE}/versions/{version}/files/page.html")
    assert status == 200


def test_the_policy_stops_what_would_run_all_the_same(server, visit) -> None:
    """Even with a hole in a template, the browser runs nothing: the header forbids it."""
    person = visit(server.url)
    page = person.tab(PAGE)
    page.evaluate(
        """() => {
          const script = document.createElement("script"); script.textContent = "document.title = 'ran'";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<b onclick=\\"document.title='ran'\\" id=x>x</b>");
          document.getElementById("x").click();
          const image = new Image(); image.src = "http://127.0.0.2:9/x.png"; document.body.append(image);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.title() != "ran"
    refused = [problem for problem in person.problems if "Content Security Policy" in problem]
    assert len(refused) >= 3
    person.problems = [problem for problem in person.problems if problem not in refused and "127.0.0.2" not in problem]
