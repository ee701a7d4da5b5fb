"""The first versions of two deployments may have one name: no bundle mixes them, nor one that is pointed elsewhere."""

import pytest

pytestmark = pytest.mark.airflow

NAMES = tuple("abcdefghijklmnopqrstuvwxyz")
"""Enough that two of their first deploys are made within one second."""

CODE = """
def read(name, deployment, version=None):
    bundle = made(version, name, server={url!r}, deployment=deployment)
    bundle.initialize()
    return (bundle.path / "etl.py").read_text()

say([
    read("one", {first!r}), read("two", {second!r}),
    read("one", {first!r}, {version!r}), read("two", {second!r}, {version!r}),
    read("one", {second!r}, {version!r}), read("one", {second!r}),
    read("one", {first!r}), read("one", {first!r}, {version!r}),
])
"""


def test_two_deployments_whose_first_versions_have_one_name(python, serve) -> None:
    server = serve("--deployments", ",".join(NAMES))
    first = second = ""
    versions: dict[str, str] = {}  # with the deployment that had it first
    for second in NAMES:
        version = server.deploy({"etl.py": f"# {second}\n".encode()}, second)["version"]
        first = versions.setdefault(version, second)
        if first != second:
            break
    assert first != second, "no two first deploys were made within one second"
    code = CODE.format(url=server.url, first=first, second=second, version=version)
    one, two = f"# {first}\n", f"# {second}\n"
    assert python(code) == [one, two, one, two, two, two, one, one]
