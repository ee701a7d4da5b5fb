"""The tables of the images have the packages that are installed there, and no others."""

import re

import pytest
from images_reference import documented, packages, python

from deployfiles import HOME


def test_the_python_is_that_of_the_base() -> None:
    base = (HOME / "Dockerfile.server").read_text()
    assert f"/python:{python('server')}-slim-" in base
    assert python("server") == python("sidecar")


@pytest.mark.parametrize("command", ["server", "sidecar"])
def test_each_package_is_there_once_with_a_pinned_version(command: str) -> None:
    names = [name for name, _ in packages(command)]
    pinned = set(re.findall(r"^([\w-]+)==", (HOME / "requirements" / f"{command}.txt").read_text(), re.MULTILINE))
    assert len(names) == len(set(names)) > 0
    assert set(names) <= pinned
    assert "zstandard" in names
    for name, version in packages(command):
        assert f"{name}=={version} " in (HOME / "requirements" / f"{command}.txt").read_text()


def test_what_only_older_pythons_need_is_not_in_it() -> None:
    assert not {"tomli", "async-timeout"} & {name for name, _ in packages("server")}


def test_a_row_leads_to_the_package() -> None:
    assert documented("sidecar") == [("[zstandard](https://pypi.org/project/zstandard/)", packages("sidecar")[0][1])]
