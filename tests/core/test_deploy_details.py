"""What is stored beside an entry of the deploy log: bounded, and read as it was written."""

import json

import pytest

from dagferry_core.deploy_details import MAX_DETAILS_BYTES, DeployDetails, decode_details
from dagferry_core.errors import FormatError

DETAILS = DeployDetails(["One — “two”"], ["dags/.git"], ["a.py"], ["ü/b.py"], ["c.py"])


def test_details_are_read_as_they_were_written() -> None:
    assert decode_details(DETAILS.encode()) == DETAILS


def test_what_a_later_server_added_is_passed_over() -> None:
    later = {**json.loads(DETAILS.encode()), "moved": []}
    assert decode_details(json.dumps(later).encode()) == DETAILS


@pytest.mark.parametrize(
    "details",
    [
        DETAILS._replace(warnings=["w" * 5000] * 1000),
        DETAILS._replace(excluded=["e" * 1000] * 5000),
        DETAILS._replace(added=[f"{number:05d}/" + "ä" * 500 for number in range(50_000)]),
        DeployDetails(*([chr(0x1F600) * 1000] * 1000 for _ in range(5))),
        DETAILS._replace(removed=["\N{DELETE}\n" * 512] * 1000),
    ],
)
def test_they_are_truncated_and_marked(details: DeployDetails) -> None:
    data = details.encode()
    assert len(data) <= MAX_DETAILS_BYTES
    read = decode_details(data)
    assert read.cut
    for name in ("warnings", "excluded", "added", "changed", "removed"):
        kept = getattr(read, name)
        assert len(kept) <= 1000
        for short, whole in zip(kept, getattr(details, name), strict=False):
            assert whole.startswith(short)
    assert read.warnings


def test_a_change_of_many_files_lists_the_first_of_them() -> None:
    paths = [f"dag_{number}.py" for number in range(20_000)]
    read = decode_details(DETAILS._replace(added=paths).encode())
    assert read.added == paths[:1000]
    assert (read.changed, read.removed, read.cut) == (["ü/b.py"], ["c.py"], True)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", DETAILS.encode()[:-20], DETAILS.encode().replace(b'["c.py"]', b"[7]"),
     DETAILS.encode().replace(b'["c.py"]', b'"c.py"')],
)  # fmt: skip
def test_damaged_details_are_distinguished_from_intact_ones(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_details(data)
