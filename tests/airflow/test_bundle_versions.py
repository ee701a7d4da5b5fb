"""The DAG bundle by itself: a version comes from the disk that has it, else from the server, or the cure is named."""

import shutil

import pytest

from bundle_runner import A, B, C, as_text, of_a_task
from harness import eventually
from volumes import fill, needs_mounts, small_volume

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_version_that_is_whole_on_the_disk_is_used_though_the_server_is_away(python, three, number) -> None:
    server, versions = three
    server.stop()
    assert python(of_a_task(server, versions[number])) == ["", "", as_text((A, B, C)[number])]


def test_a_version_that_the_server_has_removed_is_used_from_the_disk(python, three, serve) -> None:
    server, versions = three
    server.stop()
    server = serve("--keep-deploys", "1", "--keep-days", "0")
    server.deploy({**C, "new.py": b""})  # retention goes by uploads
    eventually("the bundle to go", lambda: server.get(f"/default/dags/versions/{versions[0]}")[0] == 410)
    assert python(of_a_task(server, versions[0])) == ["", "", as_text(A)]


def test_a_version_that_is_damaged_on_the_disk_comes_from_the_server(python, three, tmp_path) -> None:
    server, versions = three
    [folder] = (tmp_path / "bundles/prod/live/.trees").glob(f"*/{versions[0]}")
    (folder / "shop.py").write_text("rate = 9\n")
    assert python(of_a_task(server, versions[0])) == ["", "", as_text(A)]
    [folder] = (tmp_path / "bundles/prod/live/.trees").glob(f"*/{versions[1]}")
    (folder / "shop.py").unlink()
    server.stop()
    assert python(of_a_task(server, versions[1]))[0] == "AirflowRescheduleException"


def test_a_version_that_is_nowhere_any_more_names_the_cure(python, three, serve, tmp_path) -> None:
    server, versions = three
    server.stop()
    server = serve("--keep-deploys", "1", "--keep-days", "0")
    server.deploy({**C, "new.py": b""})
    eventually("the bundle to go", lambda: server.get(f"/default/dags/versions/{versions[0]}")[0] == 410)
    for version in (versions[0], "20200101T000000Z-000099"):
        for folder in (tmp_path / "bundles/prod/live/.trees").glob(f"*/{version}"):
            shutil.rmtree(folder)
        kind, text, _ = python(of_a_task(server, version))
        assert kind == "AirflowException"
        assert "Clear the task with “Run with latest bundle version”" in text
        assert ("--keep-days" in text) == (version == versions[0])
        assert "dag_bundle_config_list" not in text


@needs_mounts
def test_a_version_on_the_disk_is_used_though_the_disk_is_full(python, three, tmp_path) -> None:
    """Room is made by what no task needs: there is an older tree than the one that is asked for."""
    server, versions = three
    with small_volume(tmp_path / "small", 2 << 20) as volume:
        shutil.copytree(tmp_path / "bundles", volume / "bundles", symlinks=True)
        shutil.rmtree(tmp_path / "bundles")
        (tmp_path / "bundles").symlink_to(volume / "bundles")
        fill(volume, leave_bytes=8192)
        assert python(of_a_task(server, versions[1])) == ["", "", as_text(B)]
        assert not list((volume / "bundles/prod/live/.trees").glob(f"*/{versions[0]}"))
