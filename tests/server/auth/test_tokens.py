"""The tokens file: what it says is what counts, and half of it is nothing."""

import hashlib
import re
from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Scope
from dagferry_server.auth.tokens import MAX_TOKENS, ending, new_token, parse_tokens, token_caller
from dagferry_server.config.watched import WatchedFile
from dagferry_server.errors import CredentialsRefused

SHA = hashlib.sha256(b"s3cret").hexdigest()
OTHER_SHA = hashlib.sha256(b"other").hexdigest()
ENTRY = f'{{ name = "ci", sha256 = "{SHA}", scopes = ["deploy"], deployments = ["prod", "team-*"] }}'
USERS = 'users = [ { name = "*@example.com", scopes = ["read"], deployments = ["*"] } ]'
FILE = f"""# who may do what
tokens = [
  {ENTRY},
  {{ name = "pods", sha256 = "{OTHER_SHA}", scopes = ["sync"], deployments = ["*"], expires = 2027-01-31T00:00:00Z }},
]
"""
EXPIRES = 1801353600.0


def test_a_secret_gives_its_entry_s_name_scopes_and_deployments() -> None:
    caller = token_caller(parse_tokens(FILE.encode(), with_users=False).tokens, "s3cret", now=0)
    assert caller
    assert (caller.actor, caller.expires) == ("token:ci", None)
    assert caller.scopes("team-a") == {"deploy", "read"}
    assert not caller.scopes("other")


@pytest.mark.parametrize("secret", ["", "S3cret", "s3cret ", SHA, "s3cre", "\udcff"])
def test_any_other_secret_is_nobody_s(secret: str) -> None:
    assert token_caller(parse_tokens(FILE.encode(), with_users=False).tokens, secret, now=0) is None


def test_a_token_ends_at_the_second_its_entry_says() -> None:
    tokens = parse_tokens(FILE.encode(), with_users=False).tokens
    caller = token_caller(tokens, "other", now=EXPIRES - 0.001)
    assert caller
    assert caller.expires == EXPIRES
    with pytest.raises(CredentialsRefused, match="'pods' expired at 2027-01-31T00:00:00Z"):
        token_caller(tokens, "other", now=EXPIRES)


def test_tokens_and_users_may_be_limited_to_folders() -> None:
    user = 'users = [ { name = "*", scopes = ["deploy"], deployments = ["prod"], prefixes = ["team-b/"] } ]'
    text = f'tokens = [{ENTRY[:-1]}, prefixes = ["team-a/"], gate = "off" }}]\n{user}'
    tokens = parse_tokens(text.encode(), with_users=True)
    assert (tokens.tokens[0].grant.prefixes, tokens.tokens[0].grant.gate) == (("team-a/",), "off")
    assert tokens.users[0].grant.prefixes == ("team-b/",)


def test_a_token_is_rotated_by_two_entries_of_one_name() -> None:
    text = f"tokens = [{ENTRY}, {ENTRY.replace(SHA, OTHER_SHA)}]"
    tokens = parse_tokens(text.encode(), with_users=False).tokens
    assert [token_caller(tokens, secret, now=0) for secret in ("s3cret", "other")] == [
        token_caller(tokens, "s3cret", now=0)
    ] * 2


def test_no_beginning_of_a_file_is_a_file() -> None:
    for text, with_users in ((FILE, False), (FILE + USERS, True), (USERS + "\n" + FILE, True)):
        data = text.encode()
        assert parse_tokens(data, with_users=with_users).tokens
        for length in range(len(data.rstrip())):
            with pytest.raises(SetupError):
                parse_tokens(data[:length], with_users=with_users)


def test_a_file_written_slowly_is_taken_when_it_is_whole_and_never_before(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    file = WatchedFile(str(path), lambda data: parse_tokens(data, with_users=False))
    before = file.value
    changed = FILE.replace('"deploy"', '"read"')
    for length in range(0, len(changed.rstrip()), 7):
        path.write_text(changed[:length])
        file.look()
        file.look()
        assert file.value is before
    path.write_text(changed)
    file.look()
    file.look()
    assert file.value.tokens[0].grant.scopes == {"read"}
    assert file.last_error is None


def with_entry(old: str, new: str) -> str:
    assert old in ENTRY
    return f"tokens = [{ENTRY.replace(old, new)}]"


def entries(count: int) -> str:
    return "tokens = [" + ",".join(ENTRY.replace(SHA, f"{number:064x}") for number in range(count)) + "]"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "tokens: Field required"),
        ("tokens = 1", "valid tuple"),
        (f'[[tokens]]\nname = "ci"\nsha256 = "{SHA}"\nscopes = ["deploy"]\ndeployments = ["prod"]', "tables"),
        (f"tokens = [{ENTRY}, {ENTRY}]", "same sha256"),
        (with_entry('"deploy"', '"owner"'), "tokens.0.scopes"),
        (with_entry('"deploy"', ""), "tokens.0.scopes"),
        (with_entry('"prod", "team-*"', ""), "tokens.0.deployments"),
        (with_entry("team-*", "Team-*"), "tokens.0.deployments.1"),
        (with_entry("team-*", "../x"), "tokens.0.deployments.1"),
        (with_entry("team-*", "x\\n"), "tokens.0.deployments.1"),
        (with_entry(SHA, SHA[:-1]), "tokens.0.sha256"),
        (with_entry(SHA, SHA.upper()), "tokens.0.sha256"),
        (with_entry("sha256", "secret"), "tokens.0.sha256"),
        (with_entry('"ci"', '""'), "tokens.0.name"),
        (with_entry('"ci"', '"a\\nb"'), "tokens.0.name"),
        (with_entry("}", ", expires = 2027-01-31 }"), "tokens.0.expires"),
        (with_entry("}", ", expires = 2027-01-31T00:00:00 }"), "tokens.0.expires"),
        (with_entry("}", ", expires = 1801353600 }"), "tokens.0.expires"),
        (with_entry("}", ", expiry = 1 }"), "tokens.0.expiry"),
        (f"tokens = [{ENTRY}]\nother = 1", "other"),
        (f"tokens = [{ENTRY}]\n{USERS}", "no forwarding proxy"),
        ("tokens = [" + "[" * 100_000, "TOML"),
        (entries(MAX_TOKENS + 1), "at most 1000"),
        ("\xff", "TOML"),
    ],
)
def test_what_is_not_exactly_right_is_refused_and_the_key_is_named(text: str, why: str) -> None:
    with pytest.raises(SetupError, match=re.escape(why)):
        parse_tokens(text.encode("latin-1"), with_users=False)


def test_an_error_never_shows_the_content_of_the_file() -> None:
    with pytest.raises(SetupError) as caught:
        parse_tokens(with_entry(SHA, "s3cret-put-here-by-mistake").encode(), with_users=False)
    assert "s3cret" not in caught.value.message


def test_users_are_wanted_if_and_only_if_there_is_a_proxy() -> None:
    assert parse_tokens(f"tokens = []\n{USERS}".encode(), with_users=True).users[0].name == "*@example.com"
    with pytest.raises(SetupError, match="no users"):
        parse_tokens(FILE.encode(), with_users=True)


def test_a_new_token_is_known_by_the_entry_printed_with_it() -> None:
    scopes: list[Scope] = ["deploy", "override"]
    secret, entry = new_token("ci", scopes, ["prod", "team-*"])
    assert re.fullmatch("dgf_[A-Za-z0-9_-]{43}", secret)
    assert secret not in entry
    caller = token_caller(parse_tokens(f"tokens = [\n{entry}\n]".encode(), with_users=False).tokens, secret, now=0)
    assert caller
    assert caller.scopes("team-a") == {"deploy", "override", "read"}
    assert new_token("ci", scopes, ["prod"]).secret != secret


def test_a_new_token_may_be_limited_to_folders() -> None:
    entry = new_token("ci", ["deploy"], ["prod"], 0, ["team-a/", 'a "quoted" földer/']).entry
    [token] = parse_tokens(f"tokens = [\n{entry}\n]".encode(), with_users=False).tokens
    assert token.grant.prefixes == ("team-a/", 'a "quoted" földer/')
    assert token.expires == 0
    with pytest.raises(SetupError, match="deploy"):
        new_token("ci", ["read"], ["prod"], None, ["team-a/"])


@pytest.mark.parametrize(
    ("name", "deployments"), [('a"', ["prod"]), ("", ["prod"]), ("a", []), ("a", ["Prod"]), ("a", ['x"], b = ["'])]
)
def test_a_new_token_is_refused_if_its_entry_would_be(name: str, deployments: list[str]) -> None:
    with pytest.raises(SetupError):
        new_token(name, ["read"], deployments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ENTRY,
        ENTRY + ",",
        f"[[tokens]]\n{ENTRY[2:-2].replace(', ', chr(10))}",
        "tokens = 1",
        "tokens = [",
        'name = "ci"',
        f"tokens = [ {ENTRY.replace('deploy', 'root')} ]",
    ],
)
def test_an_error_shows_how_the_file_must_look(text: str) -> None:
    with pytest.raises(SetupError) as caught:
        parse_tokens(text.encode(), with_users=False)
    shown = caught.value.hint.partition("\n")[2]
    assert len(shown.splitlines()) == 3
    assert parse_tokens(shown.replace("…", SHA).encode(), with_users=False).tokens[0].name == "ci"


def test_the_names_that_end_are_those_without_a_later_token() -> None:
    times = {"none": [""], "soon": ["2027-01-31"], "gone": ["2020-01-31"], "rotated": ["2027-01-31", "2028-01-31"]}
    times["for ever"] = ["2027-01-31", ""]
    entries = [
        f'{{ name = "{name}", sha256 = "{hashlib.sha256((name + end).encode()).hexdigest()}", scopes = ["read"], '
        f'deployments = ["*"]{f", expires = {end}T00:00:00Z" if end else ""} }}'
        for name, ends in times.items()
        for end in ends
    ]
    text = f"tokens = [{', '.join(entries)}]".replace("for ever", "for-ever")
    tokens = parse_tokens(text.encode(), with_users=False).tokens
    assert ending(tokens, EXPIRES - 1) == {"soon": EXPIRES, "rotated": EXPIRES + 365 * 86400}
    assert ending(tokens, EXPIRES) == {"rotated": EXPIRES + 365 * 86400}
