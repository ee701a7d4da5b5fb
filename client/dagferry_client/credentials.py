"""The token that a request carries: one that was given, or in CI the job's own.

GitHub Actions gives a job that asks for it a token that says which repository and branch it runs for; GitLab puts one
into a variable. Neither is ever sent over plain HTTP to another machine, whatever was allowed.
"""

import os
import stat
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import SetupError
from dagferry_core.loopback import is_loopback
from dagferry_follow.remote.connection import is_token, read_token

OIDC_AUDIENCE = "dagferry"
"""The audience that the documentation gives an issuer of CI tokens."""
GITLAB_VARIABLE = "DAGFERRY_ID_TOKEN"
"""Where a GitLab job has its token, by the convention of the library ``id``: the audience and ``_ID_TOKEN``."""
CI_TOKEN_SECONDS = 120.0
"""How long a token of GitHub is used before a new one is asked for. They live five minutes."""
_GITHUB = f"See {DOCUMENTATION}/how-to/deploy-from-github-actions.md#the-smallest-workflow"
_GITLAB = f"See {DOCUMENTATION}/how-to/deploy-from-gitlab.md#set-it-up"


class TokenSource(NamedTuple):
    """A token, or the file that holds it; both empty if none was given. ``source`` says where it came from."""

    token: str = ""
    file: str | None = None
    source: str = ""


class Credentials:
    """Gives each request its token. A file is read again each time, so the token in it can be renewed."""

    def __init__(self, given: TokenSource, server: str, environment: Mapping[str, str]) -> None:
        self._given = given
        self._environment = environment
        url = urlsplit(server)
        self._is_private = url.scheme == "https" or is_loopback(url.hostname or "")
        self._ci_token = ""
        self._ci_token_time = 0.0

    @property
    def source(self) -> str:
        """Where the token comes from, for a person; empty if there is none."""
        if self._given.token or self._given.file or self._given.source:
            return self._given.source
        if self._in_github():
            return "this GitHub Actions job"
        return GITLAB_VARIABLE if self._in_gitlab() else ""

    @property
    def missing_hint(self) -> str:
        """What to do if the server asks for credentials and there are none."""
        if self._environment.get("GITHUB_ACTIONS"):
            if not self._is_private:
                return "The job's own token is only sent over https: use an https:// server."
            return f"Let the job ask for a token: permissions: {{ id-token: write }}. {_GITHUB}"
        if self._environment.get("GITLAB_CI"):
            keyword = f"id_tokens: {{ {GITLAB_VARIABLE}: {{ aud: {OIDC_AUDIENCE} }} }}"
            return f"Give the job a token: {keyword}. {_GITLAB}"
        return (
            "Give a token: in the variable DAGFERRY_TOKEN, or in a file with --token-file. "
            f"See {DOCUMENTATION}/how-to/set-up-credentials.md"
        )

    def headers(self) -> dict[str, str]:
        """Return the header with the token, if there is one; ``TokenUnreadable`` or ``SetupError`` if it fails."""
        token = self._token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _token(self) -> str:
        if self._given.file is not None:
            return read_token(self._given.file)
        if self._given.token or self._given.source:
            return self._given.token
        if self._in_gitlab():
            return self._environment[GITLAB_VARIABLE]
        return self._github_token() if self._in_github() else ""

    def _in_github(self) -> bool:
        names = ("GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL")
        return self._is_private and all(self._environment.get(name) for name in names)

    def _in_gitlab(self) -> bool:
        in_gitlab = bool(self._environment.get("GITLAB_CI"))
        return self._is_private and in_gitlab and is_token(self._environment.get(GITLAB_VARIABLE, ""))

    def _github_token(self) -> str:
        now = time.monotonic()
        if not self._ci_token or now - self._ci_token_time > CI_TOKEN_SECONDS:
            import id as ambient  # noqa: PLC0415 - 12 ms, which only CI needs

            try:
                self._ci_token = ambient.detect_credential(OIDC_AUDIENCE) or ""
            except ambient.IdentityError as error:
                raise SetupError(f"GitHub gave this job no token: {error}.", _GITHUB) from error
            self._ci_token_time = now
        return self._ci_token


def exposed_file(path: str) -> str:
    """Return a warning if other users of this machine may read the token file; empty if not, or if that is unknown."""
    if sys.platform == "win32":
        return ""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ""
    if mode & stat.S_IROTH:
        return f"Other users of this machine may read the token in {path}. Run: chmod 600 {path}"
    return ""
