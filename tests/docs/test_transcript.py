"""The pages with output show what really happens, and so does the picture; the tool notices when they do not."""

import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import transcript
from transcript import PAGES, PICTURE, TUTORIAL, Normalizer, PageFailed, blocks_of, draw, mark, pictured, run_page

from harness import eventually, free_port
from pages import DOCS, HOME, anchors

OLD, NEW = "20240203T040506Z-000001", "20240203T040507Z-000012"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_its_commands_print(page: Path) -> None:
    assert shutil.which("curl"), "apt-get install curl"
    text = page.read_text()
    assert run_page(text, free_port) == text, "Run: .venv/bin/python scripts/transcript.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_output_of_commands(page: Path) -> None:
    assert sum(bool(block.output) for block in blocks_of(page.read_text())) >= 5


def test_the_pages_show_nothing_of_the_machine_that_they_were_made_on() -> None:
    for page in PAGES:
        assert not re.search(r"/tmp/|/home/|/root/|127\.0\.0\.1:(?!8\d{3}\b)", page.read_text()), page
        assert set(re.findall(r"\b20\d{6}T\d{4}", page.read_text())) <= {f"20261201T07{n:02}" for n in range(20)}


def test_every_question_leads_to_the_answer_and_its_command() -> None:
    text = (DOCS / "how-to" / "answer-questions-about-a-deploy.md").read_text()
    rows = re.findall(r"^\| \[(.+\?)\]\(#(.+?)\) \| `(dagferry [a-z]+)", text, re.MULTILINE)
    assert len(rows) >= 8
    ran = {" ".join(block.code.split()[:2]) for block in blocks_of(text) if block.output}
    for question, anchor, command in rows:
        assert anchor in anchors(text), question
        assert command in ran, question


def test_the_picture_is_that_of_the_tutorial() -> None:
    text = pictured(TUTORIAL.read_text())
    assert mark(text) in PICTURE.read_text(), "Run: .venv/bin/python scripts/transcript.py"
    for words in ("Error: DAG files do not parse", "DEGRADED", "rollback", "is live in all 3 pods"):
        assert words in text


def test_a_picture_has_all_of_its_text_and_asks_nobody_for_anything() -> None:
    text = "$ dagferry status\nprod: DEGRADED <why> & more\n  - a.py\n"
    svg = draw(text)
    assert mark(text) in svg
    shown = " ".join(ET.fromstring(svg).itertext()).replace("\xa0", " ")
    for words in ("$ dagferry status", "DEGRADED", "<why> & more", "  - a.py"):
        assert words in shown
    assert not re.search(r"url\(['\"]?[^#]|@import|@font-face|href", svg)
    assert set(re.findall(r"https?://[^\"]*", svg)) == {"http://www.w3.org/2000/svg"}
    for page in (HOME / "README.md", TUTORIAL):
        assert "images/transcript.svg" in page.read_text()


# --- what the tool makes of a page ------------------------------------------------------------------------------------


def test_only_outputs_that_a_page_shows_are_replaced_and_nothing_else() -> None:
    page = (
        "a\n\n<!-- run\nname=x\necho hidden\n-->\n\n```sh\necho $name\necho y >&2\n```\n\n```text\nold\n```\n\nb\n"
        "```sh\necho not shown\n```\n\nc\n\n```text\nno output\n```\n"
    )
    assert run_page(page, free_port) == page.replace("old\n", "x\ny\n")


def test_a_command_that_fails_without_an_error_is_noticed() -> None:
    with pytest.raises(PageFailed, match="Exit code 3"):
        run_page("```sh\n(exit 3)\n```\n", free_port)
    with pytest.raises(PageFailed, match="Exit code 0"):
        run_page("```sh\necho Error: none of my business\n```\n", free_port)
    with pytest.raises(PageFailed, match="Only 0 of 2 blocks"):
        run_page("```sh\nexit\n```\n```sh\ntrue\n```\n", free_port)
    failed = "```sh\necho Error: a; false\n```\n\n```text\n```\n"
    assert run_page(failed, free_port) == failed.replace("```text\n", "```text\nError: a\n")


def test_a_page_has_its_own_ports_and_shows_those_that_are_written() -> None:
    page = (
        "```sh\necho http://127.0.0.1:8000 https://dags.example.com/x 127.0.0.1:8001 $DAGFERRY_LISTEN >ports\n"
        "grep -c 8000 ports || true\ncat ports\n```\n\n```text\n```\n"
    )
    ports = iter([20001, 20002])
    shown = run_page(page, lambda: next(ports)).partition("```text\n")[2]
    assert shown.startswith("0\nhttps://dags.example.com https://dags.example.com/x 127.0.0.1:8001 127.0.0.1:8000\n")


def test_what_a_page_started_ends_with_it_also_what_it_stopped() -> None:
    page = "```sh\nsleep 600 &\nkill -STOP %1\necho $!\n```\n\n```text\n```\n"
    stopped = Path("/proc", run_page(page, free_port).split("```text\n")[1].split()[0])
    eventually("its end", lambda: not stopped.exists() or " Z " in (stopped / "stat").read_text())


def test_versions_and_moments_are_the_same_in_every_run() -> None:
    normalize = Normalizer()
    assert normalize(f"Deployed {OLD}.\nprod: DEPLOYING 1\nDEPLOYING: 1 of 3 pods live.\n") == (
        "Deployed 20261201T070000Z-000001.\nprod: DEPLOYING 1\n"
    )
    assert normalize(f"{NEW}, deployed 7 s ago (2024-02-03 04:05:08 UTC)\n") == (
        "20261201T071100Z-000012, deployed 5 s ago (2026-12-01 07:11:00 UTC)\n"
    )
    # A later output that names an older version: it was deployed eleven minutes before the newest one.
    assert normalize(f"{OLD} of prod\nwhen  3 h ago (2024-02-03 04:05:07 UTC)\n") == (
        "20261201T070000Z-000001 of prod\nwhen  11 min ago (2026-12-01 07:00:00 UTC)\n"
    )


def test_columns_are_as_wide_as_what_they_show() -> None:
    printed = (
        "POD  STATE   LIVE                     SEEN        LAG   ERROR\n"
        f"a-0  live    {OLD}  1 s ago     -\n"
        f"a-1  behind  -                        111 s ago   99 s  broken\n"
        "VERSION                  KIND\n"
        f"{OLD}  upload\n"
        "Error: that is all\n"
    )
    assert Normalizer()(printed) == (
        "POD  STATE   LIVE                     SEEN      LAG   ERROR\n"
        "a-0  live    20261201T070000Z-000001  0 s ago   -\n"
        "a-1  behind  -                        12 s ago  12 s  broken\n"
        "VERSION                  KIND\n"
        "20261201T070000Z-000001  upload\n"
        "Error: that is all\n"
    )


def test_it_writes_the_pages_and_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text("```sh\necho one\n```\n\n```text\n```\n")
    for name, value in (("PAGES", [page]), ("TUTORIAL", page), ("PICTURE", picture), ("PICTURED", ["echo one"])):
        monkeypatch.setattr(transcript, name, value)
    assert transcript.main() == 0
    assert page.read_text() == "```sh\necho one\n```\n\n```text\none\n```\n"
    assert mark("$ echo one\none\n") in picture.read_text()
