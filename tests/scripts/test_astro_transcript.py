"""The page about the ``astro`` CLI shows what the real one prints; without it, what it shows is what the code says."""

import json
import os
import re
from pathlib import Path

import astro_transcript
import pytest
from astro_transcript import PAGE, parts, plain, written
from transcript import PageFailed, blocks_of

from astro_cli import documented_configuration, program
from dagferry_server.errors import GateRefused
from dagferry_server.http.handlers import astro
from dagferry_server.http.tls_port import _TEXT as HTTPS_EXPECTED
from harness import free_port

TEXT = PAGE.read_text()
OUTPUTS = {block.code.splitlines()[-1]: block.output or "" for block in blocks_of(parts(TEXT)[1])}


@pytest.mark.slow
def test_the_page_shows_what_the_real_cli_prints() -> None:
    assert written(TEXT, Path(program()), free_port) == TEXT, "Run: .venv/bin/python scripts/astro_transcript.py"


def test_the_page_shows_every_command_that_works_and_how_those_fail_that_do_not() -> None:
    commands = "\n".join(block.code for block in blocks_of(parts(TEXT)[1]) if block.output)
    shown = ("astro login houston", "astro workspace list", "astro deployment list", "astro deploy prod --dags -f")
    for command in (*shown, "astro deploy prod -f", "dagferry history"):
        assert command in commands
    assert commands.count("astro deploy prod --dags -f") == 3  # new, unchanged, refused


def test_the_page_shows_nothing_of_the_machine_that_it_was_made_on() -> None:
    assert not re.search(r"/tmp/|/home/|/root/|127\.0\.0\.1:(?!8\d{3}\b)|dgf_[A-Za-z0-9]|\x1b", TEXT)
    assert set(re.findall(r"\b20\d{6}T\d{6}Z", TEXT)) == {"20261201T070000Z"}


def test_login_shows_the_page_about_the_token_and_lists_show_what_the_server_has() -> None:
    login = OUTPUTS["astro login houston < token.txt"]
    assert "\nhttps://dags.example.com/astro/token\n" in login
    assert f'"{astro._WORKSPACE["label"]}" Workspace found' in login
    listed = OUTPUTS["astro deployment list"]
    assert re.findall(r"^ (\S+) +(\S+) +v +(\S+) ", listed, re.MULTILINE) == [("staging",) * 3, ("prod",) * 3]
    assert re.search(rf"^ {astro._WORKSPACE['label']} +{astro._WORKSPACE['id']}$", listed, re.MULTILINE)


def test_a_refused_deploy_shows_an_error_of_the_server_with_its_keys_sorted() -> None:
    line = OUTPUTS["astro deploy prod --dags -f"].splitlines()[-1]
    head, _, body = line.partition(" and Message: ")
    assert head == f"Error: file upload failed. Status code: {GateRefused.status}"
    error = json.loads(body)
    assert list(error) == sorted(error)
    assert (error["code"], error["hint"]) == (GateRefused.code, GateRefused.default_hint)
    assert set(GateRefused.detail_fields) <= set(error)


def test_an_image_deploy_shows_the_sentence_of_the_server() -> None:
    assert OUTPUTS["astro deploy prod -f"].splitlines()[-1] == f"Error: {astro._NO_IMAGES}"


def test_the_errors_that_the_page_explains_are_those_of_the_server() -> None:
    for ours in (astro._NO_IMAGES, astro._NO_CHANGES, "This server does not know this token.", HTTPS_EXPECTED.decode()):
        assert re.match(r"[^,.]+", ours)[0] in TEXT


def test_ci_needs_five_lines() -> None:
    assert len(documented_configuration().splitlines()) == 5


# --- what the tool makes of a page ------------------------------------------------------------------------------------

FAKE = '#!/bin/sh\nprintf "\\033[1;32m %s here   \\033[0m\\n" "$*"\n[ "$1" != bad ] || { echo "Error: bad"; exit 1; }\n'


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A program that prints its arguments in color, and fails for one of them."""
    path = tmp_path / "any-name"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def test_only_what_is_between_the_markers_is_run_with_the_program_as_astro(fake) -> None:
    run = "```sh\nastro {}\n```\n\n```text\n{}```\n"
    page = run.format("a", "") + "<!-- transcript -->\n{}{}<!-- end -->\n" + run.format("b", "old\n")
    made = written(page.format(run.format("list", "old\n"), run.format("bad", "")), fake, free_port)
    assert made == page.format(run.format("list", " list here\n"), run.format("bad", " bad here\nError: bad\n"))


def test_an_error_with_another_exit_code_is_noticed(fake) -> None:
    fake.write_text("#!/bin/sh\necho Error: no\n")
    with pytest.raises(PageFailed, match="Exit code 0"):
        written("<!-- transcript -->\n```sh\nastro x\n```\n<!-- end -->\n", fake, free_port)


@pytest.mark.parametrize("page", ["", "<!-- transcript -->\n", "<!-- end -->\n", "<!-- end -->\n<!-- transcript -->\n"])
def test_a_page_without_both_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="The page needs <!-- transcript -->"):
        parts(page)


def test_colors_and_padding_are_dropped() -> None:
    assert plain(" \x1b[1;32mNAME  \x1b[0m \n  a\t\n\nb") == " NAME\n  a\n\nb"


def test_without_the_program_it_says_what_to_set(monkeypatch, capsys) -> None:
    monkeypatch.setattr(os, "environ", {})
    before = PAGE.read_text()
    assert astro_transcript.main() == 2
    assert "Set ASTRO_CLI" in capsys.readouterr().err
    assert PAGE.read_text() == before


def test_it_writes_the_page(fake, tmp_path, monkeypatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- transcript -->\n```sh\nastro x\n```\n\n```text\n```\n<!-- end -->\n")
    monkeypatch.setattr(astro_transcript, "PAGE", page)
    monkeypatch.setenv("ASTRO_CLI", str(fake))
    assert astro_transcript.main() == 0
    assert "```text\n x here\n```" in page.read_text()
