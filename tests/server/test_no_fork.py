"""A fork after the client of an object store was used hangs: its threads do not exist in the child."""

import re
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
FORKS = re.compile(r"\bos\.fork|\bforkpty\b|\bmultiprocessing\b|ProcessPoolExecutor|preexec_fn")


@pytest.mark.parametrize("package", ["core", "runtime", "gate", "server"])
def test_nothing_in_the_server_forks_without_starting_another_program(package) -> None:
    sources = sorted((HOME / package).rglob("*.py"))
    assert sources
    assert [str(path) for path in sources if FORKS.search(path.read_text())] == []
