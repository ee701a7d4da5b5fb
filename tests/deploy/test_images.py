"""The Dockerfiles copy what exists, download nothing that is not pinned, and run as nobody in particular."""

import re

import pytest

from deployfiles import HOME

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
ADMITTED = [line[1:] for line in (HOME / ".dockerignore").read_text().splitlines() if line.startswith("!")]


@pytest.fixture(params=["server", "sidecar"])
def dockerfile(request: pytest.FixtureRequest) -> str:
    text = (HOME / f"Dockerfile.{request.param}").read_text()
    return re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")


def test_what_is_copied_exists_and_is_sent_to_the_builder(dockerfile: str) -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+)", dockerfile, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert copied
    for path in copied:
        assert (HOME / path).exists()
        assert any((HOME / path) in HOME.glob(pattern) for pattern in ADMITTED), path


def test_the_wheel_finds_every_package_in_the_build(dockerfile: str) -> None:
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        folder = package.partition("/")[0]
        assert f"COPY {folder} {folder}" in dockerfile


def test_pip_downloads_only_what_is_pinned_by_hash(dockerfile: str) -> None:
    calls = re.findall(r"pip [^&\n]*", dockerfile)
    assert calls
    for call in calls:
        assert "--require-hashes" in call or "--no-index" in call or call.startswith("pip /opt"), call


def test_it_runs_a_command_of_the_project_as_a_numeric_user_that_is_not_root(dockerfile: str) -> None:
    [(uid, command)] = re.findall(r'^USER (\d+):0\nENTRYPOINT \["/opt/dagferry/bin/(\S+)"\]$', dockerfile, re.MULTILINE)
    assert int(uid) > 0
    assert command in PROJECT["project"]["scripts"]


def test_the_server_s_data_folder_is_its_own_and_its_group_s_which_has_openshift_s_random_users() -> None:
    text = (HOME / "Dockerfile.server").read_text()
    assert re.search(r"install -d -o 50000 -g 0 -m 2770 /var/lib/dagferry$", text, re.MULTILINE)
