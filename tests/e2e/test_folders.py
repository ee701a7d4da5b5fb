"""Two teams deploy and roll back their folders of one Airflow at the same time, and nothing of the other's moves."""

import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from credentials import TokensFile
from dagferry_core.deploylog import decode, entry_sha256
from harness import Server, pack
from treemaker import manifest_of

pytestmark = pytest.mark.slow

TEAMS = ("team-a", "team-b")
DEPLOYS = 25
"""Of each team; every fifth is a rollback to the team's first version, every third a change of the one before."""


@pytest.fixture
def tokens(tmp_path) -> TokensFile:
    return TokensFile(tmp_path / "tokens.toml")


@pytest.fixture
def secrets(tokens) -> dict[str, str]:
    return {name: tokens.add(name, ["deploy"], prefixes=[f"{name}/"]) for name in TEAMS} | {
        "ops": tokens.add("ops", ["deploy"])
    }


@pytest.fixture
def server(tmp_path, tokens, secrets):
    server = Server(tmp_path / "data", "--tokens-file", str(tokens.path), "--keep-deploys", "100").ready()
    yield server
    server.stop()


class Team:
    """A team that deploys to its folder, one deploy after the other, and notes what it was told."""

    def __init__(self, server: Server, name: str, secret: str) -> None:
        self.server = server
        self.name = name
        self.secret = secret
        self.told: list[dict[str, Any]] = []
        self.trees: list[dict[str, bytes]] = []

    def files(self, number: int) -> dict[str, bytes]:
        return {f"job_{name}.py": f"# {self.name} {number // (name + 1)}\n".encode() for name in range(5)} | {
            f"only_{number}.py": b"x = 1\n"
        }

    def work(self) -> None:
        for number in range(DEPLOYS):
            if number and number % 5 == 0:
                self.note(self.rollback(self.told[0]["version"]), self.trees[0])
            elif number and number % 3 == 0:
                self.note(self.change(self.files(number)), self.files(number))
            else:
                path = f"/default/dags/upload?under={self.name}"
                self.note(self.call(path, pack(self.files(number))), self.files(number))

    def change(self, files: dict[str, bytes]) -> dict[str, Any]:
        base, old = self.told[-1]["version"], self.trees[-1]
        changed = {path: body for path, body in files.items() if old.get(path) != body}
        boundary = hashlib.sha256(repr(files).encode()).hexdigest()
        removed = json.dumps(sorted(old.keys() - files.keys()))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, body in changed.items():
                member = tarfile.TarInfo(path)
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
        form = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="removed"\r\n\r\n{removed}\r\n--{boundary}\r\n'
            'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        ).encode()
        form += packed.getvalue() + f"\r\n--{boundary}--\r\n".encode()
        query = f"under={self.name}/&base={base}&digest={manifest_of(files).digest}"
        return self.call(f"/default/dags/upload?{query}", form, f"multipart/form-data; boundary={boundary}")

    def rollback(self, version: str) -> dict[str, Any]:
        body = json.dumps({"version": version, "under": self.name}).encode()
        return self.call("/default/dags/rollback", body, "application/json")

    def call(self, path: str, body: bytes, kind: str = "application/gzip") -> dict[str, Any]:
        status, answer = self.server.request(path, body, Authorization=self.secret, Content_Type=kind)
        assert status == 200, answer
        return json.loads(answer)

    def note(self, told: dict[str, Any], tree: dict[str, bytes]) -> None:
        self.told.append(told)
        self.trees.append(tree)


def files_of(server: Server, version: str, secret: str) -> dict[str, str]:
    status, body = server.request(f"/default/dags/versions/{version}/files", Authorization=secret)
    assert status == 200, body
    return {each["path"]: each["sha256"] for each in json.loads(body)["files"]}


def test_two_teams_deploy_and_roll_back_at_once(server, secrets, tmp_path) -> None:
    server.headers = {"Authorization": secrets["ops"]}
    shared = {"common/shared.py": b"rate = 1\n"}
    server.deploy(shared)
    teams = [Team(server, name, secrets[name]) for name in TEAMS]
    with ThreadPoolExecutor(len(teams)) as pool:
        for done in [pool.submit(team.work) for team in teams]:
            done.result()

    # The log has no gap, is chained, and each deploy in it is the answer that exactly one of them was told.
    log = sorted((tmp_path / "data" / "default" / "deploys").glob("*.json"))
    deploys, before = [], ""
    for sequence, path in enumerate(log, 1):
        data = path.read_bytes()
        deploys.append(decode(data, sequence))
        assert deploys[-1].previous == before
        before = entry_sha256(data)
    told = {answer["version"]: (team, number) for team in teams for number, answer in enumerate(team.told)}
    assert len(told) == len(TEAMS) * DEPLOYS
    assert set(told) == {deploy.version for deploy in deploys[1:]}

    # In every version, each folder is as its team deployed it last; nothing of anybody else's moved.
    now: dict[str, dict[str, bytes]] = {"common": {"shared.py": shared["common/shared.py"]}}
    for deploy in deploys[1:]:
        team, number = told[deploy.version]
        assert (deploy.under, deploy.actor) == (f"{team.name}/", f"token:{team.name}")
        now[team.name] = team.trees[number]
        expected = {
            f"{folder}/{path}": hashlib.sha256(body).hexdigest()
            for folder, files in now.items()
            for path, body in files.items()
        }
        assert files_of(server, deploy.version, secrets["ops"]) == expected
        assert {path.partition("/")[0] for path in team.told[number]["changed_paths"]} <= {team.name}
        assert {path.partition("/")[0] for path in team.told[number]["removed_paths"]} <= {team.name}
