"""What a commit checks first, and the warning about a repeated request."""

import pytest

from credentials import TokensFile
from dagferry_core.deploylog import Deploy
from dagferry_server.deploys.contents import Head
from dagferry_server.deploys.preconditions import REPEATED_SECONDS, check_match, own_newest, repeated_warnings
from dagferry_server.deploys.request import ANY_VERSION, DeployRequest
from dagferry_server.errors import VersionMismatch
from harness import pack
from running import A, B

NOW = 1_800_000_000.0


def deploy(sequence: int, actor: str = "ann", digit: str = "a", age: int = 0) -> Deploy:
    version = f"20261120T064501Z-{sequence:06d}"
    return Deploy(sequence, version, "sha256:" + digit * 64, "upload", "", actor, int(NOW) - age, 1, 0, 0)


def head(current: Deploy | None, own: Deploy | None = None, *, is_newest: bool = True) -> Head:
    versions = frozenset({current.version} if current else ())
    return Head("prod", current, is_newest, current.sequence if current else 0, "", current, versions, own)


def expects(*versions: str) -> DeployRequest:
    return DeployRequest("ann", if_match=frozenset(versions))


@pytest.mark.parametrize(
    ("current", "request_", "matches"),
    [
        (deploy(1), DeployRequest("ann"), True),
        (None, DeployRequest("ann"), True),
        (deploy(1), expects(deploy(1).version), True),
        (deploy(1), expects("x", deploy(1).version), True),
        (deploy(2), expects(deploy(1).version), False),
        (deploy(1), expects(), False),
        (deploy(1), expects("none"), False),
        (deploy(1), expects(ANY_VERSION), True),
        (None, expects(ANY_VERSION), False),
        (None, expects("none"), True),
        (None, expects(deploy(1).version), False),
    ],
)
def test_the_current_version_is_compared_with_the_expected_ones(current, request_, matches) -> None:
    if matches:
        check_match(head(current), request_)
    else:
        with pytest.raises(VersionMismatch):
            check_match(head(current), request_)


def test_while_the_newest_entry_is_damaged_no_version_is_the_expected_one() -> None:
    for versions in ((deploy(1).version,), (ANY_VERSION,)):
        with pytest.raises(VersionMismatch, match="is damaged") as raised:
            check_match(head(deploy(1), is_newest=False), expects(*versions))
        assert "without If-Match" in raised.value.hint
    check_match(head(deploy(1), is_newest=False), DeployRequest("ann"))


def test_a_mismatch_has_the_current_version_for_programs() -> None:
    with pytest.raises(VersionMismatch) as raised:
        check_match(head(deploy(2, "bob")), expects("x"))
    assert raised.value.as_dict()["version"] == deploy(2).version
    assert raised.value.as_dict()["actor"] == "bob"


@pytest.mark.parametrize(
    ("own", "current", "digit", "warned"),
    [
        (deploy(1), deploy(2, "bob", "b"), "a", True),
        (deploy(1), deploy(2, "bob", "b"), "c", False),
        (deploy(2), deploy(2), "a", False),
        (deploy(2), deploy(2), "b", False),
        (None, deploy(2, "bob", "b"), "a", False),
        (None, None, "a", False),
    ],
)
def test_content_that_its_actor_deployed_before_others_did_is_warned_of(own, current, digit, warned) -> None:
    warnings = repeated_warnings(head(current, own), "sha256:" + digit * 64)
    assert bool(warnings) == warned
    if warned:
        assert current.version in warnings[0]
        assert "'bob'" in warnings[0]


async def test_only_a_deploy_of_the_last_ten_minutes_counts(server) -> None:
    deployment = server.service.deployments["default"]
    for sequence, actor, age in ((1, "ann", REPEATED_SECONDS + 1), (2, "ann", REPEATED_SECONDS), (3, "bob", 0)):
        deployment.recent[sequence] = deploy(sequence, actor, age=age)
    assert own_newest(deployment, "ann", NOW).sequence == 2
    assert own_newest(deployment, "ann", NOW + 1) is None
    assert own_newest(deployment, "bob", NOW).sequence == 3
    assert own_newest(deployment, "eve", NOW) is None


async def test_a_repeated_upload_is_a_warning_in_answer_log_and_history(start, tmp_path, caplog) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    ann, bob = ({"Authorization": tokens.add(name, ["deploy"])} for name in ("ann", "bob"))
    server = await start("--tokens-file", str(tokens.path))

    async def upload(headers, files, query=""):
        path = "/default/dags/upload" + query
        return (await server.call("POST", path, headers=headers, data=pack(files))).json

    first = await upload(ann, A)
    second = await upload(bob, B)
    dry = await upload(ann, A, "?dry_run=1")
    told = await upload(ann, A)
    assert told["sequence"] == 3
    for answer in (dry, told):
        assert len(answer["warnings"]) == 1
        assert first["version"] in answer["warnings"][0]
        assert second["version"] in answer["warnings"][0]
    entry = (await server.call("GET", f"/default/dags/deploys/{told['version']}", headers=ann)).json
    assert (entry["flags"], entry["details"]["warnings"]) == (["repeated"], told["warnings"])
    assert [record.fields["warnings"] for record in caplog.records if record.message == "Upload has warnings"] == [
        dry["warnings"],
        told["warnings"],
    ]
    assert (await upload(bob, B))["warnings"]
    # Without anybody in between it is no repetition.
    assert (await upload(bob, A))["warnings"] == []
