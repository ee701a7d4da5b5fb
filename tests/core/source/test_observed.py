"""What parses were seen to open and to list decides what a change touches; where it is not certain, the guess too."""

import pytest

from dagferry_core.bundle.manifest import EMPTY
from dagferry_core.source import observed
from dagferry_core.source.observed import Contents, Observation, observe, opens_unseen, to_touch
from touching import bundle, touched_by

FILES = {
    "one.py": "from lib import load\nload('configs/*.yml')",
    "two.py": "from lib import load\nload('configs/*.yml')",
    "lister.py": "for path in Path('configs').glob('*.yml'): path.read_text()",
    "lib.py": "def load(name): return open(name)",
    "configs/a.yml": "a",
    "configs/b.yml": "b",
    "sql/q.sql": "select 1",
}
SEEN = {
    "one.py": observe("one.py", ["lib.py", "configs/a.yml"], [], Contents(bundle(FILES)), mtime=1),
    "two.py": observe("two.py", ["lib.py", "configs/b.yml"], [], Contents(bundle(FILES)), mtime=1),
    "lister.py": observe(
        "lister.py", ["configs/a.yml", "configs/b.yml"], ["configs"], Contents(bundle(FILES)), mtime=1
    ),
}


def touches(change, files=FILES, seen=SEEN, scanned=None):
    """What ``change`` (path to source, None if it is removed) touches, beside what would be touched by the guess."""
    after = {path: text for path, text in (files | change).items() if text is not None}

    def source_of(path):
        assert path not in change
        if scanned is not None:
            scanned.append(path)
        return files[path].encode()

    guess = touched_by(change, files)
    return to_touch(bundle(files), bundle(after), seen, guess, mtimes=dict.fromkeys(files, 1), source_of=source_of)


def test_a_change_touches_who_opened_the_file_instead_of_all_who_may_read_it():
    assert touched_by({"configs/a.yml": "x"}, FILES) == ["lister.py", "one.py", "two.py"]
    assert touches({"configs/a.yml": "x"}) == ["lister.py", "one.py"]
    assert touches({"configs/b.yml": "x"}) == ["lister.py", "two.py"]
    assert touches({"sql/q.sql": "x"}) == []


def test_a_changed_module_touches_who_ran_it_instead_of_all_who_import_such_a_name():
    files = FILES | {"other/lib.py": "x = 1", "three.py": "import lib"}
    seen = {path: observe(path, one.opened, one.listed, Contents(bundle(files)), mtime=1) for path, one in SEEN.items()}
    assert touched_by({"lib.py": "x"}, files) == ["one.py", "three.py", "two.py"]
    assert touches({"lib.py": "x"}, files, seen) == ["one.py", "three.py", "two.py"]
    seen["three.py"] = observe("three.py", ["other/lib.py"], [], Contents(bundle(files)), mtime=1)
    assert touches({"lib.py": "x"}, files, seen) == ["one.py", "two.py"]
    assert touches({"other/lib.py": "x"}, files, seen) == ["three.py"]


def test_who_opened_a_file_by_a_name_that_is_computed_is_touched_though_the_guess_misses_it():
    files = {"dag.py": "open(os.environ['FILE'])", "a.yml": "a", "b.yml": "b"}
    seen = {"dag.py": observe("dag.py", ["a.yml"], [], Contents(bundle(files)), mtime=1)}
    assert touched_by({"a.yml": "x"}, files) == []
    assert touches({"a.yml": "x"}, files, seen) == ["dag.py"]
    assert touches({"b.yml": "x"}, files, seen) == []


def test_a_file_that_was_never_parsed_has_the_guess():
    assert touches({"configs/a.yml": "x"}, seen={"two.py": SEEN["two.py"]}) == ["lister.py", "one.py"]
    assert touches({"configs/a.yml": "x"}, seen={}) == touched_by({"configs/a.yml": "x"}, FILES)


@pytest.mark.parametrize(
    "before",
    [
        {"lib.py": "another helper"},  # what it ran
        {"one.py": "another_dag('configs/*.yml')"},
        {"configs/a.yml": "a: b.yml"},  # what it opened may name others
    ],
)
def test_an_observation_of_other_contents_does_not_replace_the_guess(before):
    files = FILES | before
    assert touches({"configs/b.yml": "x"}, files)[:2] == ["lister.py", "one.py"]
    assert touches({"configs/a.yml": "x"}, files)[:2] == ["lister.py", "one.py"], "what it says counts nevertheless"


@pytest.mark.parametrize(
    "before", [{"configs/c.yml": "c"}, {"configs/deep/c.yml": "c"}, {"configs/c.py": ""}, {"configs/a.yml": None}]
)
def test_an_observation_of_another_listing_does_not_replace_the_guess(before):
    files = {path: text for path, text in (FILES | before | {"x.yml": ""}).items() if text is not None}
    files["lister.py"] += "  # and x.yml"
    seen = {"lister.py": SEEN["lister.py"]._replace(inputs="")}
    old = {path: text for path, text in (FILES | {"x.yml": "", "lister.py": files["lister.py"]}).items() if text}
    opened = SEEN["lister.py"].opened - {path for path, text in before.items() if text is None}
    seen["lister.py"] = observe("lister.py", opened, ["configs"], Contents(bundle(old)), mtime=1)
    assert "lister.py" in touches({"x.yml": "x"}, files, seen)


def test_an_observation_from_before_the_file_was_touched_does_not_replace_the_guess():
    for mtime in (0, 2):
        seen = SEEN | {"two.py": SEEN["two.py"]._replace(mtime=mtime)}
        assert touches({"configs/a.yml": "x"}, seen=seen) == ["lister.py", "one.py", "two.py"]


def test_a_partial_observation_counts_beside_the_guess():
    seen = SEEN | {"two.py": SEEN["two.py"]._replace(whole=False)}
    assert touches({"configs/a.yml": "x"}, seen=seen) == ["lister.py", "one.py", "two.py"]


def test_a_file_whose_dag_file_is_gone_or_changed_itself_touches_nothing_of_it():
    assert touches({"one.py": None, "configs/a.yml": "x"}) == ["lister.py"]
    assert touches({"one.py": "new", "configs/a.yml": "x"}) == ["lister.py"]


@pytest.mark.parametrize(
    ("change", "listers"),
    [
        ({"configs/new.yml": "x"}, ["lister.py"]),
        ({"configs/new.txt": "x"}, ["lister.py"]),
        ({"configs/deep/er/new.txt": "x"}, ["lister.py"]),  # the name of a folder is new in the listing
        ({"configs/b.yml": None}, ["lister.py"]),
        ({"other/new.txt": "x"}, []),
    ],
)
def test_a_file_that_comes_or_goes_in_a_listed_folder_touches_the_lister(change, listers):
    seen = {"lister.py": SEEN["lister.py"]._replace(opened=frozenset({"lister.py"}))}
    files = FILES | {"lister.py": "computed()"}  # no guess
    assert touched_by(change, files).count("lister.py") == 0
    assert touches(change, files, seen).count("lister.py") == len(listers)


def test_a_new_file_in_a_folder_that_is_in_a_listed_one_already_does_not_touch_the_lister():
    files = {"dag.py": "computed()", "configs/deep/a.yml": "a"}
    seen = {"dag.py": observe("dag.py", [], ["configs"], Contents(bundle(files)), mtime=1)}
    assert touches({"configs/deep/b.yml": "b"}, files, seen) == []
    assert touches({"configs/other/b.yml": "b"}, files, seen) == ["dag.py"]
    assert touches({"configs/deep/a.yml": None}, files, seen) == ["dag.py"], "the folder is gone as well"


def test_a_file_that_was_opened_in_vain_touches_who_tried_when_it_comes():
    files = {"dag.py": "open(os.environ['FILE'])"}
    seen = {"dag.py": observe("dag.py", ["late.yml", "folder/late.yml"], ["nowhere"], Contents(bundle(files)), mtime=1)}
    assert touches({"late.yml": "x"}, files, seen) == ["dag.py"]
    assert touches({"folder/late.yml": "x"}, files, seen) == ["dag.py"]
    assert touches({"nowhere/deep/x": "x"}, files, seen) == ["dag.py"]
    assert touches({"other.yml": "x"}, files, seen) == []


def test_a_file_that_comes_or_goes_has_the_guess_too_since_whether_it_exists_can_be_asked_unseen():
    files = FILES | {"asking.py": "if os.path.exists('configs/late.yml'): ..."}
    seen = {"asking.py": observe("asking.py", [], [], Contents(bundle(files)), mtime=1)}
    assert touches({"configs/late.yml": "x"}, files, seen).count("asking.py") == 1
    files["configs/late.yml"] = "x"
    seen = {"asking.py": observe("asking.py", [], [], Contents(bundle(files)), mtime=1)}
    assert touches({"configs/late.yml": "y"}, files, seen).count("asking.py") == 0
    assert touches({"configs/late.yml": None}, files, seen).count("asking.py") == 1


def test_a_module_that_comes_touches_who_may_find_it_first():
    files = FILES | {"team/dag.py": "import lib"}
    seen = {"team/dag.py": observe("team/dag.py", ["lib.py"], [], Contents(bundle(files)), mtime=1)}
    assert touches({"team/lib.py": "new"}, files, seen) == ["team/dag.py"]


def test_of_a_change_of_both_kinds_only_the_sources_that_ran_are_scanned_for_what_may_be_asked():
    files = FILES | {"asking.py": "if os.path.exists('late.csv'): ...", "never.py": "'late.csv'"}
    contents = Contents(bundle(files))
    seen = {path: observe(path, one.opened, one.listed, contents, mtime=1) for path, one in SEEN.items()}
    seen["asking.py"] = observe("asking.py", ["lib.py"], [], contents, mtime=1)
    scanned = []
    assert touches({"configs/a.yml": "x", "z.csv": "x"}, files, seen, scanned) == ["lister.py", "one.py"]
    assert scanned == ["lib.py", "two.py"]
    change = {"configs/a.yml": "x", "late.csv": "x"}
    assert touches(change, files, seen) == ["asking.py", "lister.py", "never.py", "one.py"]
    helped = files | {"lib.py": files["lib.py"] + " # late.csv", "asking.py": "import lib"}
    seen = {
        path: observe(path, one.opened, one.listed, Contents(bundle(helped)), mtime=1) for path, one in seen.items()
    }
    assert touches(change, helped, seen) == ["asking.py", "lib.py", "lister.py", "never.py", "one.py", "two.py"]


def test_where_too_much_would_have_to_be_scanned_the_guess_counts(monkeypatch):
    change = {"configs/a.yml": "x", "z.csv": "x"}
    size = sum(len(FILES[path]) for path in ("lib.py", "two.py"))
    monkeypatch.setattr(observed, "MAX_SCANNED_BYTES", size)
    assert touches(change) == ["lister.py", "one.py"]
    monkeypatch.setattr(observed, "MAX_SCANNED_BYTES", size - 1)
    assert touches(change) == ["lister.py", "one.py", "two.py"]


def test_without_a_change_or_a_tree_before_nothing_is_touched():
    assert touches({}) == []
    assert to_touch(EMPTY, bundle(FILES), SEEN, [], mtimes={}, source_of=lambda _: b"") == []


# --- observing -------------------------------------------------------------------------------------------------------


def test_what_was_read_before_stays_as_long_as_nothing_of_it_differs():
    contents = Contents(bundle(FILES))
    first = observe("one.py", ["configs/a.yml"], [], contents, mtime=1)
    second = observe("one.py", ["configs/b.yml"], ["sql"], contents, mtime=1, before=first)
    assert second.opened == {"one.py", "configs/a.yml", "configs/b.yml"}
    assert second.listed == {"sql"}
    later = Contents(bundle(FILES | {"configs/a.yml": "new"}))
    assert observe("one.py", ["configs/b.yml"], [], later, mtime=1, before=second).opened == {"one.py", "configs/b.yml"}
    later = Contents(bundle(FILES | {"sql/new.sql": "new"}))
    assert observe("one.py", ["configs/b.yml"], [], later, mtime=1, before=second).listed == set()


def test_whether_it_is_whole_is_said_by_the_last_parse():
    contents = Contents(bundle(FILES))
    partial = observe("one.py", [], [], contents, mtime=1, whole=False)
    assert not partial.whole
    assert observe("one.py", [], [], contents, mtime=1, before=partial).whole
    assert not observe("one.py", [], [], contents, mtime=1, before=SEEN["one.py"], whole=False).whole


def test_an_observation_of_too_many_paths_is_none(monkeypatch):
    monkeypatch.setattr(observed, "MAX_PATHS", 3)
    assert observe("one.py", ["a"], ["b"], Contents(EMPTY), mtime=1)
    assert observe("one.py", ["a"], ["b", "c"], Contents(EMPTY), mtime=1) is None


def test_inputs_are_the_same_for_the_same_contents_and_listings_only():
    contents = Contents(bundle(FILES))
    assert contents.inputs(["b", "a"], ["sql", "configs"]) == contents.inputs(["a", "b"], ["configs", "sql"])
    assert contents.inputs(["configs"], []) != contents.inputs([], ["configs"])
    assert contents.inputs([], ["sql"]) != contents.inputs([], ["configs"])
    assert contents.inputs(["none"], []) != contents.inputs(["lib.py"], []) != contents.inputs([], [])
    some = Contents(bundle(FILES), {"", "configs"})
    assert some.inputs(["lib.py"], ["", "configs"]) == contents.inputs(["lib.py"], ["", "configs"])
    assert contents.inputs(["\udcff"], []) != contents.inputs(["\udcfe"], [])  # names that are not UTF-8


def test_the_top_folder_is_listed_by_an_empty_name():
    files = {"dag.py": "", "a/x.yml": ""}
    seen = {"dag.py": Observation(Contents(bundle(files)).inputs(["dag.py"], [""]), frozenset(), frozenset({""}), 1)}
    assert touches({"b.yml": "x"}, files, seen) == ["dag.py"]
    assert touches({"b/c/d.yml": "x"}, files, seen) == ["dag.py"]
    assert touches({"a/y.yml": "x"}, files, seen) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os, polars as pl",
        "from pyarrow import csv",
        "import tables",
        "import_module('duckdb.x')",
        "pd.read_parquet(x)",
        "pd.read_csv(x, engine='pyarrow')",
        "create_engine('sqlite:///x.db')",
        "import " + ", ".join(f"module{number}" for number in range(20_000)),
    ],
)
def test_a_source_that_names_a_library_which_opens_files_in_c_may_open_them_unseen(source):
    assert opens_unseen(source.encode())


@pytest.mark.parametrize(
    "source", ["import yaml, json", "pd.read_csv(x)", "my_polars_x", "read_parquets", "tables = []", ""]
)
def test_other_sources_open_files_as_is_seen(source):
    assert not opens_unseen(source.encode())
