"""What the server says about deploys can be turned back into what it stored."""

import pytest

from dagferry_client.deploy_log import Files, ListedFile, LoggedDeploy
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.deploylog import Deploy
from dagferry_core.errors import FormatError
from goldens import GOLDEN
from recorded_answers import logged, of_stored

STORED = sorted([*GOLDEN.glob("format*/entries/*.json"), *GOLDEN.glob("format*/data/*/deploys/*.json")])


@pytest.mark.parametrize("path", STORED, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_an_entry_comes_back_as_the_bytes_that_were_stored(path) -> None:
    stored = path.read_bytes()
    assert LoggedDeploy(**of_stored(stored)).entry().encode() == stored


def test_every_field_of_an_entry_is_sent() -> None:
    assert set(Deploy._fields) - {"details"} <= set(LoggedDeploy._fields)
    assert LoggedDeploy(**logged(details_sha256="ab")).entry().details == "ab"


def test_a_list_of_files_is_that_of_its_digest() -> None:
    file = ListedFile("a.py", 1, 0o644, "ab" * 32)
    digest = Manifest([Entry(*file)]).digest
    assert Files("V", digest, [file]).manifest().files == {"a.py": Entry(*file)}
    for wrong in ([], [file._replace(size=2)], [file, file]):
        with pytest.raises(FormatError, match="digest"):
            Files("V", digest, wrong).manifest()
