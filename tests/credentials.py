"""Credentials for tests: files of tokens and issuers, and secrets that fit them."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from dagferry_server.auth.access import Scope
from dagferry_server.auth.tokens import new_token

SCOPES: tuple[Scope, ...] = get_args(Scope)


class TokensFile:
    """A tokens file that grows; ``add`` returns the secret of a new entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[str] = []
        self.users: list[str] | None = None
        self.write()

    def write(self) -> None:
        users = "" if self.users is None else "users = [\n" + "\n".join(self.users) + "\n]\n"
        self.path.write_text("tokens = [\n" + "\n".join(self.entries) + "\n]\n" + users)

    def add(
        self,
        name: str,
        scopes: Sequence[Scope],
        deployments: Sequence[str] = ("*",),
        expires: str = "",
        prefixes: Sequence[str] = (),
    ) -> str:
        token = new_token(name, scopes, deployments, prefixes=prefixes)
        entry = token.entry
        if expires:
            entry = entry.removesuffix(" },") + f", expires = {expires} }},"
        self.entries.append(entry)
        self.write()
        return token.secret


def issuers_file(path: Path, url: str, *rules: str, kind: str = "github", name: str = "ci", keys: str = "") -> str:
    """Write an issuers file that trusts ``url`` under these rules, each a TOML table's inside; return its path."""
    text = f'[[issuers]]\nname = "{name}"\nkind = "{kind}"\nissuer = "{url}"\naudience = "dagferry"\n{keys}\n'
    path.write_text(text + "".join(f"[[issuers.rules]]\n{rule}\n" for rule in rules))
    return str(path)
