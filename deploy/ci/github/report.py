"""Says how a deploy of the GitHub Action went: outputs, annotations, the summary of the job, a comment.

Run by tests/deploy/ci/test_report.py and test_action.py. ``run.sh`` starts it as::

    python3 report.py STAGE CODE FOLDER

STAGE is what ran last: ``install``, ``check`` or ``deploy``; CODE is how that ended; FOLDER has what it printed, in the
files ``answer`` (stdout) and ``said`` (stderr). It ends with CODE; with 1 if that is 0 and there is no answer which
shows that the server has the content, or if the outputs cannot be written. It needs Python 3.10 and nothing else.

Every text may be hostile: names of files, warnings, names of pods. None of them becomes a command for the runner,
another output, Markdown or HTML, or a mention of somebody.
"""

import hashlib
import html
import http.client
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MAX_ANNOTATIONS = 10
"""How many errors, and how many warnings, GitHub shows of one step."""
MAX_TEXT_CHARACTERS = 2000
MAX_LINE_CHARACTERS = 200
"""How much of a sentence, and of a line in a list, is shown."""
MAX_LISTED = 50
"""How many lines of a list are shown."""
MAX_SUMMARY_CHARACTERS = 60_000
"""A comment may have 65,536."""
MAX_WARNINGS = 1000
"""How many warnings the output has: all outputs of a job may have 1 MB."""
API_SECONDS = 10
MAX_API_BYTES = 16 << 20
MAX_PAGES = 20
COMMENTS_PER_PAGE = 100
"""How long a request to GitHub may take, how large its answer may be, and how many comments are searched for ours."""
API_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, http.client.HTTPException)
"""What may go wrong: the connection, the status, and an answer that is not GitHub's."""
OUTPUTS = ("version", "digest", "sequence", "unchanged", "added", "changed", "removed", "warnings", "live")
OUTPUTS += ("parsed", "import-errors")
IMPORT_ERRORS, NOT_PARSED = "import_errors", "not_parsed"
SERVER_REFUSALS = {"gate_refused", "import_check_refused", IMPORT_ERRORS}
"""Errors whose problems name files by where they are in the deployment: those of the server, and of Airflow."""
UNFINISHED = {
    IMPORT_ERRORS: "and Airflow has new import errors",
    NOT_PARSED: "but not known to be parsed by Airflow",
    "import_errors_unknown": "but whether Airflow has import errors in its files is not known",
}
"""What the headline says of a deploy that was made, by the error; of all others, that it is not known to be live."""
CHANGES = (("A", "added_paths"), ("M", "changed_paths"), ("D", "removed_paths"))


class Result(NamedTuple):
    """What ran, and how it ended. ``answer`` is what it printed as JSON, ``error`` its error; ``{}`` without one."""

    stage: str
    code: int
    answer: Mapping[str, Any]
    error: Mapping[str, Any]

    @property
    def deployed(self) -> Mapping[str, Any]:
        """What the server answered; empty if it did not."""
        found = self.answer.get("deployed")
        return found if isinstance(found, dict) else {}

    @property
    def parsed(self) -> Mapping[str, Any]:
        """What Airflow reported; empty if that was not waited for, or if nothing reports."""
        found = self.answer.get("parsed")
        return found if isinstance(found, dict) else {}

    @property
    def is_parsed(self) -> bool | None:
        """Whether Airflow has parsed what was deployed; ``None`` if that was not waited for."""
        if self.error.get("code") == NOT_PARSED:
            return False
        return self.parsed.get("state") == "parsed" if self.parsed else None


# --- what dagferry printed --------------------------------------------------------------------------------------------


def read_result(stage: str, code: int, folder: Path) -> Result:
    """Return what the command did; an exit code of 0 without the answer that must come with it becomes an error."""
    answer = _object((folder / "answer").read_text(encoding="utf-8", errors="replace"))
    said = (folder / "said").read_text(encoding="utf-8", errors="replace").splitlines()
    result = Result(stage, code, answer, {})
    if code == 0 and not _is_complete(result):
        message = "dagferry ended without an error, but also without its answer, so nothing is known to be deployed."
        hint = "This is a bug in Dagferry. Please report it, with the log of this step."
        return result._replace(code=1, error={"message": message, "hint": hint})
    if code == 0:
        return result
    last = next((line for line in reversed(said) if line.strip()), "")
    what = {"install": "dagferry could not be installed"}.get(stage, f"dagferry ended with exit code {code}")
    return result._replace(error=_object(last) or {"message": f"{what}: {last or 'it said nothing'}", "hint": ""})


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    """Return a list that somebody else wrote; empty if it is not a list."""
    return value if isinstance(value, list) else []


def _is_complete(result: Result) -> bool:
    """Return whether the answer shows what an exit code of 0 promises."""
    if result.stage == "check":
        return bool(result.answer.get("digest"))
    deployed = result.deployed
    is_live = result.answer.get("live") is not False
    if result.is_parsed is False or result.parsed.get("new_error_count"):
        return False
    return bool(is_live and deployed.get("digest") and (deployed.get("version") or deployed.get("dry_run")))


def problems_of(result: Result) -> list[Mapping[str, Any]]:
    """Return what a check refused, on this machine or at the server, or what Airflow cannot import."""
    return [one for one in _list(result.error.get("problems")) if isinstance(one, dict)]


def warnings_of(result: Result) -> list[str]:
    """Return the warnings, each in one line."""
    return [clean(one) for one in _list(result.answer.get("warnings"))][:MAX_WARNINGS]


def changes_of(deployed: Mapping[str, Any]) -> list[str]:
    """Return a line for each file that changed: ``A  path``, ``M  path`` or ``D  path``."""
    lines = [f"{letter}  {path}" for letter, name in CHANGES for path in _list(deployed.get(name))]
    return [*lines, "and more: the list is cut."] if deployed.get("cut") else lines


# --- texts of others --------------------------------------------------------------------------------------------------


def clean(text: object, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return a text in one line of bounded length, with ``?`` in place of what is not printable."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text).replace("\n", " "))
    return line if len(line) <= limit else line[:limit] + "…"


def text(of: object) -> str:
    """Return ``of`` for a paragraph of Markdown: it neither formats, nor links, nor mentions anything."""
    return "".join(
        letter if letter.isalnum() or letter == " " or not letter.isascii()
        # A space of no width, so that @name and #1 mention nothing.
        else f"&#{ord(letter)};" + "&#8203;" * (letter in "@#")
        for letter in clean(of).strip()
    )  # fmt: skip


def code(of: object) -> str:
    """Return ``of`` for a paragraph of Markdown, as code."""
    return f"<code>{text(of)}</code>"


def block(lines: Sequence[str]) -> str:
    """Return lines as they are, in a block in which Markdown formats nothing."""
    shown = [clean(line, MAX_LINE_CHARACTERS) for line in lines[:MAX_LISTED]]
    more = len(lines) - MAX_LISTED
    shown += [f"and {more} more"] if more > 0 else []
    return "<pre>\n" + "\n".join(html.escape(line, quote=False) for line in shown) + "\n</pre>"


def command(name: str, message: str, **properties: object) -> str:
    """Return a command for the runner, such as ``::error file=dags/a.py,line=3::message``."""
    written = ",".join(f"{key}={_escaped(clean(value), ':,')}" for key, value in properties.items() if value)
    return f"::{name}{' ' * bool(written)}{written}::{_escaped(clean(message))}"


def _escaped(value: str, more: str = "") -> str:
    return "".join(f"%{ord(letter):02X}" if letter in "%\r\n" + more else letter for letter in value)


# --- outputs and annotations ------------------------------------------------------------------------------------------


def outputs(result: Result) -> dict[str, str]:
    """Return the outputs of the action; what is not known is empty."""
    known = {**result.answer, **result.deployed, "warnings": "\n".join(warnings_of(result))}
    parsed = {"parsed": result.is_parsed, "import-errors": result.parsed.get("new_error_count")}
    return {name: _output({**known, **parsed}.get(name)) for name in OUTPUTS}


def _output(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def output_lines(values: Mapping[str, str]) -> str:
    """Return what GITHUB_OUTPUT gets: each value ends at a word that nobody could know before."""
    end = f"end-{secrets.token_hex(16)}"
    return "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())


def annotations(result: Result, dags: str, under: str) -> list[str]:
    """Return the commands that show errors and warnings at the job, and at the files that were refused or have errors.

    ``dags`` is the dags folder on this machine; the server names files by where they are in the deployment, below
    ``under``.
    """
    lines = [command("warning", one, title="Dagferry") for one in warnings_of(result)[:MAX_ANNOTATIONS]]
    if not result.error:
        return lines
    lines.append(command("error", _sentence(result.error), title="Dagferry"))
    for one in problems_of(result)[: MAX_ANNOTATIONS - 1]:
        path = str(one.get("path", ""))
        file = repository_path(dags, path.removeprefix(under) if result.error.get("code") in SERVER_REFUSALS else path)
        place = {"file": file, "line": one.get("line"), "col": one.get("column")} if file else {}
        lines.append(command("error", _problem(one) if not file else one.get("message", ""), **place, title="Dagferry"))
    return lines


def _sentence(error: Mapping[str, Any]) -> str:
    return f"{error.get('message', '')} {error.get('hint', '')}".strip()


def _problem(one: Mapping[str, Any]) -> str:
    where = ":".join(str(one[name]) for name in ("path", "line", "column") if one.get(name))
    return f"{where}: {one.get('message', '')}"


def dags_folder(given: str) -> str:
    """Return the dags folder that ``dagferry deploy`` takes for ``given``: itself, or the folder dags in it."""
    inside = os.path.join(given, "dags")
    is_project = os.path.basename(os.path.abspath(given)) != "dags" and os.path.isdir(inside)
    return os.path.realpath(inside if is_project else given)


def repository_path(dags: str, path: str) -> str:
    """Return where a file of the dags folder is in the repository, as a diff names it; empty if it is not in there."""
    try:
        real = os.path.realpath(os.path.join(dags, path))
    except ValueError:  # no file has such a name
        return ""
    top = dags
    while not os.path.lexists(os.path.join(top, ".git")) and top != os.path.dirname(top):
        top = os.path.dirname(top)
    if top == os.path.dirname(top):
        top = os.path.realpath(os.environ.get("GITHUB_WORKSPACE") or ".")
    inside = os.path.relpath(real, top)
    return "" if inside.startswith("..") or not os.path.isfile(real) else inside.replace(os.sep, "/")


# --- the summary ------------------------------------------------------------------------------------------------------


def summary(result: Result, deployment: str, under: str) -> str:
    """Return what the job shows: whether it is deployed and live, what changed, the warnings."""
    where = code(result.answer.get("deployment") or deployment or "the deployment")
    if under:
        where = f"{where}, folder {code(under)}"
    return "\n\n".join(_fitting([f"### {_headline(result, where)}", *_facts(result), *_lists(result)])) + "\n"


def _headline(result: Result, where: str) -> str:
    deployed = result.deployed
    if result.error:
        if deployed:
            what = UNFINISHED.get(str(result.error.get("code")), "but not known to be live in every pod")
            return f"Deployed to {where}, {what}"
        return f"The deploy to {where} failed" if result.stage == "deploy" else f"Nothing was deployed to {where}"
    if result.stage == "check":
        return "Checked: nothing that a deploy would refuse"
    if deployed.get("unchanged"):
        return f"Unchanged: {where} has exactly this content already"
    return f"This would change {where}" if deployed.get("dry_run") else f"Deployed to {where}"


def _facts(result: Result) -> list[str]:
    """Return a paragraph for each thing to know beside the headline."""
    answer, deployed, facts = result.answer, result.deployed, list[str]()
    if result.error:
        facts.append(f"**{text(result.error.get('message', ''))}** {text(result.error.get('hint', ''))}")
    if answer.get("undone_by"):
        facts.append(f"It was undone: the previous content is deployed again, as {code(answer['undone_by'])}.")
    if deployed:
        added, changed, removed = (deployed.get(name, 0) for name in ("added", "changed", "removed"))
        facts.append(f"{text(added)} added, {text(changed)} changed, {text(removed)} removed.")
        facts.append(f"Version {code(deployed.get('version') or 'none')}, digest {code(deployed.get('digest', ''))}")
    if deployed.get("dry_run") or (result.stage == "check" and not result.error):
        facts.append("Nothing was deployed: that was not asked for.")
    elif deployed and answer.get("live"):
        facts.append("It is live in every pod.")
    elif deployed and answer.get("live") is None:
        facts.append("Whether it is live in every pod was not waited for.")
    if result.is_parsed:
        names = ("files", "dags", "new_error_count")
        files, dags, errors = (text(result.parsed.get(name, 0)) for name in names)
        facts.append(f"Airflow has parsed it: {files} DAG files, {dags} DAGs, {errors} new import errors.")
    return facts


def _lists(result: Result) -> list[str]:
    found = {
        "Import errors" if result.error.get("code") == IMPORT_ERRORS else "Refused files": [
            _problem(one) for one in problems_of(result)
        ],
        "DAG files that would be removed": [str(one) for one in _list(result.error.get("removed_paths"))],
        "Warnings": warnings_of(result),
        "Changes": changes_of(result.deployed),
    }
    return [f"{title}:\n\n{block(lines)}" for title, lines in found.items() if lines]


def _fitting(parts: Iterable[str]) -> list[str]:
    """Return the parts for which there is space."""
    left, kept = MAX_SUMMARY_CHARACTERS, list[str]()
    for part in parts:
        left -= len(part) + 2
        kept.append(part if left >= 0 else "There is more in the log of the step.")
        if left < 0:
            break
    return kept


# --- the comment ------------------------------------------------------------------------------------------------------


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for GitHub alone; urllib would send it along to wherever an answer leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Comments:
    """The comments of the pull request that this job runs for. Raises ``API_ERRORS``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        event = _object(Path(environment["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        pull_request = event.get("pull_request")
        if not isinstance(pull_request, dict):
            raise ValueError("this job does not run for a pull request")  # noqa: TRY004 - one kind for all
        self._number = int(pull_request["number"])
        self._repository = f"{environment['GITHUB_API_URL']}/repos/{environment['GITHUB_REPOSITORY']}"
        self._user = f"{environment['GITHUB_API_URL']}/user"
        self._token = environment.get("INPUT_GITHUB_TOKEN", "").strip()
        # Python names a header that it does not send, with all that is in it.
        if not (self._token.isascii() and self._token.isprintable()):
            raise ValueError("github-token is not a token: it has more than one line, or characters that no token has")
        self._opener = urllib.request.build_opener(_NoRedirects)

    def write(self, marker: str, body: str) -> None:
        """Replace our comment that starts with ``marker``, or add one."""
        number, url = self._find(marker), f"{self._repository}/issues"
        target = f"{url}/{self._number}/comments" if number is None else f"{url}/comments/{number}"
        written = self._ask("POST" if number is None else "PATCH", target, {"body": f"{marker}\n{body}"})
        int(written["id"])

    def _find(self, marker: str) -> int | None:
        """Return the number of our comment. Others may write the marker too, and what they wrote is not replaced."""
        for page in range(1, MAX_PAGES + 1):
            query = f"per_page={COMMENTS_PER_PAGE}&page={page}"
            found = self._ask("GET", f"{self._repository}/issues/{self._number}/comments?{query}")
            for one in found:
                if str(one.get("body") or "").startswith(marker) and self._is_ours(one.get("user") or {}):
                    return int(one["id"])
            if len(found) < COMMENTS_PER_PAGE:
                break
        return None

    def _is_ours(self, author: Mapping[str, Any]) -> bool:
        if author.get("type") == "Bot":
            return True
        try:  # a token of a person knows its person; that of a job does not
            return bool(self._ask("GET", self._user)["login"] == author.get("login"))
        except API_ERRORS:
            return False

    def _ask(self, method: str, url: str, body: object = None) -> Any:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "User-Agent": "dagferry",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - of the runner
        with self._opener.open(request, timeout=API_SECONDS) as answer:
            return json.loads(answer.read(MAX_API_BYTES))


def comment(environment: Mapping[str, str], body: str) -> str:
    """Write the comment of this deployment; return a warning if that failed, which fails no deploy."""
    names = ("INPUT_SERVER", "INPUT_DEPLOYMENT", "INPUT_PATH", "INPUT_UNDER")
    key = json.dumps([environment.get(name, "") for name in names])
    marker = f"<!-- dagferry {hashlib.sha256(key.encode()).hexdigest()[:16]} -->"
    run = "/".join(environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY"))
    linked = f"{body}\n[This job]({run}/actions/runs/{environment.get('GITHUB_RUN_ID', '')})\n"
    try:
        Comments(environment).write(marker, linked)
    except API_ERRORS as error:
        advice = "The job needs the permission pull-requests: write; it has none for a pull request from a fork."
        return (
            f"The comment could not be written: {error}. {advice if isinstance(error, urllib.error.HTTPError) else ''}"
        )
    return ""


def main(stage: str, code: int, folder: Path, environment: Mapping[str, str]) -> int:
    """Say everything everywhere; return the exit code of the step."""
    result = read_result(stage, code, folder)
    under = environment.get("INPUT_UNDER", "")
    failed = _append(environment, "GITHUB_OUTPUT", output_lines(outputs(result)))
    dags = dags_folder(environment.get("INPUT_PATH", ""))
    for line in annotations(result, dags, under.rstrip("/") + "/" if under else ""):
        _print(line)
    said = summary(result, environment.get("DAGFERRY_DEPLOYMENT", ""), under)
    failed += _append(environment, "GITHUB_STEP_SUMMARY", said)
    for one in failed:
        _print(command("error", one, title="Dagferry"))
    if environment.get("INPUT_COMMENT") == "true" and (warning := comment(environment, said)):
        _print(command("warning", warning, title="Dagferry"))
    return result.code or int(bool(failed))


def _append(environment: Mapping[str, str], name: str, lines: str) -> list[str]:
    """Append lines to the file that a variable names, if there is one; return an error for each that is lost."""
    try:
        if path := environment.get(name):
            with open(path, "ab") as file:
                file.write(lines.encode(errors="replace"))
    except OSError as error:
        return [f"The outcome of the deploy cannot be written to {name}: {error.strerror}. Later steps do not know it."]
    return []


def _print(line: str) -> None:
    sys.stdout.buffer.write(line.encode(errors="replace") + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), os.environ))
