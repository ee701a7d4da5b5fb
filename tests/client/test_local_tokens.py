"""A tokens file on this machine is understood as the server understands it, as far as a list of tokens goes."""

import pytest

from dagferry_client.local_tokens import parse_local
from dagferry_core.errors import SetupError
from dagferry_server.auth.tokens import new_token, parse_tokens

SHA = "ab" * 32
ENTRY = f'{{ name = "ci", sha256 = "{SHA}", scopes = ["read", "deploy"], deployments = ["prod"] }}'


def test_what_the_server_writes_is_read_alike() -> None:
    entries = [
        new_token("ci", ["deploy", "read"], ["prod", "team-*"], 1801353600.0, ["team-a/"]).entry,
        new_token("pods", ["sync"], ["*"]).entry,
    ]
    data = "tokens = [\n{}\n]".format("\n".join(entries)).encode()
    theirs = parse_tokens(data, with_users=None).tokens
    for ours, their in zip((token.shown for token in parse_local(data).tokens), theirs, strict=True):
        assert (ours.sha256, ours.name, ours.expires) == (their.sha256.hex(), their.name, their.expires)
        assert set(ours.scopes) == their.grant.scopes
        assert (tuple(ours.deployments), tuple(ours.prefixes)) == (their.grant.deployments, their.grant.prefixes)


def test_what_is_not_understood_is_kept() -> None:
    found = parse_local(f'tokens = [{ENTRY[:-1]}, gate = "off" }}]\nusers = []\n'.encode())
    assert found.rest == {"users": []}
    assert found.tokens[0].entry["gate"] == "off"
    assert found.tokens[0].shown.scopes == ["deploy", "read"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no list of tokens"),
        ("tokens = 1", "no list of tokens"),
        ("tokens = [", "not valid TOML"),
        ("tokens = [" + "[" * 100_000, "not valid TOML"),
        ("tokens = [1]", "tokens.0 of the tokens file is not a table"),
        (f"tokens = [{ENTRY}, {ENTRY.replace('name', 'nam')}]", "tokens.1 of the tokens file has no valid name"),
        (f"tokens = [{ENTRY.replace(SHA, 's3cret')}]", "no valid sha256"),
        (f"tokens = [{ENTRY.replace(SHA, SHA.upper())}]", "no valid sha256"),
        (f"tokens = [{ENTRY[:-1]}, expires = 2027-01-31T00:00:00 }}]", "no valid expires"),
        (f"tokens = [{ENTRY[:-1]}, expires = 5 }}]", "no valid expires"),
        ("tokens = [" + ENTRY.replace('["read", "deploy"]', '"read"') + "]", "no valid scopes"),
        (f"tokens = [{ENTRY[:-1]}, prefixes = [1] }}]", "no valid prefixes"),
    ],
)
def test_what_is_no_list_of_tokens_is_refused_and_shows_no_value(text, why) -> None:
    with pytest.raises(SetupError, match=why) as caught:
        parse_local(text.encode())
    assert "s3cret" not in caught.value.message
    assert "tokens = [" in caught.value.hint
