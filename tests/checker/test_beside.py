"""Other deployments of the same Airflow: their DAG ids are known before each check; nothing fails if not."""

import os
from collections.abc import Iterator

import pytest

from checker_site import LIVE, Site
from dagferry_checker.errors import ImportCheckFailed
from dagferry_checker.trees import MAX_TREES
from dagferry_follow.errors import ServerRefused
from dagferry_follow.log import write_with


@pytest.fixture
def site(tmp_path):
    made = Site(str(tmp_path / "work"))
    yield made
    made.store.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines of the log."""
    lines: list[str] = []
    write_with(lambda _level, message, _fields, _trace: lines.append(message))
    yield lines
    write_with(None)


def duplicates(site: Site) -> dict[str, bool]:
    """Which files of the last verdict have a DAG id that another one has, and whether that is new."""
    found = [problem for problem in site.verdict()["problems"] if problem["kind"] == "duplicate"]
    return {problem["path"]: problem["new"] for problem in found}


def test_a_dag_id_that_is_live_in_a_deployment_beside_is_a_problem(site) -> None:
    site.lab.deploy({"dag_theirs.py": b"id_x id_y"})
    site.server.deploy({"dag_a.py": b"id_a id_y"})
    site.steps()
    assert site.engine.parsed == [["dag_theirs.py"], ["dag_a.py"]]
    site.server.upload({"dag_a.py": b"id_a id_y", "dag_c.py": b"id_x"})
    site.steps()
    assert duplicates(site) == {"dag_a.py": False, "dag_c.py": True}, "id_y is live in both already"
    assert "dag_theirs.py of the deployment lab" in site.verdict()["problems"][0]["message"]
    assert {wait for wait, _ in site.lab.asked} == {0}


def test_what_changes_beside_is_known_before_the_next_check(site) -> None:
    site.lab.deploy({"dag_theirs.py": b"id_x", "dag_other.py": b"id_z"})
    site.server.deploy(LIVE)
    site.steps()
    site.lab.deploy({"dag_theirs.py": b"id_new", "dag_other.py": b"id_z"})
    site.server.upload({**LIVE, "dag_c.py": b"id_x", "dag_d.py": b"id_new"})
    site.steps()
    assert duplicates(site) == {"dag_d.py": True}
    assert site.engine.parsed[2:] == [["dag_theirs.py"], ["dag_c.py", "dag_d.py"]], "and only what changed is parsed"
    assert [kind for _, kind in site.lab.sent] == ["whole", "patch"]


def test_trees_of_a_deployment_beside_do_not_pile_up(site) -> None:
    site.server.deploy(LIVE)
    for number in range(10):
        site.lab.deploy({"dag_theirs.py": b"id_%d" % number})
        site.steps()
    trees = os.listdir(f"{site.store.folder}/.checker/trees")
    assert len(trees) <= MAX_TREES + 1


def test_nothing_is_known_of_a_deployment_beside_that_is_deleted(site) -> None:
    site.lab.deploy({"dag_theirs.py": b"id_x"})
    site.server.deploy(LIVE)
    site.steps()
    refused = ServerRefused("The server answered 404.")
    refused.answered = 404
    site.lab.fails = refused
    site.server.upload({**LIVE, "dag_c.py": b"id_x"})
    site.steps()
    assert duplicates(site) == {}
    site.lab.fails = None
    site.server.upload({**LIVE, "dag_d.py": b"id_x"})
    site.steps()
    assert duplicates(site) == {"dag_d.py": True}


def test_a_deployment_beside_that_cannot_be_read_is_said_once_and_what_was_known_stays(site, said) -> None:
    site.lab.deploy({"dag_theirs.py": b"id_x"})
    site.server.deploy(LIVE)
    site.steps()
    site.lab.fails = ServerRefused("The server answered 403.")
    site.server.upload({**LIVE, "dag_c.py": b"id_x"})
    site.steps(3)
    assert duplicates(site) == {"dag_c.py": True}
    [line] = [line for line in said if "deployment lab cannot be read" in line]
    assert "The server answered 403." in line


def test_a_deployment_beside_that_cannot_be_checked_is_not_tried_again_until_it_changes(site, said) -> None:
    site.lab.deploy({"dag_theirs.py": b"id_x"})
    site.server.deploy(LIVE)
    site.engine.fails = [ImportCheckFailed("The engine ended (1).")]
    site.steps(3)
    assert site.engine.parsed == [["dag_a.py", "dag_b.py"]]
    assert len([line for line in said if "The engine ended (1)." in line]) == 1
    site.lab.deploy({"dag_theirs.py": b"id_x id_y"})
    site.steps()
    assert site.engine.parsed[1:] == [["dag_theirs.py"]]


def test_a_deployment_beside_that_has_nothing_takes_no_id(site) -> None:
    site.server.upload({"dag_a.py": b"id_x"})
    site.steps(2)
    assert duplicates(site) == {}
