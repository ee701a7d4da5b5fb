"""What Git, or the CI job, says of the dags folder: commit, branch, author, message, repository.

A repository is somebody else's data, and its configuration can name programs to run. So Git runs without monitors,
signatures, pagers and prompts, writes nothing, and has a limited time; whatever fails, a deploy goes on without it.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from dagferry_client.local.folder import checkout

GIT_SECONDS = 5
"""How long Git may take before a deploy goes on without what it would say."""
MAX_FACT_CHARACTERS = 200
SHORT_COMMIT = 7

_HARDENED = (
    *("--no-pager", "--no-optional-locks", "--literal-pathspecs"),
    *("-c", "core.fsmonitor=false", "-c", "log.showSignature=false"),
    # A dags folder may contain what Git takes for a repository: HEAD, objects/, refs/, and a config that runs a filter.
    *("-c", "safe.bareRepository=explicit"),
)
_DROPPED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
            "GIT_PREFIX", "GIT_EXTERNAL_DIFF")  # fmt: skip
"""Set inside a Git hook: they name the repository of the hook, not that of the dags folder."""
_ADDED = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C"}
_STATUS = ("--untracked-files=normal", "--ignore-submodules=all")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class GitFailed(Exception):
    """Git is not installed, took too long or ended with an error, whose first line is the text."""


class Source(NamedTuple):
    """Where the content of a deploy comes from; ``""`` is what is not known.

    ``message`` is the first line of the commit's. ``changed`` says that files in the dags folder are not as committed.
    """

    commit: str = ""
    branch: str = ""
    author: str = ""
    repository: str = ""
    url: str = ""
    message: str = ""
    changed: bool = False

    def facts(self) -> dict[str, str]:
        """Return what is sent with a deploy."""
        named = {name: getattr(self, name) for name in ("commit", "branch", "author", "repository", "url")}
        return {name: value for name, value in named.items() if value}

    def description(self) -> str:
        """Return the description of a deploy that was given none: ``1a2b3c4 Fix the sales load``."""
        text = f"{self.commit[:SHORT_COMMIT]} {self.message}".strip()
        return f"{text} (with changes that are not committed)" if text and self.changed else text


def run_git(folder: str, *arguments: str) -> bytes:
    """Return what ``git`` prints in ``folder``. Raises ``GitFailed``."""
    environment = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    try:
        done = subprocess.run(  # noqa: S603 # the arguments are ours, and end before any path
            [_program(), *_HARDENED, *arguments],
            cwd=folder,
            env={**environment, **_ADDED},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"git took more than {GIT_SECONDS} s") from error
    except OSError as error:
        raise GitFailed(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        raise GitFailed(done.stderr.decode(errors="replace").strip().partition("\n")[0])
    return done.stdout


def _program() -> str:
    """Return the path of Git. One that lies in the current folder is not taken, as Windows would: it came with it."""
    found = shutil.which("git")
    if not found or not os.path.dirname(found) or os.path.samefile(os.path.dirname(found), os.getcwd()):
        raise GitFailed("git cannot be run: it is not installed")
    return found


def read_source(folder: str, environ: Mapping[str, str]) -> tuple[Source, str]:
    """Return where the files in ``folder`` (without links) come from, and a note for the user, ``""`` if there is none.

    What Git does not know, such as the branch of a detached checkout, comes from the variables of a CI job in
    ``environ``.
    """
    job = from_job(environ)
    try:
        status = run_git(folder, "status", "--porcelain=v2", "--branch", "-z", *_STATUS, "--", ".")
        branch, changed = parse_status(status)
        log = run_git(folder, "log", "-1", "--format=%H%x00%an <%ae>%x00%s").decode(errors="replace")
        commit, author, message = map(_cleaned, log.split("\0"))
    except GitFailed as error:
        return _without_git(job, folder, str(error))
    try:
        repository = without_secrets(run_git(folder, "config", "--get", "remote.origin.url").decode(errors="replace"))
    except GitFailed:
        repository = ""
    branch = branch or (job.branch if job.commit in {"", commit} else "")
    repository = repository or job.repository
    return Source(commit, branch, author, repository, commit_url(repository, commit), message, changed), ""


def _without_git(job: Source, folder: str, said: str) -> tuple[Source, str]:
    """Return what is known where Git says nothing."""
    if "dubious ownership" in said:
        return Source(), (
            "Git does not read this checkout, which belongs to another user, so commit and author are not recorded. "
            f"To trust it: git config --global --add safe.directory {shlex.quote(checkout(folder) or folder)}"
        )
    if "not a git repository" in said or "does not have any commits" in said:
        return Source(), ""
    # In a container without Git, the job knows what was checked out.
    if "cannot be run" in said:
        return job, ""
    return Source(), f"Commit and author are not recorded: {said or 'git failed'}."


def parse_status(output: bytes) -> tuple[str, bool]:
    """Return the branch (``""`` if detached), and whether anything is not as committed, from ``git status -z``."""
    lines = output.decode(errors="replace").split("\0")
    head = "# branch.head "
    branch = next((line.removeprefix(head) for line in lines if line.startswith(head)), "")
    return "" if branch == "(detached)" else _cleaned(branch), any(line and line[:2] != "# " for line in lines)


def from_job(environ: Mapping[str, str]) -> Source:
    """Return what the variables of GitHub Actions or GitLab CI say of the checkout."""
    if environ.get("GITHUB_ACTIONS"):
        repository = f"{environ.get('GITHUB_SERVER_URL', '')}/{environ.get('GITHUB_REPOSITORY', '')}"
        commit, author, message = "GITHUB_SHA", "GITHUB_ACTOR", ""
        branches = ["GITHUB_HEAD_REF", "GITHUB_REF_NAME"]
    elif environ.get("GITLAB_CI"):
        repository = environ.get("CI_PROJECT_URL", "")
        commit, author, message = "CI_COMMIT_SHA", "CI_COMMIT_AUTHOR", "CI_COMMIT_TITLE"
        branches = ["CI_COMMIT_REF_NAME"]
    else:
        return Source()
    sha = environ.get(commit, "")
    branch = next((value for name in branches if (value := environ.get(name, ""))), "")
    repository = without_secrets(repository.strip("/"))
    return Source(
        sha,
        _cleaned(branch),
        _cleaned(environ.get(author, "")),
        repository,
        commit_url(repository, sha),
        _cleaned(environ.get(message, "")),
    )


def without_secrets(url: str) -> str:
    """Return the URL of a repository without user, password, query and fragment; a path on this machine is ``""``."""
    url = _cleaned(url)
    if "://" not in url:
        scp = re.fullmatch(r"(?:[^@/:]+@)?([\w.-]+\.[\w-]+):(?!//)(.+)", url)  # git@github.com:owner/repo.git
        return f"ssh://{scp[1]}/{scp[2].lstrip('/')}" if scp else ""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if not parts.hostname or parts.scheme == "file":
        return ""
    return urlunsplit((parts.scheme, parts.hostname + port, parts.path, "", ""))


def commit_url(repository: str, commit: str) -> str:
    """Return the page of a commit, for the hosts whose addresses are known, else ``""``."""
    parts = urlsplit(repository)
    host, path = parts.hostname or "", parts.path.strip("/").removesuffix(".git")
    if not commit or not path:
        return ""
    if host == "github.com" or (host.startswith("github.") and parts.scheme == "https"):
        return f"https://{host}/{path}/commit/{commit}"
    if host == "gitlab.com" or (host.startswith("gitlab.") and parts.scheme == "https"):
        return f"https://{host}/{path}/-/commit/{commit}"
    return ""


def _cleaned(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()[:MAX_FACT_CHARACTERS]
