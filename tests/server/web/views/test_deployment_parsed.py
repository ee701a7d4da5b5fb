"""The page of a deployment shows what Airflow has read, and what it could not import; the history marks it."""

import re

import pytest

from reporting import error, log_id, parsed, report, send
from running import A, B, Running, eventually

PAGE = "/-/ui/deployments/default"


@pytest.fixture
async def server(start) -> Running:
    return await start(web=True)


async def text_of(server: Running, path: str = PAGE, **headers: str) -> str:
    answer = await server.get(path, **headers)
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def judged(server: Running) -> None:
    fleet = server.service.deployments["default"].fleet
    await eventually("the change is judged", lambda: not fleet.unsettled)


def part(text: str) -> str:
    """The part about what Airflow has read, without line breaks."""
    found = re.search('<section id="parsed".*?</section>', text, re.DOTALL)
    assert found
    return " ".join(found[0].split())


async def test_while_nobody_reports_it_shows_nothing(server) -> None:
    await server.deploy(A)
    assert part(await text_of(server)) == '<section id="parsed" hidden> </section>'


async def test_what_was_read_with_counts_and_versions(server) -> None:
    deploy = await server.deploy(A)
    await send(server, report(await log_id(server), parsed(deploy, hindrances=["[core] x is 30."], mixed=1)))
    text = part(await text_of(server))
    assert '<span class="badge parsed">Parsed</span> Airflow has read <strong>#1</strong>, ' in text
    assert "2 of 2 DAG files recorded, 1 read during a swap, 3 DAGs." in text
    assert "Airflow 3.3.2, Python 3.11.7" in text
    assert '<p class="notice">[core] x is 30.</p>' in text
    assert "Slowest files: 1.0 s, all 1.5 s" in text
    assert '<span class="pod-state parsed">parsed</span>' in text


async def test_an_older_version_and_one_that_is_being_read(server) -> None:
    first = await server.deploy(A)
    second = await server.deploy(B)
    log = await log_id(server)
    await send(server, report(log, parsed(first)))
    assert "Airflow still has <strong>#1</strong>." in part(await text_of(server))
    await send(server, report(log, parsed(second, recorded=1, complete_for=None)))
    text = part(await text_of(server))
    assert "Airflow is reading <strong>#2</strong>. 1 of 2 DAG files recorded" in text


async def test_import_errors_are_listed_with_their_traces(server) -> None:
    deploy = await server.deploy(A)
    errors = [error("etl.py"), error("old.py", new=False, trace="")]
    await send(server, report(await log_id(server), parsed(deploy, errors=errors, error_count=9, new_error_count=1)))
    text = part(await text_of(server))
    assert "<strong>9 files</strong> cannot be imported, <strong>1</strong> of them" in text
    assert "the first 2:" in text
    assert '<bdi>etl.py</bdi></strong> <span class="mark warn">new</span><br><bdi>ImportError: no</bdi>' in text
    assert '<details data-key="etl.py"><summary>Trace</summary><pre tabindex="0">Traceback no </pre></details>' in text
    assert text.count("<summary>Trace") == 1


async def test_hostile_content_stays_text(server) -> None:
    evil = '"><script>alert(1)</script>\u202e{{ 7 * 7 }}'
    deploy = await server.deploy(A)
    said = parsed(
        deploy,
        errors=[error(evil, message=evil, trace=evil)],
        hindrances=[evil],
        airflow=evil,
        python=evil,
        parse_seconds={"total": 1, "longest": 1, "slowest": [{"path": evil, "seconds": 1}]},
    )
    body = report(await log_id(server), said, instance=evil)
    await send(server, body)
    text = await text_of(server)
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert "49" not in part(text)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩{{ 7 * 7 }}") == 9


async def test_the_live_part_follows(server) -> None:
    deploy = await server.deploy(A)
    log = await log_id(server)
    await send(server, report(log, parsed(deploy)))
    await judged(server)
    live = "/-/ui/live/default"
    answer = await server.get(live)
    assert '<section id="parsed"' in answer.body.decode()
    tag = answer.headers["ETag"]
    assert (await server.get(live, If_None_Match=tag)).status == 304
    await send(server, report(log, parsed(deploy, errors=[error("etl.py")])))
    answer = await server.get(live, If_None_Match=tag, Prefer="wait=20")
    assert "<bdi>etl.py</bdi>" in answer.body.decode()


@pytest.mark.parametrize("path", [PAGE, PAGE + "/deploys"])
async def test_the_history_marks_a_deploy_that_brought_import_errors(server, path) -> None:
    first = await server.deploy(A)
    log = await log_id(server)
    await send(server, report(log, parsed(first, errors=[error("etl.py")])))
    await judged(server)
    assert (await text_of(server, path)).count("1 new import error<") >= 1
    second = await server.deploy(B)
    await send(server, report(log, parsed(second, errors=[error("etl.py", new=False)])))
    await judged(server)
    text = await text_of(server, path)
    assert text.count("1 new import error<") == 1, "the older one has it still, and the newer one did not bring it"
    assert "1 new import error<" in await text_of(server, f"{PAGE}/deploys/{first['version']}")
