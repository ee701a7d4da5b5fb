import pytest

from dagferry_core.errors import FormatError
from dagferry_server.store.stored_index import MAX_HEAD_BYTES, Blob, decode_head, decode_index, encode_index

BLOB = Blob(2**40, "a" * 64)


@pytest.mark.parametrize("index", [b"", b"index", b"two\nlines\n"])
def test_an_index_is_read_as_it_was_stored_with_what_it_belongs_to(index) -> None:
    assert decode_index(encode_index(BLOB, index)) == (BLOB, index)


def test_the_first_bytes_say_what_it_belongs_to() -> None:
    assert decode_head(encode_index(BLOB, bytes(1000))[:MAX_HEAD_BYTES]) == BLOB


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"size": 1, "sha256": "a"}', b"{}\n", b"no JSON\n", b'{"size": "1", "sha256": "a"}\n', b"\xff\n"],
)
def test_a_damaged_first_line_is_not_read(data) -> None:
    with pytest.raises(FormatError):
        decode_index(data)
