"""``report.py`` of the GitHub Action, started as ``run.sh`` starts it: texts may be hostile, and none does anything."""

import html.parser
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from markdown_it import MarkdownIt

import dagferry_client.local.folder
from deployfiles import HOME
from github_api import ANN, JOB, PULL_REQUEST, GitHub, github
from github_runner import read_outputs, unescaped
from localtrees import write
from recorded_answers import deployed, import_failure, parsed

REPORT = HOME / "deploy" / "ci" / "github" / "report.py"
EVIL = (
    "</pre></code><img src=x onerror=y> **b** `c` [d](http://e) @ann #1 | ::error::f%0A\r\n::set-env::\n# g "
    "\u202e\x1b[31m"
)
pytestmark = pytest.mark.slow

OUTPUTS = {"version", "digest", "sequence", "unchanged", "added", "changed", "removed", "warnings", "live"}
OUTPUTS |= {"parsed", "import-errors"}

READ = parsed()
BROKEN = {**READ, "error_count": 2, "new_error_count": 1, "errors": [import_failure("a.py")]}
LATE = {**READ, "state": "parsing", "recorded": 7}


class Said(NamedTuple):
    code: int
    lines: list[str]
    outputs: dict[str, str]
    summary: str


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return write(tmp_path / "workspace", {"dags/a.py": b"a", "dags/sub/ü x.py": b"b", ".git/HEAD": b""})


@pytest.fixture
def report(tmp_path: Path, workspace: Path) -> Callable[..., Said]:
    """Run it after a command that printed ``answer`` and ``error``, JSON or text."""

    def run(code: int, answer: Any = "", error: Any = "", stage: str = "deploy", **environment: str) -> Said:
        for name, value in (("answer", answer), ("said", error)):
            (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
        files = {"GITHUB_OUTPUT": tmp_path / "outputs", "GITHUB_STEP_SUMMARY": tmp_path / "summary.md"}
        for file in files.values():
            file.write_text("")
        given = {"INPUT_PATH": "dags", **{name: str(file) for name, file in files.items()}, **environment}
        done = subprocess.run(
            [sys.executable, "-I", REPORT, stage, str(code), tmp_path],
            cwd=workspace,
            env={"PATH": os.environ["PATH"], "GITHUB_WORKSPACE": str(workspace), "LC_ALL": "C", **given},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        outputs, summary = (file.read_text(encoding="utf-8") for file in files.values())
        return Said(done.returncode, done.stdout.decode().splitlines(), read_outputs(outputs), summary)

    return run


def answer(**changed: Any) -> dict[str, Any]:
    """What ``dagferry deploy --json`` prints; ``live`` and ``warnings`` are its own, the rest is the server's."""
    names = ("live", "parsed", "undone_by", "warnings", "deployment")
    own = {name: changed.pop(name) for name in names if name in changed}
    return {
        "deployment": "prod",
        "deployed": {**deployed("d" * 64), **changed},
        "sent_bytes": 9,
        "live": None,
        "parsed": None,
        "undone_by": None,
        "warnings": [],
        **own,
    }


def error(**changed: Any) -> dict[str, Any]:
    return {"code": "dag_files_broken", "message": "DAG files do not parse.", "hint": "Correct them.", **changed}


def rendered(markdown: str) -> str:
    """What a page shows of Markdown, with HTML allowed as GitHub allows it."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


class Tags(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, _: list[Any]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the exit code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8, 130, 141])
def test_a_failure_stays_one_whatever_was_answered(report, code) -> None:
    for one in ("", answer(live=True), answer(unchanged=True)):
        assert report(code, one, error()).code == code


@pytest.mark.parametrize(
    "one",
    [
        "", "{", "[]", "null", "[{}]", {}, {"deployed": None}, {"deployed": []}, {"deployed": {}}, "<html>",
        answer(digest=""), answer(version=""), {"deployed": {"version": "1"}}, answer() | {"deployed": "x"},
        answer(live=False), answer(live=True, parsed=LATE), answer(live=True, parsed=BROKEN), json.dumps(answer()) * 2,
    ],
    ids=str,
)  # fmt: skip
def test_success_without_the_answer_is_a_failure(report, one) -> None:
    said = report(0, one)
    assert said.code == 1
    assert said.lines[0].startswith("::error title=Dagferry::")
    assert "nothing is known to be deployed" in said.lines[0]
    assert said.summary.startswith("### ")
    assert "failed" in said.summary or "not known" in said.summary


def test_success_of_a_check_needs_its_digest(report) -> None:
    assert report(0, {"digest": "d", "warnings": []}, stage="check").code == 0
    assert report(0, {}, stage="check").code == 1
    assert report(0, "/usr/bin/dagferry", stage="install").code == 1


# --- outputs ----------------------------------------------------------------------------------------------------------


def test_every_output_is_set_always(report) -> None:
    for said in (report(0, answer()), report(3, "", error()), report(0, {"digest": "d"}, stage="check")):
        assert set(said.outputs) == OUTPUTS
    assert report(7, answer(live=False), error()).outputs["live"] == "false"
    assert report(0, answer(live=True)).outputs["live"] == "true"
    assert report(0, answer()).outputs["live"] == ""


@pytest.mark.parametrize(
    ("code", "read", "failed", "outputs"),
    [
        (0, None, "", ("", "")),
        (0, READ, "", ("true", "0")),
        (8, BROKEN, "import_errors", ("true", "1")),
        (7, LATE, "not_parsed", ("false", "0")),
        (7, READ, "import_errors_unknown", ("true", "0")),
        (7, None, "not_parsed", ("false", "")),
        (7, None, "not_converged", ("", "")),
    ],
)
def test_the_outputs_say_whether_airflow_has_parsed_it(report, code, read, failed, outputs) -> None:
    said = report(code, answer(live=True, parsed=read), failed and error(code=failed))
    assert (said.outputs["parsed"], said.outputs["import-errors"]) == outputs
    assert said.code == code


def test_no_value_sets_another_output(report) -> None:
    evil = "x\nEOF\nversion=evil\nversion<<EOF\nevil\nEOF\n"
    said = report(0, answer(warnings=[evil, "two"], version=f"v{evil}"))
    assert set(said.outputs) == OUTPUTS
    assert said.outputs["warnings"].splitlines() == [evil.replace("\n", " "), "two"]
    assert said.outputs["version"] == f"v{evil}"


def test_the_word_at_the_end_of_a_value_is_another_each_time(report, tmp_path) -> None:
    ends = set()
    for _ in range(3):
        report(0, answer())
        ends |= set(re.findall(r"<<(.*)", (tmp_path / "outputs").read_text()))
    assert len(ends) == 3
    assert all(len(end) > 30 for end in ends)


# --- annotations ------------------------------------------------------------------------------------------------------


def test_problems_are_at_their_files(report) -> None:
    problem = {"path": "sub/ü x.py", "line": 3, "column": 7, "message": "Expected ':', found '%'\nand more"}
    said = report(3, "", error(problems=[problem]))
    assert said.lines == [
        "::error title=Dagferry::DAG files do not parse. Correct them.",
        "::error file=dags/sub/ü x.py,line=3,col=7,title=Dagferry::Expected ':', found '%25' and more",
    ]


@pytest.mark.parametrize("path", ["gone.py", "../../etc/passwd", "", "/etc/passwd", "x" * 5000])
def test_a_file_that_is_not_in_the_repository_is_named_in_the_text(report, path) -> None:
    [_, line] = report(3, "", error(problems=[{"path": path, "line": 3, "message": "No."}])).lines
    assert line.startswith("::error title=Dagferry::")
    assert path[:1000] in line


def test_the_server_names_files_below_the_folder_that_is_deployed(report) -> None:
    refused = error(code="gate_refused", problems=[{"path": "team-a/a.py", "line": 1, "column": 1, "message": "No."}])
    [_, line] = report(3, "", refused, INPUT_UNDER="team-a").lines
    assert "file=dags/a.py,line=1,col=1" in line


@pytest.mark.parametrize("code", ["import_check_refused", "import_errors"])
def test_so_do_the_import_check_and_airflow(report, code) -> None:
    refused = error(code=code, problems=[{"path": "team-a/a.py", "line": 3, "message": "No.", "trace": "x"}])
    [_, line] = report(8, answer(live=True, parsed=BROKEN), refused, INPUT_UNDER="team-a").lines
    assert line == "::error file=dags/a.py,line=3,title=Dagferry::No."


def test_at_most_ten_are_shown_of_each_kind(report) -> None:
    problems = [{"path": "a.py", "line": n, "column": 1, "message": "No."} for n in range(1, 21)]
    said = report(3, answer(warnings=[f"w{n}" for n in range(30)]), error(problems=problems))
    for kind in ("error", "warning"):
        assert sum(line.startswith(f"::{kind} ") for line in said.lines) == 10


def test_no_text_is_another_command_or_property(report, workspace) -> None:
    name = "a,line=9::b:%0A.py"
    write(workspace / "dags", {name: b""})
    problem = {"path": name, "line": 3, "column": 1, "message": EVIL}
    said = report(3, answer(warnings=[EVIL]), error(message=EVIL, hint=EVIL, problems=[problem]))
    assert len(said.lines) == 3
    assert all(line.startswith(("::error ", "::warning ")) for line in said.lines)
    head, _, message = said.lines[2][2:].partition("::")
    assert unescaped(head.split("file=")[1].split(",")[0]) == f"dags/{name}"
    assert "line=3" in head
    assert "\x1b" not in "".join(said.lines)
    assert "::set-env::" in unescaped(message)


@pytest.mark.parametrize("layout", ["dags", ".", "project", "dags/sub", "link", "dags/..", "./dags/", "link/../dags"])
def test_the_dags_folder_is_the_one_that_dagferry_takes(workspace, monkeypatch, layout) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("report", REPORT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write(workspace, {"project/dags/x.py": b"", "other/y.py": b""})
    (workspace / "link").symlink_to("other")
    monkeypatch.chdir(workspace)
    assert module.dags_folder(layout) == dagferry_client.local.folder.find_dags_folder(layout).path


def test_what_is_not_json_is_the_error_itself(report) -> None:
    said = report(1, "", "pip: no such hash\n\n", stage="install")
    assert said.lines == ["::error title=Dagferry::dagferry could not be installed: pip: no such hash"]
    assert said.code == 1
    said = report(130, "", "")
    assert said.lines == ["::error title=Dagferry::dagferry ended with exit code 130: it said nothing"]


# --- the summary ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "one", "failed", "said"),
    [
        (0, answer(live=True), "", ["Deployed to prod\n", "It is live in every pod."]),
        (0, answer(), "", ["Deployed to prod\n", "was not waited for"]),
        (0, answer(unchanged=True, live=True), "", ["Unchanged: prod has exactly this content already"]),
        (0, answer(dry_run=True), "", ["This would change prod", "Nothing was deployed"]),
        (7, answer(live=False), error(message="pod-1 (behind)"), ["not known to be live", "pod-1 (behind)"]),
        (7, answer(live=False, undone_by="V9"), error(), ["It was undone", "as V9."]),
        (0, answer(live=True, parsed=READ), "", ["parsed it: 120 DAG files, 200 DAGs, 0 new import errors."]),
        (7, answer(live=True, parsed=LATE), error(code="not_parsed"), ["not known to be parsed by Airflow"]),
        (
            7,
            answer(live=True, parsed=READ),
            error(code="import_errors_unknown"),
            ["but whether Airflow has import errors in its files is not known", "It is live in every pod."],
        ),
        (
            8,
            answer(live=True, parsed=BROKEN),
            error(code="import_errors", problems=[{"path": "a.py", "line": 3, "message": "No."}]),
            ["and Airflow has new import errors", "It is live in every pod.", "Import errors:", "a.py:3: No."],
        ),
        (3, "", error(), ["The deploy to the deployment failed", "Correct them."]),
        (3, "", error(removed_paths=["x.py"]), ["DAG files that would be removed:", "x.py"]),
    ],
)
def test_the_summary_says_how_it_went(report, code, one, failed, said) -> None:
    text = Tags(rendered(report(code, one, failed).summary)).text
    for part in said:
        assert part in text


def test_what_changed_is_named(report) -> None:
    shown = report(0, answer(added_paths=["n.py"], changed_paths=["e.py"], removed_paths=["o.py"], cut=True)).summary
    assert "<pre>\nA  n.py\nM  e.py\nD  o.py\nand more: the list is cut.\n</pre>" in shown
    shown = report(0, answer(added_paths=[f"{n}.py" for n in range(80)])).summary
    assert "49.py" in shown
    assert "50.py" not in shown
    assert "and 32 more" in shown


def test_no_text_becomes_markdown_or_html(report) -> None:
    evil = answer(
        deployment=EVIL, version=EVIL, digest=EVIL, undone_by=EVIL, warnings=[EVIL], added_paths=[EVIL], added=EVIL,
        changed_paths=[f"\n\n{EVIL}"], removed_paths=["\n    x"],
    )  # fmt: skip
    problem = {"path": EVIL, "line": EVIL, "column": EVIL, "message": EVIL}
    for said in (
        report(0, evil),
        report(7, evil, error(message=EVIL, hint=EVIL, problems=[problem], removed_paths=[EVIL])),
    ):
        page = Tags(rendered(said.summary))
        assert page.tags <= {"h3", "p", "code", "pre", "strong"}
        assert "<img src=x onerror=y>" in page.text
        assert "**b**" in page.text
        paragraphs = re.sub(r"<pre>.*?</pre>", "", said.summary, flags=re.DOTALL)
        assert "@" not in paragraphs
        assert "@ann" not in Tags(rendered(paragraphs)).text


def test_the_summary_is_bounded(report) -> None:
    long = ["&" * 5000] * 300
    said = report(7, answer(warnings=long, added_paths=long, changed_paths=long), error(message="&" * 10**6, hint="x"))
    assert len(said.summary) < 62_000
    assert "There is more in the log of the step." in said.summary
    assert said.summary.startswith("### Deployed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"problems": 5}, {"problems": [1, None]}, {"message": None}, {"removed_paths": None}, {"removed_paths": 5},
        {"problems": [{"path": "a\0b", "message": "m"}]}, {"problems": [{"path": "\ud800", "message": "m"}]},
        {"problems": [{"path": "a/" * 5000, "line": {}, "column": [1], "message": {"a": 1}}]},
    ],
)  # fmt: skip
def test_an_error_that_is_strange_is_still_reported(report, wrong) -> None:
    said = report(3, "", error(**wrong))
    assert said.code == 3
    assert said.lines
    assert "failed" in said.summary
    assert report(3, "", {"x": "\ud800"}).lines


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a":' + "1" * 5000 + "}"], ids=len)
def test_json_that_python_does_not_read_is_no_answer(report, text) -> None:
    assert (said := report(0, text)).code == 1
    assert "without its answer" in said.lines[0]
    assert report(3, answer(), text).code == 3


@pytest.mark.parametrize("wrong", [{"warnings": 5}, {"added_paths": 5}, {"warnings": "abc"}], ids=str)
def test_an_answer_that_is_strange_is_still_reported(report, wrong) -> None:
    said = report(0, answer(**wrong))
    assert (said.code, said.lines) == (0, [])
    assert said.summary.startswith("### Deployed")


@pytest.mark.parametrize("file", ["/dev/full", "/nowhere/file"])
@pytest.mark.parametrize("name", ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
@pytest.mark.parametrize("code", [0, 3])
def test_what_cannot_be_written_is_red_and_named(report, name, file, code) -> None:
    said = report(code, answer(), error() if code else "", **{name: file})
    assert said.code == (code or 1)
    assert name in said.lines[-1]
    assert said.lines[-1].startswith("::error title=Dagferry::The outcome of the deploy cannot be written")


# --- the comment ------------------------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[GitHub]:
    with github() as fake:
        yield fake


@pytest.fixture
def commented(report, api, tmp_path) -> Callable[..., Said]:
    """Run it in a job for a pull request that wants a comment."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": PULL_REQUEST}}))

    def run(*arguments: Any, **environment: str) -> Said:
        given = {
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_API_URL": api.url,
            "GITHUB_REPOSITORY": "acme/dags",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_RUN_ID": "77",
            "INPUT_COMMENT": "true",
            "INPUT_GITHUB_TOKEN": "ghs_thetokenofthejob",
            "INPUT_DEPLOYMENT": "prod",
        }
        return report(*arguments, **{**given, **environment})

    return run


def test_it_is_written_once_and_then_updated(commented, api) -> None:
    assert commented(0, answer()).lines == []
    assert commented(0, answer(unchanged=True)).lines == []
    [one] = api.comments
    assert re.match(r"<!-- dagferry [0-9a-f]{16} -->\n### Unchanged: ", one["body"])
    assert "[This job](https://github.com/acme/dags/actions/runs/77)" in one["body"]


def test_each_deployment_and_folder_has_its_own(commented, api) -> None:
    places = [
        {"INPUT_DEPLOYMENT": "dev"},
        {"INPUT_SERVER": "https://b"},
        {"INPUT_UNDER": "team-a/"},
        {"INPUT_PATH": "x"},
    ]
    for place in [{}, *places, *places]:
        commented(0, answer(), **place)
    assert len(api.comments) == 5


def test_it_is_found_behind_many_others_and_is_never_somebody_elses(commented, api) -> None:
    commented(0, answer())
    [ours] = api.comments
    marker = ours["body"].splitlines()[0]
    api.comments.clear()
    theirs = api.add(f"{marker}\nours, says Ann", ANN)
    for number in range(250):
        api.add(f"{number}: about {marker}", JOB)
    api.comments.append(ours)
    commented(0, answer(unchanged=True))
    assert len(api.comments) == 252
    assert ours["body"].startswith(f"{marker}\n### Unchanged")
    assert theirs["body"] == f"{marker}\nours, says Ann"


def test_the_token_of_a_person_updates_what_the_person_wrote(commented, api) -> None:
    api.tokens["ghp_ann"] = ANN
    for _ in range(2):
        assert commented(0, answer(), INPUT_GITHUB_TOKEN="ghp_ann").lines == []
    assert len(api.comments) == 1


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize(
    "reply",
    [
        (500, {}, b""), (200, {}, b"<html>"), (200, {}, b"{}"), (200, {}, b"[1]"), (404, {}, b""), (429, {}, b""),
        (200, {}, b"[{}]"), (200, {}, b'[{"id": "x", "body": null, "user": null}]'),
    ],
    ids=str,
)  # fmt: skip
def test_a_github_that_fails_is_a_warning_and_changes_no_exit_code(commented, api, reply, code) -> None:
    api.answer = reply
    said = commented(code, answer(), error() if code else "")
    assert said.code == code
    assert [line for line in said.lines if line.startswith("::warning ")] or reply[2].startswith((b"[{",))


def test_the_token_follows_no_redirect(commented, api) -> None:
    with github() as other:
        other.tokens["ghs_thetokenofthejob"] = JOB
        api.answer = (302, {"Location": f"{other.url}/repos/acme/dags/issues/7/comments"}, b"")
        assert "could not be written: HTTP Error 302" in commented(0, answer()).lines[0]
        assert other.asked == []


@pytest.mark.parametrize(
    "environment",
    [
        {"GITHUB_EVENT_PATH": "/nowhere"}, {"GITHUB_EVENT_PATH": os.devnull}, {"GITHUB_API_URL": "http://127.0.0.1:1"},
        {"GITHUB_API_URL": "file:///etc"}, {"INPUT_GITHUB_TOKEN": ""}, {"INPUT_GITHUB_TOKEN": "a\nb"},
    ],
    ids=str,
)  # fmt: skip
def test_a_job_that_cannot_comment_gets_a_warning(commented, environment) -> None:
    said = commented(0, answer(), **environment)
    assert said.code == 0
    assert said.lines[-1].startswith("::warning title=Dagferry::The comment could not be written: ")


@pytest.mark.parametrize(
    "token", ["ghp_secret\n", " ghp_secret", "ghp_secret\nghp_secret", "ghp_secret\x7f", "ghp_secreté"]
)
def test_the_token_of_the_comment_is_never_shown(commented, api, token) -> None:
    """Python shows a header that it refuses to send."""
    api.tokens["ghp_secret"] = JOB
    said = commented(0, answer(), INPUT_GITHUB_TOKEN=token)
    assert "ghp_secret" not in "".join(said.lines) + said.summary
    assert len(api.comments) == (token.strip() == "ghp_secret")


def test_a_comment_of_the_longest_summary_is_accepted(commented, api) -> None:
    long = ["&" * 5000] * 300
    assert not commented(0, answer(warnings=[], added_paths=long, changed_paths=long)).lines
    assert len(api.comments) == 1
