"""A bundle that is pointed at another log does not take what is there of the one before for its own."""

import json

import pytest

from dagferry_airflow.follower import Follower
from dagferry_airflow.live import live_version
from dagferry_airflow.origins import Origins
from dagferry_airflow.versions import Versions
from dagferry_follow.remote.server import Server

VERSION = "20261120T064501Z-000001"
OURS = {"etl.py": b"ours = 1\n"}
THEIRS = {"etl.py": b"theirs = 1\n"}


def test_what_was_noted_is_known_to_the_same_address_only(tmp_path) -> None:
    origins = Origins(tmp_path, "http://one", "prod")
    assert origins.log_id() == ""
    origins.note("log-1")
    assert Origins(tmp_path, "http://one", "prod").log_id() == "log-1"
    for other in (Origins(tmp_path, "http://two", "prod"), Origins(tmp_path, "http://one", "staging")):
        assert other.log_id() is None
    other.note("log-2")
    assert (origins.log_id(), other.log_id()) == (None, "log-2")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"x" * 10_000])
def test_a_file_that_is_damaged_is_as_if_it_were_not_there(tmp_path, content) -> None:
    (tmp_path / "origin.json").write_bytes(content)
    origins = Origins(tmp_path, "http://one", "prod")
    assert origins.log_id() == ""
    origins.note("log-1")
    assert origins.log_id() == "log-1"


def test_a_folder_of_an_older_release_is_used_and_versions_that_are_gone_are_forgotten(tmp_path) -> None:
    origins = Origins(tmp_path, "http://one", "prod")
    (tmp_path / "versions" / VERSION).mkdir(parents=True)
    assert origins.is_usable(VERSION, "log-1")
    origins.note_version(VERSION, "log-1")
    assert origins.is_usable(VERSION, "log-1")
    assert origins.is_usable(VERSION, "")
    assert not origins.is_usable(VERSION, "log-2")
    (tmp_path / "versions" / VERSION).rmdir()
    assert not origins.is_usable(VERSION, "log-1")
    origins.note_version("another", "log-1")
    assert [path.name for path in (tmp_path / "origins").iterdir()] == ["another"]
    assert json.loads((tmp_path / "origins/another").read_text()) == {"log_id": "log-1"}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    origins = Origins(tmp_path / "file", "http://one", "prod")
    origins.note("log-1")
    origins.note_version(VERSION, "log-1")
    assert origins.log_id() == ""


# --- with a server ---------------------------------------------------------------------------------------------------


class Bundle:
    """The parts of a bundle that follow ``fake`` under a deployment's name, without Airflow."""

    def __init__(self, folder, fake, deployment: str) -> None:
        self.folder, self.fake = folder, fake
        self.origins = Origins(folder, fake.url, deployment)
        self.versions = Versions(folder, self.connect, lambda _: None, self.origins)

    def connect(self, timeouts=None) -> Server:
        return Server(self.fake.url, "default", agent="test", timeouts=timeouts)

    def pinned(self, version: str) -> bytes:
        self.versions.make(version, for_task=True)
        return (self.versions.path(version) / "etl.py").read_bytes()

    def newest(self) -> bytes:
        """What a process gets that begins to follow now."""
        follower = Follower(str(self.folder / "live"), self.connect, note_log=self.origins.note)
        follower.follow()
        assert follower.error is None
        return (self.folder / "live/current/etl.py").read_bytes()


@pytest.fixture
def repoint(fake, tmp_path):
    """Deploys to one log; the function then points the bundle at another log whose version has the same name."""
    version = fake.deploy(OURS)
    first = Bundle(tmp_path, fake, "ours")

    def other() -> Bundle:
        fake.deploys.clear()
        fake.log_id = "log-2"
        assert fake.deploy(THEIRS) == version
        return Bundle(tmp_path, fake, "theirs")

    return version, first, other


def test_the_newest_version_of_another_log_is_published_though_it_has_the_same_name(repoint, fake, tmp_path) -> None:
    version, first, other = repoint
    assert first.newest() == OURS["etl.py"]
    assert other().newest() == THEIRS["etl.py"]
    assert live_version(str(tmp_path / "live")) == version


@pytest.mark.parametrize("followed", [False, True])
def test_a_pinned_version_of_another_log_is_built_anew(repoint, followed) -> None:
    version, first, other = repoint
    if followed:
        first.newest()
    assert first.pinned(version) == OURS["etl.py"]
    second = other()
    assert second.pinned(version) == THEIRS["etl.py"]
    assert second.pinned(version) == THEIRS["etl.py"]
    assert second.newest() == THEIRS["etl.py"]


def test_a_pinned_version_is_used_without_the_server_if_nothing_was_pointed_elsewhere(repoint, fake) -> None:
    version, first, _ = repoint
    first.newest()
    fake.stop()
    assert first.pinned(version) == OURS["etl.py"]
    assert first.pinned(version) == OURS["etl.py"]


def test_after_the_bundle_was_pointed_elsewhere_a_task_does_not_guess_while_the_server_is_away(repoint, fake) -> None:
    version, first, other = repoint
    first.newest()
    first.pinned(version)
    second = other()
    fake.stop()
    with pytest.raises(Exception, match="does not answer"):
        second.versions.make(version, for_task=True)


def test_the_same_log_at_another_address_keeps_what_is_there(repoint, fake, tmp_path) -> None:
    version, first, _ = repoint
    first.newest()
    first.pinned(version)
    downloads = sum("/versions/" in path for path, _ in fake.requests)
    renamed = Bundle(tmp_path, fake, "ours-renamed")
    assert renamed.pinned(version) == OURS["etl.py"]
    assert sum("/versions/" in path for path, _ in fake.requests) == downloads
