"""The issuers in force, and what is said of their keys as a whole."""

import json
import os
from pathlib import Path

import pytest

from credentials import issuers_file
from dagferry_server.auth.trust import Trust
from issuer import make_key, public_jwk

RULE = 'claims = { sub = "somebody" }\nscopes = ["sync"]\ndeployments = ["*"]'
KEYS = json.dumps({"keys": [public_jwk(make_key(), "k1")]})


def of_two_issuers(folder: Path) -> Trust:
    text = ""
    for name in ("one", "two"):
        (folder / name).write_text(KEYS)
        keys = f'jwks_file = "{folder / name}"'
        path = issuers_file(folder / "part", f"https://{name}.example", RULE, kind="generic", name=name, keys=keys)
        text += Path(path).read_text()
    (folder / "issuers").write_text(text)
    return Trust(str(folder / "issuers"))


def test_the_keys_of_all_issuers_are_as_good_as_the_worst_and_as_old_as_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = of_two_issuers(tmp_path)
    (_, one), (_, two) = trust.issuers
    start = trust.reloads["issuer_keys"]
    assert start == (None, min(one.reload.succeeded_at, two.reload.succeeded_at))
    monkeypatch.setattr("time.time", lambda: start.succeeded_at + 60)
    (tmp_path / "one").write_text(KEYS + "\n")
    (tmp_path / "two").write_text("broken")
    for _ in range(2):
        one._file.look()
        two._file.look()
    assert one.reload == (None, start.succeeded_at + 60)
    assert trust.reloads["issuer_keys"] == (two.reload.last_error, two.reload.succeeded_at)
    assert two.reload.last_error
    assert trust.reloads["issuers"].last_error is None
    os.unlink(tmp_path / "issuers")
    trust._file.look()
    assert trust.reloads["issuers"].last_error
