"""What is reported of a volume, joined from parses and tables; trees are real, Airflow is not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagferry_airflow.known_errors import KnownErrors
from dagferry_airflow.listing import Listing
from dagferry_airflow.observer import TABLES_SECONDS, Airflow, Observer
from dagferry_airflow.parses import Rows
from dagferry_airflow.reads import Parse
from dagferry_core.bundle.patch import Patch
from dagferry_core.names import make_version
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume.staging import Content
from dagferry_follow.volume.volume import Volume
from treemaker import Stored, manifest_of

AIRFLOW = Airflow("3.3.2", "3.11.7", {"apache-airflow-providers-x": "1"}, ["x is 1."])


class Site:
    """A volume, and an Airflow that says what the test says."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.volume = Volume(self.root)
        self.volume.load()
        self.volume.sweep()
        self.sequence = 0
        self.files: dict[str, bytes] = {}
        self.now = 0.0
        self.parses: list[Parse] = []
        self.rows = Rows({}, {}, 0.0)
        self.read = 0
        self.seen: list[tuple[str, frozenset[str]]] = []
        self.observer = self.observe()

    def observe(self, kept: str = "") -> Observer:
        def list_files(folder: str) -> list[str]:
            return [
                f"{parent}/{name}" for parent, _, names in os.walk(folder) for name in names if name.endswith(".py")
            ]

        def read() -> Rows:
            self.read += 1
            return self.rows

        def collect() -> list[Parse]:
            ended, self.parses = self.parses, []
            return ended

        listing = Listing(list_files, lambda path: b"dag" in Path(path).read_bytes())
        return Observer(
            self.root, [""], collect, read, listing=listing, airflow=AIRFLOW, known=KnownErrors(kept),
            on_parse=lambda parse: self.seen.append((parse.file, parse.opened | parse.versions)),
            clock=lambda: self.now,
        )  # fmt: skip

    def deploy(self, **files: str) -> str:
        self.sequence += 1
        before, contents = self.files, {f"{name}.py": text.encode() for name, text in files.items()}
        self.files = contents
        version = make_version(1_800_000_000 + self.sequence, self.sequence)
        manifest = manifest_of(contents)
        content: Content = [(entry, [contents[path]]) for path, entry in manifest.files.items()]
        if before:  # then what did not change is not touched
            content = Patch.parse(Stored(contents).patch_from(Stored(before)) or b"")
        with self.volume.stage(DeployRef("log", self.sequence, version, manifest.digest), manifest) as staging:
            staging.populate(content)
            self.volume.swap(staging, lambda: self.now)
        return version

    def parsed(self, name: str) -> None:
        tree = os.readlink(f"{self.root}/current").removeprefix(".trees/")
        paths = frozenset({f"{name}.py"})
        self.parses.append(Parse(f"{name}.py", self.now, self.now + 1, True, frozenset({tree}), paths, frozenset()))

    def recorded(self, *names: str, error: str = "") -> None:
        errors = {f"{error}.py": (self.now + 2, "Traceback\nValueError: no")} if error else {}
        self.rows = Rows({f"{name}.py": [self.now + 2] for name in names}, errors, 0.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "root")
    yield made
    made.volume.close()


def test_nothing_is_said_before_something_is_live(site) -> None:
    assert site.observer.look() is None


def test_a_version_is_complete_when_each_of_its_dag_files_is_recorded(site) -> None:
    site.now = 2e9
    version = site.deploy(a="dag", b="dag", helper="x")
    site.parsed("a")
    site.recorded("a")
    said = site.observer.look()
    assert (said.version, said.sequence, said.files, said.recorded) == (version, 1, 2, 1)
    assert said.complete_for is None
    site.parsed("b")
    site.recorded("a", "b")
    site.now = 2e9 + 10
    said = site.observer.look()
    assert (said.recorded, said.dags, said.airflow, said.hindrances) == (2, 2, "3.3.2", ["x is 1."])
    assert said.complete_for is not None
    assert site.seen == [("a.py", {"a.py", version}), ("b.py", {"b.py", version})]
    assert site.observer.live.log_id == "log"


def test_the_tables_are_read_when_something_happened_or_was_not_recorded(site) -> None:
    site.now = 2e9
    site.deploy(a="dag")
    site.observer.look()
    assert site.read == 1
    site.observer.look()
    assert site.read == 1
    site.parsed("a")
    for _ in range(3):
        site.observer.look()
    assert site.read == 4
    site.recorded("a")
    site.observer.look()
    site.observer.look()
    assert site.read == 5
    site.now += TABLES_SECONDS
    site.observer.look()
    assert site.read == 6


def test_the_tables_are_read_less_and_less_for_a_parse_that_is_never_recorded(site) -> None:
    site.now = 2e9
    site.deploy(a="dag")
    site.parsed("a")
    site.observer.look()
    for _ in range(2000):
        site.now += 0.5
        site.observer.look()
    assert site.read < 70
    before = site.read
    site.now += TABLES_SECONDS
    site.observer.look()
    assert site.read == before + 1


def test_an_error_of_the_first_deploy_is_new_and_not_after_the_next(site) -> None:
    site.now = 2e9
    site.deploy(a="dag", b="dag")
    site.parsed("a")
    site.recorded(error="a")
    [error] = site.observer.look().errors
    assert (error.path, error.message, error.new) == ("a.py", "ValueError: no", True)
    kept = site.observer.known.keep()
    site.now = 2e9 + 100
    site.deploy(a="dag", b="dag2")
    [error] = site.observer.look().errors
    assert not error.new
    site.observer = site.observe(kept)
    site.parsed("a")
    site.recorded(error="a")
    assert [error.new for error in site.observer.look().errors] == [False]


def test_a_dag_processor_that_starts_after_a_swap_knows_what_it_touched(site) -> None:
    site.deploy(a="dag", b="dag")
    site.now = 3e9
    site.deploy(a="dag2", b="dag")
    os.utime(f"{site.root}/current", (3e9, 3e9), follow_symlinks=False)
    for name in ("a", "b"):
        site.parsed(name)
    site.rows = Rows({}, {f"{name}.py": (3e9 + 2, "Traceback\nValueError: no") for name in "ab"}, 0.0)
    assert {error.path: error.new for error in site.observer.look().errors} == {"a.py": True, "b.py": False}


def test_a_volume_that_is_new_does_not_make_all_errors_new(site) -> None:
    site.now = 2e9
    site.sequence = 7
    site.deploy(a="dag")
    site.parsed("a")
    site.recorded(error="a")
    assert [error.new for error in site.observer.look().errors] == [False]


def test_a_file_that_changed_has_to_be_read_again(site) -> None:
    site.now = 2e9
    site.deploy(a="dag", b="dag")
    for name in ("a", "b"):
        site.parsed(name)
    site.recorded("a", "b")
    assert site.observer.look().recorded == 2
    site.now = 2e9 + 100
    site.deploy(a="dag2", b="dag")
    said = site.observer.look()
    assert (said.sequence, said.recorded) == (2, 1)


def test_parses_that_ended_while_the_volume_could_not_be_read_are_not_lost(site, monkeypatch) -> None:
    site.now = 2e9
    site.deploy(a="dag")
    site.parsed("a")
    site.recorded("a")

    def away(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(site.observer._listing, "mtimes", away)
        with pytest.raises(OSError, match="Input/output"):
            site.observer.look()
    assert site.observer.look().recorded == 1
