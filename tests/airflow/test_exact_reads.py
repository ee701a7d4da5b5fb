"""After one parse it is known what a DAG file reads: a change of data makes Airflow read only those that did.

The tests share one dag processor beside a sidecar, and run in this order. ``min_file_process_interval`` is 300 s.
"""

import os

import pytest

from airflows import RECOMMENDED, dag_file
from dagferry_follow.volume.known_reads import read_known
from harness import eventually

pytestmark = pytest.mark.airflow

KNOWN_SECONDS = 180
READERS = [f"reader{number}" for number in range(4)]
CONTENT = "open(os.path.join(os.path.dirname(__file__), f'configs/{{name}}.yml')).read().strip()"
"""Each of them may read every file of the folder, as far as the text says."""
LISTED = "str(len(os.listdir(os.path.join(os.path.dirname(__file__), '..', '_'.join(('more', 'data'))))))"
"""The text does not say which folder."""
FIRST = {
    **{
        f"{name}.py": dag_file(name, CONTENT.replace("{{", "{").replace("}}", "}"), f"name = '{name}'")
        for name in READERS
    },
    **{f"configs/{name}.yml": b"1\n" for name in READERS},
    "team/lister.py": dag_file("lister", LISTED),
    "more_data/a.yml": b"a\n",
}
DAG_FILES = {path for path in FIRST if path.endswith(".py")}


@pytest.fixture(scope="module")
def site(make_site):
    site = make_site(3, **RECOMMENDED)
    site.airflow.plug_in()
    site.deploy(FIRST)
    site.airflow.start("dag-processor")
    trees = f"{site.sidecar.root}/.trees"

    def is_known() -> bool:
        site.airflow.check_alive()
        known = read_known(trees)
        return known.keys() == DAG_FILES and all(seen.whole for seen in known.values())

    eventually("all that DAG files read to be known", is_known, KNOWN_SECONDS)
    return site


def fresh(site, since: float) -> set[str]:
    """The files of the live tree that have the moment of the last swap, or a later one."""
    current = site.sidecar.root / "current"
    paths = (path for path in current.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(current)) for path in paths if os.stat(path).st_mtime > since - 1}


def test_a_file_that_all_may_read_touches_only_the_dag_file_that_did(site) -> None:
    swap = site.deploy({"configs/reader1.yml": b"2\n"}, quiet=False)
    assert fresh(site, swap) == {"configs/reader1.yml", "reader1.py"}
    site.parsed_after(swap, "reader1", "2")
    assert not [name for at, name, _ in site.airflow.parsed() if at >= swap and name != "reader1"]


def test_a_new_file_in_a_listed_folder_touches_the_dag_file_that_lists_it(site) -> None:
    swap = site.deploy({"more_data/b.yml": b"b\n"}, quiet=False)
    assert fresh(site, swap) >= {"more_data/b.yml", "team/lister.py"}
    site.parsed_after(swap, "lister", "2")
