"""What the tests of volumes share."""

from pathlib import Path

import pytest

from dagferry_follow.volume.volume import Volume


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def opened(root):
    """Open the volume as one process after another would: each open gives up the one before."""
    volumes: list[Volume] = []

    def again() -> Volume:
        for volume in volumes:
            volume.close()
        volumes[:] = [Volume(str(root))]
        return volumes[0]

    yield again
    for volume in volumes:
        volume.close()
