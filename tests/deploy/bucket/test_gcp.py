"""Cloud Storage gives exactly the objects that were listed."""

import pytest

import gcp
from deployer import DeployFailed, ObjectChanged

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", ["fake-gcs-server"], indirect=True)]


def test_the_objects_below_the_prefix_are_listed_by_their_names_after_it(store) -> None:
    for name in ("dags/a ü+%2F.py", "dags/sql/b.sql", "dags-old/c.py", "other"):
        store.put(name, b"123")
    listed = store.opened().list(10)
    assert {name: one.size for name, one in listed.items()} == {"a ü+%2F.py": 3, "sql/b.sql": 3}
    assert len(store.opened("").list(2)) == 3


def test_an_object_that_was_replaced_or_removed_is_not_read(store) -> None:
    store.put("dags/a.py", b"old")
    store.put("dags/gone.py", b"x")
    bucket = store.opened()
    listed = bucket.list(10)
    assert bucket.read("a.py", listed["a.py"]) == b"old"
    store.put("dags/a.py", b"new")
    store.remove("dags/gone.py")
    for name in listed:
        with pytest.raises(ObjectChanged, match=name):
            bucket.read(name, listed[name])


def test_an_object_that_is_stored_compressed_is_refused_and_named(store) -> None:
    blob = store.bucket.blob("dags/a.py")
    blob.content_encoding = "gzip"
    blob.upload_from_string(b"\x1f\x8b")
    with pytest.raises(DeployFailed, match=r"the object 'dags/a\.py' in compressed form"):
        store.opened().list(10)


def test_the_token_is_that_of_the_variable(kind, monkeypatch) -> None:
    monkeypatch.setenv("DAGFERRY_TOKEN", "dgf_given")
    assert gcp.token() == "dgf_given"
