"""The tables of what is in the images, from the requirements that they are built with."""

import re
from pathlib import Path

from packaging.requirements import Requirement

HOME = Path(__file__).resolve().parent.parent
BASE = re.compile(r"^FROM \S+/python:(3\.\d+)-slim-(\w+)@", re.MULTILINE)


def python(command: str) -> str:
    """Return the version of Python in the image of ``command``, such as ``3.13``."""
    found = BASE.search((HOME / f"Dockerfile.{command}").read_text())
    if found is None:
        raise ValueError(f"Dockerfile.{command} does not start from a pinned image of Python.")
    return found[1]


def packages(command: str) -> list[tuple[str, str]]:
    """Return name and version of the packages that the image of ``command`` has beside dagferry itself."""
    environment = {
        "python_full_version": f"{python(command)}.0",
        "python_version": python(command),
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    lines = re.findall(r"^\w[^\\\n]*", (HOME / "requirements" / f"{command}.txt").read_text(), re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    return [
        (one.name, str(one.specifier).removeprefix("=="))
        for one in wanted
        if one.marker is None or one.marker.evaluate(environment)
    ]


def documented(command: str) -> list[tuple[str, str]]:
    """Return the rows of a page in docs/reference/."""
    return [(f"[{name}](https://pypi.org/project/{name}/)", version) for name, version in packages(command)]
