"""What the server has is known from the cache or from the server, and is never taken for something else."""

import pytest

from dagferry_client.base import MAX_SEARCHED_DEPLOYS, MIN_LISTED_BYTES, Base, Known, below, find_base
from dagferry_client.deploy_log import Files, ListedFile, LoggedDeploy, LogPage
from dagferry_client.errors import RequestNotAllowed
from dagferry_client.local.manifest_cache import ManifestCache
from dagferry_core.bundle.manifest import Entry, Manifest
from recorded_answers import logged

MANIFEST = Manifest(Entry(path, 1, 0o644, f"{n:064x}") for n, path in enumerate(["a/x.py", "ab.py", "b/y.py"]))


class Server:
    """Has these deploys, newest first, and this list of files."""

    def __init__(self, *deploys: dict[str, object], files: Manifest | Exception = MANIFEST) -> None:
        self.deploys = [LoggedDeploy(**{"digest": MANIFEST.digest, **one}) for one in deploys]
        self._files = files
        self.asked: list[object] = []

    def log(self, deployment: str, limit: int) -> LogPage:
        self.asked.append(("log", deployment, limit))
        return LogPage(self.deploys[:limit], None)

    def files(self, deployment: str, version: str) -> Files:
        self.asked.append(("files", deployment, version))
        if isinstance(self._files, Exception):
            raise self._files
        return Files(version, self._files.digest, [ListedFile(*entry) for entry in self._files.files.values()])


def entry(sequence: int = 42, **changed: object) -> dict[str, object]:
    return logged(sequence, digest=MANIFEST.digest, **changed)


@pytest.fixture
def cache(tmp_path) -> ManifestCache:
    return ManifestCache(str(tmp_path / "manifests"))


def test_nothing_is_the_base_of_a_first_deploy(cache) -> None:
    assert find_base(Server(), "prod", "", 1 << 30, cache) == Known(None, None)


def test_a_cached_manifest_needs_one_request(cache) -> None:
    cache.save(MANIFEST)
    server = Server(entry(), entry(41))
    last, base = find_base(server, "prod", "", 1 << 30, cache)
    assert last == server.deploys[0]
    assert (base.version, base.manifest.files) == (last.version, MANIFEST.files)
    assert server.asked == [("log", "prod", 1)]


def test_another_manifest_is_asked_for_if_the_folder_is_large_and_then_kept(cache) -> None:
    server = Server(entry())
    _, base = find_base(server, "prod", "", MIN_LISTED_BYTES, cache)
    assert base.manifest.digest == MANIFEST.digest
    assert server.asked[1:] == [("files", "prod", base.version)]
    assert cache.load(MANIFEST.digest)


def test_a_small_folder_is_sent_whole(cache) -> None:
    server = Server(entry())
    assert find_base(server, "prod", "", MIN_LISTED_BYTES - 1, cache) == Known(server.deploys[0], None)
    assert len(server.asked) == 1


@pytest.mark.parametrize("files", [RequestNotAllowed("No."), Manifest(()), Manifest([*MANIFEST.files.values()][:2])])
def test_a_list_that_is_not_to_be_had_or_is_of_something_else_is_no_base(cache, files) -> None:
    server = Server(entry(), files=files)
    assert find_base(server, "prod", "", MIN_LISTED_BYTES, cache).base is None
    assert cache.load(MANIFEST.digest) is None


def test_the_last_deploy_of_a_folder_is_searched_for_and_the_base_is_the_newest_of_all(cache) -> None:
    cache.save(MANIFEST)
    server = Server(entry(42, under="b/"), entry(41, under="a/"), entry(40, under="a/"))
    last, base = find_base(server, "prod", "a/", 0, cache)
    assert last == server.deploys[1]
    assert base == Base(server.deploys[0].version, base.manifest)
    assert list(base.manifest.files) == ["x.py"]
    assert server.asked == [("log", "prod", MAX_SEARCHED_DEPLOYS)]


def test_a_folder_has_the_files_below_it_with_shorter_paths() -> None:
    assert below(MANIFEST, "") is MANIFEST
    assert below(MANIFEST, "a/").files == {"x.py": MANIFEST.files["a/x.py"]._replace(path="x.py")}
    assert below(MANIFEST, "c/").files == {}
