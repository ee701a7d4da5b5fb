"""What is found at the start: the published tree, or what is left of it."""

import shutil

import pytest

from dagferry_follow.volume.records import TreeRules
from publishing import HOUR, files_of, live_files, publish, trees_of
from treemaker import manifest_of


def test_what_was_published_is_found_and_checked(root, opened) -> None:
    publish(opened(), 1)
    volume = opened()
    assert not volume.load()
    assert volume.live is not None
    assert volume.live.record.deploy[:4] == ("log", 1, "v-1", manifest_of(files_of(1)).digest)
    assert volume.live.tree.mtimes.keys() == files_of(1).keys()


def test_content_that_a_power_cut_tore_is_found(root, opened) -> None:
    publish(opened(), 1)
    (root / "current" / "same.py").write_bytes(b"")
    assert opened().load().corrupt == ["same.py"]


@pytest.mark.parametrize("name", ["deploy.json", "manifest.zst"])
@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")], ids=["gone", "empty"]
)
def test_a_published_tree_without_its_records_counts_as_corrupt_and_unknown(root, opened, name, harm) -> None:
    publish(opened(), 1)
    harm((root / "current").resolve().parent / name)
    volume = opened()
    assert volume.load().corrupt
    assert volume.live is None
    assert volume.sweep() == 0, "it is what Airflow reads, so it stays until something better is published"
    publish(volume, 2)
    assert live_files(root) == files_of(2)


@pytest.mark.parametrize("name", ["deploy.json", "manifest.zst"])
def test_what_replaces_a_tree_without_its_records_is_all_fresh_and_the_tree_stays_for_its_tasks(
    root, opened, name
) -> None:
    publish(opened(), 1)
    publish(opened(), 2)
    before = (root / "current").resolve()
    (before.parent / name).write_bytes(b"")
    volume = opened()
    volume.load()
    volume.sweep()
    assert set(publish(volume, 2)) == set(files_of(2))
    for again in (volume, opened()):
        if again is not volume:
            assert not again.load()
            assert again.sweep() == 0
        assert [tree.record.version for tree in again.old] == ["v-2"]
        assert again.retire(TreeRules(1, 24, 1 << 60), 2e9 + HOUR) == 0
    assert (before / "same.py").exists()


def test_records_of_another_tree_are_not_believed(root, opened) -> None:
    volume = opened()
    publish(volume, 1)
    first = (root / "current").resolve().parent
    publish(volume, 2)
    shutil.copy(first / "deploy.json", (root / "current").resolve().parent)
    volume = opened()
    assert volume.load().corrupt
    assert volume.live is None


def test_a_link_to_a_tree_that_is_gone_is_no_tree(root, opened) -> None:
    publish(opened(), 1)
    shutil.rmtree((root / "current").resolve())
    volume = opened()
    assert not volume.load()
    assert volume.live is None
    assert volume.root.published_version() == ""
    publish(volume, 2)
    assert live_files(root) == files_of(2)


@pytest.mark.parametrize(
    "harm",
    [
        lambda link: link.unlink(),
        lambda link: (link.unlink(), link.symlink_to(".trees/0123456789abcdef/v-9")),
        lambda link: (link.unlink(), link.symlink_to(link.parent / ".trees")),
        lambda link: (link.unlink(), link.write_text("a file")),
    ],
    ids=["gone", "dangling", "foreign", "a file"],
)
def test_a_link_that_leads_nowhere_is_led_to_the_newest_tree_before_any_is_swept(root, opened, harm, caplog) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    known = trees_of(root)
    harm(root / "current")
    volume = opened()
    assert not volume.load()
    assert volume.live is not None
    assert volume.live.record.version == "v-2"
    assert volume.sweep() == 0
    assert live_files(root) == files_of(2)
    assert trees_of(root) == known
    assert "It now points at v-2" in caplog.text


@pytest.mark.parametrize("harm", ["content", "record", "manifest", "gone"])
def test_a_tree_that_is_not_whole_is_not_what_the_link_is_led_to(root, opened, harm) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    newest = (root / "current").resolve()
    (root / "current").unlink()
    if harm == "gone":
        shutil.rmtree(newest)
    else:
        places = {"content": newest / "dag.py", "record": newest.parent / "deploy.json"}
        places.get(harm, newest.parent / "manifest.zst").write_bytes(b"")
    volume = opened()
    assert not volume.load()
    volume.sweep()
    assert live_files(root) == files_of(1)


def test_a_corrupt_tree_that_was_live_when_the_link_was_lost_stays_for_its_tasks(root, opened) -> None:
    volume = opened()
    for number in (1, 2):
        publish(volume, number)
    corrupt = (root / "current").resolve()
    (root / "current").unlink()
    (corrupt / "dag.py").write_bytes(b"torn")
    volume = opened()
    volume.load()
    assert volume.sweep() == 0
    assert live_files(root) == files_of(1)
    assert corrupt.is_dir()


def test_a_lost_link_makes_no_old_tree_younger(root, opened) -> None:
    volume = opened()
    for number in range(1, 4):
        publish(volume, number, now=1e9 + number * HOUR)
    (root / "current").unlink()
    volume = opened()
    volume.load()
    volume.sweep()
    assert [(tree.record.version, tree.ended) for tree in volume.old] == [
        ("v-2", 1e9 + 3 * HOUR),
        ("v-1", 1e9 + 2 * HOUR),
    ]


def test_where_a_dangling_link_was_and_no_tree_is_whole_all_files_are_fresh(root, opened) -> None:
    publish(opened(), 1)
    shutil.rmtree((root / "current").resolve())
    volume = opened()
    volume.load()
    assert set(publish(volume, 2)) == set(files_of(2))
