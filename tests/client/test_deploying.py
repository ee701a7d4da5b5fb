"""What a deploy checks before it sends: all of a folder the first time, and then what the server does not have."""

from dagferry_client.local.manifest_cache import ManifestCache
from localtrees import read, write
from recorded_answers import logged
from scripted_deploys import accept, empty, newest, uploads

GOOD = b"from airflow import DAG\n"
BAD = GOOD + b"def (\n"


def test_what_the_server_has_accepted_is_not_refused_here(at, server, project, tmp_path) -> None:
    dags = write(project / "dags", {"old.py": BAD})
    before = read(dags).manifest
    ManifestCache(str(tmp_path / "cache" / "dagferry" / "manifests")).save(before)
    write(dags, {"new.py": GOOD})
    after = read(dags).manifest.digest
    newest(server, digest=before.digest)
    accept(server, after, f"?base={logged()['version']}&digest={after.replace(':', '%3A')}")
    assert at("deploy").code == 0
    assert list(uploads(server)[0].files) == ["new.py"]


def test_the_folder_is_read_before_anything_is_asked(at, server, project) -> None:
    write(project / "dags", {"a\\b.py": GOOD})
    assert at("deploy").code == 3
    assert server.requests == []


def test_a_helper_that_does_not_parse_is_a_warning(at, server, project) -> None:
    dags = write(project / "dags", {"a.py": GOOD, "lib/h.py": b"def (\n"})
    empty(server)
    accept(server, read(dags).manifest.digest)
    done = at("deploy")
    assert done.code == 0
    assert "Warning: lib/h.py:1:5: " in done.err
