"""The commands that read and undo, against a real server: what its answers are, and not what tests think they are."""

import json
import subprocess

import pytest

from harness import Server, pack

pytestmark = pytest.mark.slow

FIRST = {"etl.py": b"rate = 1\n", "sql/load.sql": b"select 1\n", "logo.bin": b"\0"}
SECOND = {"etl.py": b"rate = 2\n", "sql/load.sql": b"select 1\n", "new ü.py": b"x = 1\n"}


@pytest.fixture
def deployed(serve) -> Server:
    """A server with two deploys in ``prod``, and nothing in ``staging``."""
    server = serve("--deployments", "prod,staging")
    server.deploy(FIRST, "prod", "?description=The+first")
    server.deploy(SECOND, "prod")
    return server


@pytest.fixture
def run(dagferry, deployed):
    def against(*arguments: str):
        return dagferry(*arguments, DAGFERRY_SERVER=deployed.url, DAGFERRY_DEPLOYMENT="prod")

    return against


def test_what_was_deployed_can_be_seen_compared_and_fetched(run, project) -> None:
    history = run("history", "--json").json["deploys"]
    assert [(one["sequence"], one["description"]) for one in history] == [(2, ""), (1, "The first")]
    first, second = history[1]["version"], history[0]["version"]
    assert run("show", "2", "--json").json["details"]["removed_paths"] == ["logo.bin"]
    files = {one["path"]: one["status"] for one in run("diff", first, second, "--json").json["files"]}
    assert sorted(files.values()) == ["added", "changed", "removed"]
    assert "\n-rate = 1\n+rate = 2\n" in run("diff", "1", "--content").out

    assert run("download", "1", "--extract", "dags").code == 0
    assert run("diff", "dags", "1").out.endswith("There is no difference.\n")
    assert run("diff", "dags", "--json").json["old"] == second
    verified = run("verify", "--all", "--json")
    assert verified.code == 0
    assert [(one["version"], one["state"]) for one in verified.json["contents"]] == [
        (second, "intact"),
        (first, "intact"),
    ]


def test_a_difference_of_contents_turns_one_version_into_the_other(run, project) -> None:
    assert run("download", "1", "--extract", "one").code == 0
    assert run("download", "2", "--extract", "two").code == 0
    (project / "one" / "logo.bin").unlink()  # it is not text, so it is not in the patch
    patch = run("diff", "1", "2", "--content").out.partition("diff --git a/logo.bin")
    rest = patch[2].partition("diff --git")
    text = patch[0] + rest[1] + rest[2]
    subprocess.run(["git", "apply", "--directory=one", "-"], cwd=project, input=text.encode(), check=True)
    assert run("diff", "one", "2").out.endswith("There is no difference.\n")


def test_an_entry_that_was_changed_in_the_store_is_named(serve, run, deployed) -> None:
    deployed.stop()
    entry = deployed.data / "prod" / "deploys" / "000000000001.json"
    entry.chmod(0o600)
    entry.write_bytes(entry.read_bytes().replace(b"The first", b"The worst"))
    again = serve("--deployments", "prod,staging")
    done = run("verify", "--server", again.url)
    assert done.code == 6
    assert "entry 1 is not what it was when entry 2 was made" in done.out


def test_a_rollback_and_a_promote_are_deploys_of_the_same_content(run, deployed) -> None:
    digests = [one["digest"] for one in run("history", "--json").json["deploys"]]
    shown = run("rollback", "--previous", "--dry-run", "--json").json["deployed"]
    assert (shown["digest"], shown["sequence"], shown["dry_run"]) == (digests[1], 2, True)
    done = run("rollback", "--previous", "-m", "It broke")
    assert done.code == 0
    newest = run("history", "--limit", "1", "--json").json["deploys"][0]
    assert (newest["version"], newest["kind"], newest["digest"]) == (done.out.strip(), "rollback", digests[1])
    assert newest["description"] == "It broke"
    assert "already has this content" in run("rollback", "1").err

    promoted = run("promote", "prod", "staging", "--version", "2", "--json")
    assert (promoted.code, promoted.json["deployed"]["digest"]) == (0, digests[0])
    assert deployed.current("staging")["digest"] == digests[0]
    assert run("verify").code == 0


def test_a_digest_of_a_download_is_that_of_what_was_uploaded(run, deployed, project) -> None:
    assert run("download", "1").code == 0
    [archive] = project.glob("prod-*.tar.gz")
    status, body = deployed.request("/staging/dags/upload", archive.read_bytes())
    assert status == 200
    assert json.loads(body)["digest"] == run("show", "1", "--json").json["deploy"]["digest"]


def test_a_rollback_is_waited_for_until_the_pod_has_it(run, deployed, follow) -> None:
    assert run("rollback", "1", "--wait=1s").code == 7
    pod = follow(deployed, "pod-0", "--deployment", "prod")
    first = deployed.current("prod")["version"]
    pod.runs(first)
    done = run("rollback", "2", "--wait", "--json")
    assert (done.code, done.json["live"]) == (0, True)
    assert pod.live == done.json["deployed"]["version"] != first


def test_a_part_is_undone_alone(run, deployed) -> None:
    def part(rate: int) -> bytes:
        return pack({"etl.py": b"rate = %d\n" % rate})

    deployed.deploy(part(1), "prod", "?under=team-a/")
    deployed.deploy(part(2), "prod", "?under=team-a/")
    deployed.deploy(part(7), "prod", "?under=team-b/")
    done = run("rollback", "--previous", "--under", "team-a", "--json")
    assert (done.code, done.json["deployed"]["changed_paths"]) == (0, ["team-a/etl.py"])
    text = run("diff", "5", "--content").out
    assert "\n-rate = 2\n+rate = 1\n" in text
    assert "team-b" not in text
