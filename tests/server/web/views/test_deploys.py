"""The history in pages, one deploy with what it changed, and any two versions compared."""

import asyncio
import re

import pytest

from harness import pack
from running import A, B, Running

PAGE = "/-/ui/deployments/default"


@pytest.fixture
async def server(start) -> Running:
    return await start(web=True)


async def text_of(server: Running, path: str) -> str:
    answer = await server.get(PAGE + path)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r'<span class="vh">Deploy </span>#([0-9]+)<', text)]


async def test_the_history_is_paged_newest_first(server) -> None:
    for number in range(30):
        await server.deploy({**A, "n.py": b"%d" % number})
    first = await text_of(server, "/deploys")
    assert numbers(first) == list(range(30, 5, -1))
    older = re.search(r'href="\.\./\.\./deployments/default(/deploys\?before=[0-9]+)">Older', first)[1]
    last = await text_of(server, older)
    assert numbers(last) == [5, 4, 3, 2, 1]
    assert ("Older" in last, "Newest" in last, "Newest" in first) == (False, True, False)


async def test_a_deploy_shows_who_when_why_and_its_warnings(server) -> None:
    query = "?description=Why%20%3Cb%3E&git=%7B%22commit%22%3A%22abcdef0123456789%22%7D"
    answer = await server.upload(pack({**A, ".env": b"x"}), "/default/dags/upload" + query)
    text = await text_of(server, f"/deploys/{answer.json['version']}")
    assert "Why &lt;b&gt;" in text
    assert "<code>abcdef0123</code>" in text
    assert ".env" in re.search(r'<ul class="warnings">.*?</ul>', text, re.DOTALL)[0]
    assert text.count('class="file"') == len(A) + 1


async def test_the_changed_paths_are_shown_even_if_the_content_is_gone(server) -> None:
    versions = [await server.deploy(files) for files in (A, {**B, "new.py": b"1"}, A)]
    await asyncio.to_thread(server.service.store.delete_bundle, "default", versions[1]["digest"])
    text = await text_of(server, f"/deploys/{versions[1]['version']}")
    assert "was removed by retention" in text
    assert '<li class="added"><span class="vh">added: </span><bdi>new.py</bdi></li>' in text


async def test_many_changed_files_are_paged(server) -> None:
    await server.deploy(A)
    new = await server.deploy({f"f{number:04}.txt": b"x" for number in range(45)})
    text = await text_of(server, f"/deploys/{new['version']}?first=40")
    assert "Files 41 to 48 of 48" in text
    assert text.count('class="file"') == 8


async def test_one_file_is_shown_alone(server) -> None:
    await server.deploy(A)
    new = await server.deploy({**A, "long.txt": b"x\n" * 300, "z.txt": b"z\n"})
    path = f"/deploys/{new['version']}"
    assert "path=long.txt" in await text_of(server, path)
    alone = await text_of(server, path + "?path=long.txt")
    assert alone.count('<tr class="ins">') == 300
    assert "z.txt" not in alone


async def test_two_versions_are_compared_by_default_the_newest_two(server) -> None:
    for files in (A, B, {**B, "c.py": b""}):
        await server.deploy(files)
    assert "#2 \N{RIGHTWARDS ARROW} #3" in await text_of(server, "/diff")
    text = await text_of(server, "/diff?from=3&to=1")
    assert re.findall(r'class="pod-state ([a-z]+)"', text) == ["removed", "changed"]


async def test_before_the_first_deploy_there_is_nothing_to_compare(server) -> None:
    answer = await server.get(PAGE + "/diff")
    assert (answer.status, b"Nothing was deployed" in answer.body) == (404, True)


async def test_a_raw_file_is_an_attachment_of_plain_text(server) -> None:
    version = (await server.deploy({"a b/x.html": b"<script>"}))["version"]
    answer = await server.get(f"{PAGE}/versions/{version}/files/a%20b/x.html")
    assert (answer.status, answer.body) == (200, b"<script>")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''x.html"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    for path in ("a%20b%2Fx.html", "..%2Fx", "none"):
        assert (await server.get(f"{PAGE}/versions/{version}/files/{path}")).status in {400, 404}
