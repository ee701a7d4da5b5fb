"""Links: followed as Linux would follow them, inside the archive only."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagferry_core.archive.error_collector import ErrorCollector
from dagferry_core.archive.errors import LinkRefused, PathRefused, TooManyFiles
from dagferry_core.archive.links import Links, Node
from dagferry_core.errors import DagferryError


def nodes_of(paths):
    """Return the nodes of an archive with these paths: files, or links for (path, target) pairs."""
    nodes, targets = {}, {}
    for path in paths:
        name = path if isinstance(path, str) else path[0]
        nodes[name] = Node.FILE
        if not isinstance(path, str):
            targets[name] = path[1]
            nodes[name] = Node.LINK
        while name := name.rpartition("/")[0]:
            nodes[name] = Node.IMPLIED
    return nodes, targets


def found(nodes, targets, root="", most=1000):
    """Return what the links bring in; raise what is wrong with them."""
    errors = ErrorCollector()
    brought = list(Links(nodes, targets, root, bounds=root).copies(most, errors))
    errors.raise_any()
    return brought


def copies(*paths, root="", most=1000):
    return dict(found(*nodes_of(paths), root, most))


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a", ("l", "a")], {"l": "a"}),
        (["a", ("l", "./a")], {"l": "a"}),
        (["d/a", ("d/l", "a")], {"d/l": "d/a"}),
        (["d/a", ("e/l", "../d/a")], {"e/l": "d/a"}),
        (["d/a", ("e/l", "..//d/./a")], {"e/l": "d/a"}),
        (["a", ("l", "m"), ("m", "a")], {"l": "a", "m": "a"}),
        (["d/a", ("l", "d")], {"l/a": "d/a"}),
        (["d/a", ("l", "d/")], {"l/a": "d/a"}),
        (["d/e/a", "d/b", ("l", "d")], {"l/e/a": "d/e/a", "l/b": "d/b"}),
        (["d/a", ("l", "d"), ("m", "l/a")], {"l/a": "d/a", "m": "d/a"}),
        (["d/a", ("e/l", "../d"), ("m", "e/l/a")], {"e/l/a": "d/a", "m": "d/a"}),
        # ".." after a link goes up from where the link leads, not from where it stands.
        (["d/e/f/a", "d/b", ("l", "d/e"), ("m", "l/../b")], {"l/f/a": "d/e/f/a", "m": "d/b"}),
        # A link below a linked folder is followed from where it really stands.
        (["d/a", ("d/l", "a"), ("m", "d")], {"d/l": "d/a", "m/a": "d/a", "m/l": "d/a"}),
        (["x/a", ("d/l", "../x"), ("m", "d")], {"d/l/a": "x/a", "m/l/a": "x/a"}),
        # The same link twice on the way is no circle.
        (["d/a", ("l", "d"), ("m", "l/../l/a")], {"l/a": "d/a", "m": "d/a"}),
    ],
)
def test_links_become_copies_of_what_they_point_at(paths, expected):
    assert copies(*paths) == expected


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ([("l", "nothing")], "not in the archive"),
        ([("l", "")], "points at nothing"),
        ([("l", "/etc/passwd")], "absolute"),
        ([("l", "/a"), "a"], "absolute"),
        ([("l", "..")], "outside"),
        ([("l", "../a"), "a"], "outside"),
        ([("d/l", "../../a"), "a"], "outside"),
        ([("d/e/l", "../../../d/a"), "d/a"], "outside"),
        ([("l", "l")], "loop"),
        ([("l", "m"), ("m", "l")], "loop"),
        ([("l", "l/a")], "loop"),
        ([("l", ".")], "folder that contains it"),
        ([("d/l", "."), "d/a"], "folder that contains it"),
        ([("d/l", ".."), "d/a"], "folder that contains it"),
        ([("d/e/l", ".."), "d/a"], "folder that contains it"),
        ([("d/l", "../e"), ("e/m", "../d")], "folder that contains it"),
        (["a", ("l", "a/")], "as a folder"),
        (["a", ("l", "a/.")], "as a folder"),
        (["a", "b", ("l", "a/../b")], "as a folder"),
        (["a", ("l", "d/../a")], "not in the archive"),
        (["a", ("l", "./" * 129 + "a")], "129 components"),
    ],
)
def test_a_link_that_leaves_dangles_or_loops_is_refused_by_name(paths, reason):
    with pytest.raises(LinkRefused, match=reason) as raised:
        copies(*paths)
    assert re.search(r"The link '([de]/)*[lm]'", raised.value.message)


def test_a_chain_may_have_forty_links():
    chain = [(f"l{number}", f"l{number + 1}") for number in range(39)]
    for order in (1, -1):
        assert copies(*[*chain, ("l39", "a")][::order], "a")["l0"] == "a"
        with pytest.raises(LinkRefused, match="40"):
            copies(*[*chain, ("l39", "l40"), ("l40", "a")][::order], "a")


def test_a_path_through_many_links_counts_them_all():
    assert copies("d/a", ("s", "d"), ("l", "s/../" * 39 + "d/a"))["l"] == "d/a"
    with pytest.raises(LinkRefused, match="40"):
        copies("d/a", ("s", "d"), ("l", "s/../" * 40 + "d/a"))


def test_a_link_must_not_leave_the_root():
    assert copies("dags/a", ("dags/l", "../dags/a"), root="dags") == {"dags/l": "dags/a"}
    for target in ("../b", "..", "../dags2/c"):
        with pytest.raises(LinkRefused, match="leads out of the bundle"):
            copies("b", "dags/a", "dags2/c", ("dags/l", target), root="dags")


def test_a_link_to_an_excluded_path_is_reported_as_such():
    nodes, targets = nodes_of(["a", ("l", ".git/config"), ("m", "a")])
    nodes[".git"] = Node.EXCLUDED
    with pytest.raises(LinkRefused, match=r"'\.git' is a path that"):
        found(nodes, targets, most=10)


def test_a_copied_folder_leaves_out_what_its_original_leaves_out():
    nodes, targets = nodes_of(["d/a", ("l", "d")])
    nodes["d/__pycache__"] = Node.EXCLUDED
    assert dict(found(nodes, targets, most=10)) == {"l/a": "d/a"}


def doubling(levels, leaves):
    """Return folders in which each has two links to the one before, so that copies double with each."""
    return [*leaves, *[(f"d{n}/{side}", f"../d{n - 1}") for n in range(1, levels) for side in "xy"]]


def test_links_that_multiply_are_stopped():
    assert len(copies(*doubling(6, ["d0/a"]))) == sum(2 * 2**n for n in range(5))
    with pytest.raises(TooManyFiles):
        copies(*doubling(40, ["d0/a"]))


def test_links_that_multiply_nothing_are_stopped_too():
    nodes, targets = nodes_of(doubling(40, []))
    nodes["d0"] = Node.FOLDER
    with pytest.raises(TooManyFiles):
        found(nodes, targets)


def test_copies_are_not_deeper_than_paths_may_be():
    deep = "/".join(["d"] * 62)
    assert copies(f"{deep}/a", ("l", "d")) == {f"l/{deep[2:]}/a": f"{deep}/a"}
    with pytest.raises(PathRefused, match="deep"):
        copies(f"{deep}/a", ("x/y/z/l", "../../../d"))


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join),
        st.none() | st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=4).map("/".join),
        max_size=6,
    )
)
def test_links_lead_where_linux_says(tmp_path_factory, made):
    """Each tree is built on a disk and walked there."""
    paths = {path: target for path, target in made.items() if not any(path.startswith(f"{other}/") for other in made)}
    base = tmp_path_factory.mktemp("links") / "top"
    base.mkdir()
    for path, target in paths.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            (base / path).write_text(path)
        else:
            (base / path).symlink_to(target)
    try:
        brought = copies(*[path if target is None else (path, target) for path, target in paths.items()])
    except DagferryError:
        assert any(not inside(base, base / path) for path, target in paths.items() if target is not None)
        return
    on_disk = {
        os.path.relpath(os.path.join(folder, name), base)
        for folder, _, names in os.walk(base, followlinks=True)
        for name in names
    }
    assert on_disk == {path for path, target in paths.items() if target is None} | brought.keys()
    for copy, original in brought.items():
        assert (base / copy).read_text() == original


def test_the_folder_that_is_dropped_counts_neither_for_length_nor_for_depth():
    deep = "/".join(["d"] * 62)
    assert copies(f"dags/x/{deep}/a", ("dags/l", "x"), root="dags") == {f"dags/l/{deep}/a": f"dags/x/{deep}/a"}
    with pytest.raises(PathRefused):
        copies(f"dags/x/{deep}/a", ("dags/l/m", "../x"), root="dags")
    bottom = "/".join(["d"] * 63)
    assert copies("dags/a", (f"dags/{bottom}/l", f"{'../' * 64}dags/a"), root="dags")


class Counted(dict):
    """Nodes that count how often one is looked up."""

    looked_up = 0

    def __getitem__(self, path):
        self.looked_up += 1
        return super().__getitem__(path)


def test_excluded_paths_cost_nothing_however_many_links_lead_there():
    nodes = Counted({f"d/{n}.pyc": Node.EXCLUDED for n in range(100)} | {"d": Node.IMPLIED})
    targets = {f"l{n}": "d" for n in range(100)}
    nodes.update(dict.fromkeys(targets, Node.LINK))
    assert found(nodes, targets) == []
    assert nodes.looked_up <= 1000


def inside(base, link):
    """Return whether a link leads to something below ``base`` that can be walked to its end."""
    real = os.path.realpath(link)
    return link.exists() and f"{real}/".startswith(f"{base}/") and ends(link, frozenset())


def ends(path, above):
    """Return whether a walk below ``path`` that follows links ends."""
    if not os.path.isdir(path):
        return True
    real = os.path.realpath(path)
    return real not in above and all(ends(os.path.join(path, name), above | {real}) for name in os.listdir(path))
