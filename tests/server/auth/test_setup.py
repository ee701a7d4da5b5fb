"""What the settings say becomes what tells callers apart."""

from pathlib import Path

import pytest

from credentials import TokensFile, issuers_file
from dagferry_core.errors import SetupError
from dagferry_server.auth.setup import make_authenticator
from dagferry_server.settings import read_settings

RULE = 'claims = { sub = "somebody" }\nscopes = ["sync"]\ndeployments = ["*"]'


def flags(folder: Path) -> dict[str, list[str]]:
    """The flags of each kind of credentials, with good files."""
    tokens = TokensFile(folder / "tokens")
    tokens.users = ['{ name = "ann", scopes = ["read"], deployments = ["*"] }']
    tokens.write()
    TokensFile(folder / "only-tokens")
    (folder / "secret").write_text("s" * 32)
    issuers = issuers_file(folder / "issuers", "https://issuer.example", RULE, kind="generic")
    return {
        "none": [],
        "tokens": ["--tokens-file", str(folder / "only-tokens")],
        "issuers": ["--issuers-file", issuers],
        "proxy": [
            *("--tokens-file", str(tokens.path), "--proxy-user-header", "X-User"),
            *("--proxy-secret-file", str(folder / "secret")),
        ],
    }


@pytest.mark.parametrize("kind", ["none", "tokens", "issuers", "proxy"])
def test_it_is_closed_if_and_only_if_the_settings_say_so(tmp_path, kind) -> None:
    settings = read_settings(flags(tmp_path)[kind], {})
    authenticator = make_authenticator(settings)
    assert authenticator.auth_required == settings.auth_required == (kind != "none")
    assert not any(reload.last_error for reload in authenticator.reloads.values())


def test_an_empty_tokens_file_lets_in_nobody_instead_of_everybody(tmp_path) -> None:
    assert make_authenticator(read_settings(["--tokens-file", str(TokensFile(tmp_path / "t").path)], {})).auth_required


@pytest.mark.parametrize("broken", ["only-tokens", "issuers", "secret", "tokens"])
def test_a_file_that_cannot_be_used_ends_the_command(tmp_path, broken) -> None:
    every = flags(tmp_path)
    kind = {"only-tokens": "tokens", "issuers": "issuers"}.get(broken, "proxy")
    (tmp_path / broken).write_text("short")
    with pytest.raises(SetupError):
        make_authenticator(read_settings(every[kind], {}))


@pytest.mark.parametrize("key", ["jwks_file", "ca_file", "bearer_token_file"])
@pytest.mark.parametrize("content", [None, ""])
def test_a_file_that_an_issuer_needs_does_too(tmp_path, key, content) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    issuers = issuers_file(
        tmp_path / "issuers", "https://issuer.example", RULE, kind="generic", keys=f'{key} = "{tmp_path}/file"'
    )
    with pytest.raises(SetupError, match=f"{tmp_path}/file"):
        make_authenticator(read_settings(["--issuers-file", issuers], {}))
