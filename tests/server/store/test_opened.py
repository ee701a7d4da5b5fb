"""A store that a command opens: with the lock of a folder to write to it, and without a trace of what it read."""

import os
from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway, StoreInUse
from dagferry_server.store.address import parse_store
from dagferry_server.store.data_folder import LOCK_NAME
from dagferry_server.store.opened import local, opened


def test_a_folder_is_read_without_its_lock_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    with opened(local(str(tmp_path)), write=True) as store:
        store.prepare("prod")
        before = sorted(tmp_path.rglob("*"))
        with opened(local(str(tmp_path))) as other:
            assert other.log_id("prod") == store.log_id("prod")
        with pytest.raises(StoreInUse), opened(local(str(tmp_path)), write=True):
            pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_made_to_write_to_it_and_never_to_read_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is not a folder"), opened(local(str(tmp_path / "mistyped"))):
        pass
    assert not (tmp_path / "mistyped").exists()
    with opened(local(str(tmp_path / "new")), write=True):
        assert (tmp_path / "new" / LOCK_NAME).exists()


def test_what_is_read_from_a_bucket_is_kept_in_a_temporary_folder_that_goes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with opened(parse_store("s3://bucket/prefix")) as store:
        assert store.shared
        [folder] = tmp_path.iterdir()
        assert folder.name.startswith("dagferry-")
        with pytest.raises(StoreAway):
            store.prepare("prod")  # it was not probed
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_probed_before_it_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreAway), opened(parse_store("s3://bucket"), write=True):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///var/lib/dagferry", "s3://bucket/some/prefix", "gs://bucket"])
def test_an_address_is_shown_as_its_url(url: str) -> None:
    assert parse_store(url).url == url
