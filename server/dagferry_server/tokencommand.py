"""``dagferry-server token new``: makes a secret, prints it once, and the entry of the tokens file that goes with it."""

import re
import sys
from collections.abc import Mapping, Sequence

from dagferry_core.command import Setting, parse
from dagferry_core.errors import SetupError
from dagferry_server.auth.access import SCOPES, Scope
from dagferry_server.auth.configfile import DEPLOYMENT_PATTERN
from dagferry_server.auth.tokens import NAME_PATTERN, new_token


def _scopes(text: str) -> tuple[Scope, ...]:
    asked = {part.strip() for part in text.split(",")}
    if not asked <= set(SCOPES):
        raise ValueError(f"scopes are expected, separated by commas: {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in asked)


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("1 to 100 letters, digits, . _ @ or - are expected, the first a letter or digit")
    return text


def _deployments(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(DEPLOYMENT_PATTERN, name) for name in names):
        raise ValueError("names of deployments are expected, separated by commas: a-z, 0-9, inner hyphens and *")
    return names


SETTINGS: tuple[Setting, ...] = (
    Setting("--name", _name, None, "NAME", "Who will hold the token, as the deploy log will name them."),
    Setting("--scopes", _scopes, None, "SCOPE,…", f"What it is for: {', '.join(SCOPES)}."),
    Setting("--deployments", _deployments, None, "NAME,…", "The deployments it is for; * stands for any letters."),
)


def token_new(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print the secret in the first line, the entry in the second, and what to do with them on stderr."""
    values = parse("dagferry-server token new", "Make a token.", SETTINGS, arguments, environment)
    for setting in SETTINGS:
        if values[setting.name] is None:
            raise SetupError(f"{setting.flag} is required.")
    token = new_token(values["name"], values["scopes"], values["deployments"])
    sys.stdout.write(f"{token.secret}\n{token.entry}\n")
    sys.stderr.write("The first line is the secret, shown this once. Paste the second into tokens = [ … ].\n")
    return 0
