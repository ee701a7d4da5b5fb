"""How an upload is received; what clients do on the wire is in ../http/test_clients.py."""

import hashlib
import io

import pytest

from dagferry_core.limits import PIECE_BYTES, UploadLimit
from dagferry_server.deploys.receive import _Sink
from dagferry_server.errors import UploadTooLarge

LIMIT = UploadLimit(3 * PIECE_BYTES, "a rule", "a hint")


class Counted(io.BytesIO):
    """A file that counts the calls."""

    writes = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.writes += 1
        return super().write(data)


class Direct:
    """What aiofiles makes of a file, without a thread."""

    def __init__(self, file: Counted) -> None:
        self._file = file

    async def write(self, data: bytes) -> int:
        return self._file.write(data)

    async def flush(self) -> None:
        self._file.flush()


@pytest.fixture
def file(monkeypatch) -> Counted:
    monkeypatch.setattr("dagferry_server.deploys.receive.wrap", Direct)
    return Counted()


async def test_small_pieces_are_written_together_and_hashed_as_one(file) -> None:
    arrived: list[int] = []
    sink = _Sink(file, LIMIT, arrived.append)
    for number in range(1000):
        await sink.write(b"%07d\n" % number * 90)
    await sink.finish()
    content = file.getvalue()
    assert len(content) == sink.size == 720_000
    assert sink.sha256.hexdigest() == hashlib.sha256(content).hexdigest()
    assert file.writes == 720_000 // PIECE_BYTES + 1


async def test_one_byte_over_the_limit_is_too_much(file) -> None:
    arrived: list[int] = []
    sink = _Sink(file, LIMIT, arrived.append)
    await sink.write(bytes(LIMIT.bytes))
    with pytest.raises(UploadTooLarge, match=r"at least 786,433 bytes; the limit is .* \(a rule\)") as caught:
        await sink.write(b"x")
    assert caught.value.hint == "a hint"
    assert arrived == [LIMIT.bytes, 1]
