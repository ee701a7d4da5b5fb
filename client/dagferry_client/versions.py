"""Which version a person means: its whole name, its number, or how its name begins.

- ``20261120T064501Z-000042`` is the name.
- ``42`` is the number of the deploy in the log. A text of digits is always a number, never the beginning of a name.
- ``20261120T06`` is the beginning of a name, at least up to the ``T``; there must be only one such version.
"""

import re

from dagferry_client.api import MAX_PAGE_DEPLOYS, Api
from dagferry_client.deploy_log import LoggedDeploy
from dagferry_client.errors import RequestNotAllowed
from dagferry_core.errors import SetupError
from dagferry_core.names import MAX_SEQUENCE, version_sequence

MAX_SEARCHED_DEPLOYS = 20_000
"""How many deploys are searched for a beginning of a name."""
MAX_SUGGESTED = 3
_NUMBER = re.compile(r"[0-9]{1,12}")
_BEGINNING = re.compile(r"[0-9]{8}T[0-9]{0,6}(Z(-[0-9]{0,12})?)?")
_LISTED = "List the versions with: dagferry history"


def is_version(text: str) -> bool:
    """Return whether ``text`` may name a version; a folder of such a name is written ``./42``."""
    return bool(_NUMBER.fullmatch(text) or _BEGINNING.fullmatch(text))


def find_version(api: Api, deployment: str, text: str) -> str:
    """Return the whole name of the version that ``text`` means.

    Raises ``SetupError`` if it means several, or is not a version, ``RequestNotAllowed`` if there is none. Whether a
    whole name exists is for the request that uses it.
    """
    if _NUMBER.fullmatch(text):
        return _numbered(api, deployment, int(text))
    if not _BEGINNING.fullmatch(text):
        raise SetupError(
            f"{text!r} is not a version: use its name, its number, or how its name begins, such as 20261120T06.",
            _LISTED,
        )
    try:
        version_sequence(text)
    except ValueError:
        return _beginning(api, deployment, text)
    return text


def current(api: Api, deployment: str) -> LoggedDeploy:
    """Return the newest deploy; raise ``RequestNotAllowed`` if there is none."""
    deploys = api.log(deployment, 1).deploys
    if not deploys:
        raise RequestNotAllowed(
            f"Nothing is deployed to {deployment} yet.", "Deploy with: dagferry deploy", reason="nothing_deployed"
        )
    return deploys[0]


def _numbered(api: Api, deployment: str, sequence: int) -> str:
    if 0 < sequence <= MAX_SEQUENCE:
        for deploy in api.log(deployment, 1, sequence + 1).deploys:
            if deploy.sequence == sequence:
                return deploy.version
    raise _unknown(deployment, str(sequence))


def _beginning(api: Api, deployment: str, text: str) -> str:
    found: list[str] = []
    for searched, deploy in enumerate(api.logged(deployment, MAX_PAGE_DEPLOYS)):
        if deploy.version.startswith(text):
            found.append(deploy.version)
        # Times never run backwards in the log, so what comes after is older still.
        elif deploy.version[: len(text)] < text or searched >= MAX_SEARCHED_DEPLOYS:
            break
    if len(found) > 1:
        more = ", …" if len(found) > MAX_SUGGESTED else ""
        raise SetupError(
            f"{len(found)} versions of {deployment} begin with {text}: {', '.join(found[:MAX_SUGGESTED])}{more}.",
            "Give more of the name, or its number.",
        )
    if not found:
        raise _unknown(deployment, text)
    return found[0]


def _unknown(deployment: str, text: str) -> RequestNotAllowed:
    return RequestNotAllowed(f"{deployment} has no version {text}.", _LISTED, reason="version_not_found")
