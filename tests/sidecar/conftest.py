"""A sidecar process that follows the fake server."""

import pytest

from harness import Sidecar


@pytest.fixture
def pod(fake, follow):
    """Start a sidecar that follows the fake server; it asks at least every second."""

    def start(*flags: str, **options: object) -> Sidecar:
        return follow(fake.url, "pod", "--poll-wait", "1", *flags, **options)

    return start
