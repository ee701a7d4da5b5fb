"""What is in a bucket is deployed once it has stopped changing, exactly as from a folder, or the function fails."""

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

import deployer
from deployer import Deployer, DeployFailed
from harness import Server, free_port, pack, tree
from localtrees import read, write

pytestmark = pytest.mark.slow

FILES = {"etl.py": b"rate = 1\n", "sql/load ü+1.sql": b"select 1\n", "empty.py": b""}


@pytest.fixture
def fill(store) -> Callable[[dict[str, bytes]], None]:
    def put(files: dict[str, bytes]) -> None:
        for name, content in files.items():
            store.put(f"dags/{name}", content)

    return put


@pytest.fixture
def made(store, server, settings) -> Callable[..., Deployer]:
    """Make a deployer that pauses as the test says, instead of for seconds."""
    settings(store)

    def make(pause: Callable[[float], object] = lambda _: None, bucket: Any = None) -> Deployer:
        return Deployer(bucket or store.opened(), lambda: server.secret, 10, pause)

    return make


class Hooked:
    """A bucket where something happens right before an object is read, the first ``times`` that one is."""

    def __init__(self, bucket: Any, happens: Callable[[], object], times: int = 1) -> None:
        self.url = bucket.url
        self.list = bucket.list
        self._bucket = bucket
        self._left = times
        self._happens = happens

    def read(self, name: str, listed: Any) -> bytes:
        if name == "etl.py" and self._left:
            self._left -= 1
            self._happens()
        return self._bucket.read(name, listed)


def deploys(server: Server, store: Any) -> list[dict[str, Any]]:
    """The log of the deployment, newest first; empty if there is none."""
    status, body = server.get(f"/{store.name}/dags/deploys", Authorization=f"Bearer {server.secret}")
    return json.loads(body)["deploys"] if status == 200 else []


def files(server: Server, store: Any) -> dict[str, Any]:
    version = deploys(server, store)[0]["version"]
    path = f"/{store.name}/dags/versions/{version}/files"
    listed = json.loads(server.get(path, Authorization=f"Bearer {server.secret}")[1])["files"]
    return {one["path"]: one for one in listed}


def test_the_server_gets_what_a_deploy_of_the_same_folder_would_give_it(fill, made, server, store, tmp_path) -> None:
    fill(FILES)
    store.put("dags-old/x.py", b"")
    store.put("plugins.zip", b"x")
    done = made().run()
    digest = read(write(tmp_path / "dags", FILES)).manifest.digest
    assert (done["digest"], done["unchanged"], done["objects"], done["added"]) == (digest, False, 3, 3)
    [logged] = deploys(server, store)
    assert (logged["version"], logged["digest"]) == (done["version"], digest)
    assert logged["description"] == f"{store.opened().url} (3 objects)"
    assert {one["mode"] for one in files(server, store).values()} == {0o644}


def test_what_the_server_has_already_is_said_and_not_deployed_again(fill, made, server, store) -> None:
    fill(FILES)
    function = made()
    first = function.run()
    pauses: list[float] = []
    for again in (function, made(pauses.append)):  # the second one is a new instance, which knows nothing
        done = again.run()
        assert (done["unchanged"], done["version"]) == (True, first["version"])
        assert (done["added"], done["changed"], done["removed"]) == (0, 0, 0)
    assert pauses == [10]
    assert len(deploys(server, store)) == 1


def test_many_events_of_one_upload_wait_once(fill, made) -> None:
    fill(FILES)
    pauses: list[float] = []
    function = made(pauses.append)
    for _ in range(3):
        function.run()
    assert pauses == [10]


def test_a_change_and_a_removal_in_the_bucket_are_deployed(fill, made, server, store) -> None:
    fill(FILES)
    function = made()
    function.run()
    store.put("dags/etl.py", b"rate = 2\n")
    store.remove("dags/sql/load ü+1.sql")
    done = function.run()
    assert (done["added"], done["changed"], done["removed"]) == (0, 1, 1)
    assert set(files(server, store)) == {"etl.py", "empty.py"}


def test_what_somebody_else_deployed_is_replaced_by_the_bucket(fill, made, server, store) -> None:
    fill(FILES)
    function = made()
    first = function.run()
    status, body = server.request(
        f"/{store.name}/dags/upload", pack({**FILES, "etl.py": b"x = 3\n"}), Authorization=f"Bearer {server.secret}"
    )
    assert status == 200, body
    done = function.run()
    assert (done["digest"], done["unchanged"]) == (first["digest"], False)


def test_an_upload_in_progress_is_deployed_when_it_is_over(fill, made, server, store) -> None:
    fill({"a.py": b""})
    rest = [f"b{number}.py" for number in range(3)]

    def upload_one(_: float) -> None:
        if rest:
            store.put(f"dags/{rest.pop()}", b"x = 1\n")

    assert made(upload_one).run()["objects"] == 4
    [logged] = deploys(server, store)
    assert logged["added"] == 4


def test_a_bucket_that_never_settles_fails_and_nothing_is_deployed(fill, made, server, store, monkeypatch) -> None:
    fill(FILES)

    class Clock:
        now = 0.0
        monotonic = staticmethod(lambda: Clock.now)

    monkeypatch.setattr(deployer, "time", Clock)

    def change(seconds: float) -> None:
        Clock.now += seconds
        store.put("dags/etl.py", f"rate = {Clock.now}\n".encode())

    with pytest.raises(DeployFailed, match=r"could not be fetched as it was for 10 s within 150 s"):
        made(change).run()
    assert deploys(server, store) == []


def test_an_object_that_is_replaced_between_list_and_fetch_is_never_mixed_in(fill, made, server, store) -> None:
    fill(FILES)

    def replace() -> None:
        store.put("dags/etl.py", b"rate = 9\n")  # of the same size
        store.put("dags/later.py", b"")

    assert made(bucket=Hooked(store.opened(), replace)).run()["objects"] == 4
    assert len(deploys(server, store)) == 1
    assert {"etl.py", "later.py"} < set(files(server, store))


def test_an_object_that_is_removed_between_list_and_fetch_is_not_deployed(fill, made, server, store) -> None:
    fill(FILES)
    assert made(bucket=Hooked(store.opened(), lambda: store.remove("dags/etl.py"))).run()["objects"] == 2
    assert set(files(server, store)) == {"empty.py", "sql/load ü+1.sql"}


def test_an_older_list_never_replaces_a_newer_one(fill, made, server, store) -> None:
    fill(FILES)
    newer: list[dict[str, Any]] = []

    def another_run() -> None:
        store.put("dags/new.py", b"x = 1\n")
        newer.append(made().run())

    done = made(bucket=Hooked(store.opened(), another_run)).run()
    assert (done["version"], done["unchanged"]) == (newer[0]["version"], True)
    assert len(deploys(server, store)) == 1
    assert "new.py" in files(server, store)


def test_two_events_at_once_make_one_deploy(fill, made, server, store) -> None:
    fill(FILES)
    function = made()
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(function.run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["unchanged"] for one in results) == [False, True]
    assert len(deploys(server, store)) == 1


def test_a_list_of_several_pages_is_deployed_as_a_whole(made, store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"dags/{number % 7}/t{number}.py", b"x = 1\n"), range(2500)))
    done = made().run()
    assert (done["objects"], done["added"]) == (2500, 2500)


def test_objects_that_stand_for_folders_are_no_files(fill, made, server, store) -> None:
    fill({"": b"", "sql/": b"", "sql/deep/": b"", "etl.py": b""})
    assert made().run()["objects"] == 1
    assert set(files(server, store)) == {"etl.py"}


@pytest.mark.parametrize("others", [{}, {"": b"", "sql/": b""}], ids=["no objects", "only folders"])
def test_an_empty_bucket_is_never_deployed(fill, made, server, store, others) -> None:
    fill({"etl.py": b"", **others})
    function = made()
    function.run()
    store.remove("dags/etl.py")
    with pytest.raises(DeployFailed, match=r"has no objects. An empty bucket is never deployed"):
        function.run()
    assert set(files(server, store)) == {"etl.py"}


def test_a_bucket_that_lost_most_of_its_dags_is_refused_by_the_server(fill, made, server, store) -> None:
    names = [f"dag{number}.py" for number in range(6)]
    fill(dict.fromkeys(names, b"from airflow import DAG\nwith DAG('x'):\n    pass\n"))
    function = made()
    function.run()
    for name in names[1:]:
        store.remove(f"dags/{name}")
    with pytest.raises(DeployFailed, match=r"exit code 3: .* would remove"):
        function.run()
    assert len(files(server, store)) == 6


def test_what_the_gate_refuses_fails_and_names_the_file(fill, made, server, store, capsys) -> None:
    fill({"etl.py": b"from airflow import DAG\ndef (\n"})
    with pytest.raises(DeployFailed, match=r"exit code 3: "):
        made().run()
    assert '"etl.py"' in capsys.readouterr().out
    assert deploys(server, store) == []


def test_git_does_not_read_a_git_folder_in_the_bucket(fill, made, server, store, tmp_path) -> None:
    folder = write(tmp_path / "dags", {"etl.py": b""})
    author = ("-c", "user.name=ann", "-c", "user.email=ann@example.com")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "First")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    fill({path: content for path, content in tree(folder).items() if not path.endswith(".sample")})
    made().run()
    assert deploys(server, store)[0]["git"] is None
    assert set(files(server, store)) == {"etl.py"}


def test_a_server_that_is_away_fails(fill, made, settings, store) -> None:
    fill(FILES)
    function = made()
    settings(store, DAGFERRY_SERVER=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DeployFailed, match=r"exit code 5: "):
        function.run()


def test_a_token_that_may_not_deploy_fails(fill, store, made) -> None:
    fill(FILES)
    with pytest.raises(DeployFailed, match=r"exit code 4: "):
        Deployer(store.opened(), lambda: "dgf_" + "0" * 52, 10, lambda _: None).run()


def test_a_command_that_never_ends_fails(fill, made, monkeypatch) -> None:
    fill(FILES)
    monkeypatch.setattr(deployer, "QUESTION_SECONDS", 0.01)
    with pytest.raises(DeployFailed, match=r"dagferry history took more than"):
        made().run()


def test_more_bytes_than_fit_are_refused_with_the_largest_object(fill, made, monkeypatch) -> None:
    fill(FILES)
    monkeypatch.setattr(deployer, "MAX_TOTAL_BYTES", 17)
    with pytest.raises(DeployFailed, match=r"has 18 bytes; at most 17 .* is 'etl.py' with 9 bytes"):
        made().run()


def test_more_objects_than_allowed_are_refused(fill, made, monkeypatch) -> None:
    fill(FILES)
    monkeypatch.setattr(deployer, "MAX_FILES", 2)
    with pytest.raises(DeployFailed, match=r"has more than 2 objects"):
        made().run()


# --- names, in which stores differ, so that these buckets are made up -------------------------------------------------


class Names:
    """A bucket with objects of these names, whose content must not be asked for."""

    url = "s3://b/dags/"

    def __init__(self, *names: str) -> None:
        self._names = names

    def list(self, _most: int) -> dict[str, deployer.Listed]:
        return {name: deployer.Listed("1", 1) for name in self._names}


@pytest.mark.parametrize("kind", ["moto"], indirect=True)
@pytest.mark.parametrize(
    ("names", "named", "why"),
    [
        (["../x.py"], "'../x.py'", "'..' component"),
        (["a/../../x"], "'a/../../x'", "'..' component"),
        (["/etc/x"], "'/etc/x'", "is absolute"),
        (["a//b.py"], "'a//b.py'", "an empty"),
        (["./a.py"], "'./a.py'", "another name"),
        (["a\\b.py"], r"'a\\\\b.py'", "backslash"),
        (["a\nb.py"], r"'a\\nb.py'", "control character"),
        (["x\ud800.py"], r"'x\\ud800.py'", "not UTF-8"),
        (["a" * 256], "'aaa", "256 bytes|more than 255"),
        (["sql/"], "'sql/'", "another name"),
        (["a", "a/b.py"], "'a'", "objects in a folder of this name"),
    ],
    ids=["parent", "parents", "absolute", "empty", "dot", "backslash", "line", "utf8", "long", "folder", "both"],
)
def test_a_name_that_is_no_path_is_refused_and_named(made, names, named, why) -> None:
    with pytest.raises(DeployFailed, match=rf"has the object {named}.*(?:{why})"):
        made(bucket=Names("ok.py", *names)).run()
