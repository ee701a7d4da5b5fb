"""The DAG bundle by itself, in tasks with run_as_user: another user gets the right version, or is told what to set."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from bundle_runner import A, B, C, as_text, of_a_task
from dagferry_airflow.live import locked
from volumes import only_root

pytestmark = [pytest.mark.airflow, only_root]

GROUP, OTHER = 20_010, 20_011
"""A group and a user nobody has."""


@pytest.fixture
def tmp_path():
    """Not below pytest's own folder: each session of pytest that starts closes that one to other users."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def of_root(three, tmp_path):
    """What the worker's own user made, in folders that other users may read."""
    with locked(str(tmp_path / "bundles/prod/live"), 0):
        return three


def share(storage) -> None:
    for folder in (storage, storage / "prod"):
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2775)


def as_another_user(server, version: str | None) -> str:
    """Code that says what a task of that version gets when it is run as another user."""
    # Once before as it is: what Python imports late may be in a folder that the other user cannot read.
    become = f"""
import encodings.idna, os
raised(made("20200101T000000Z-000099", name="imports", server={server.url!r}).initialize)
os.umask(0o002); os.setgroups([]); os.setgid({GROUP}); os.setuid({OTHER})
"""
    return become + of_a_task(server, version)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_task_of_another_user_gets_its_version_where_the_folders_are_shared(
    python, of_root, tmp_path, number
) -> None:
    server, versions = of_root
    share(tmp_path / "bundles")
    if number == 0:  # this one has to come from the server
        [folder] = (tmp_path / "bundles/prod/live/.trees").glob(f"*/{versions[0]}")
        shutil.rmtree(folder)
    assert python(as_another_user(server, versions[number])) == ["", "", as_text((A, B, C)[number])]
    made = tmp_path / "bundles/prod/versions" / versions[number]
    assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (OTHER, 0o775)
    assert (tmp_path / "bundles/_tracking/prod" / versions[number]).stat().st_mode & 0o060 == 0o060


def test_a_task_of_another_user_gets_the_newest_or_says_what_to_set_and_never_an_old_one(
    python, of_root, tmp_path
) -> None:
    server, versions = of_root
    assert python(as_another_user(server, None)) == ["", "", as_text(C)], "it is live"
    newest = server.deploy(B)["version"]
    for version in (newest, None):
        kind, text, _ = python(as_another_user(server, version))
        assert kind == "AirflowException"
        assert f"a common group that may write in {tmp_path}/bundles/prod and {tmp_path}/bundles/_tracking" in text
        assert "umask 0002" in text
    share(tmp_path / "bundles")
    assert python(as_another_user(server, None)) == ["", "", as_text(B)]
    assert os.readlink(tmp_path / "bundles/prod/live/current").endswith(versions[2]), "that is not this user's"
