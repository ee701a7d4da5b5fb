"""The Dockerfiles copy what exists, use nothing that is not pinned, and run as nobody in particular."""

import re
import sys
from pathlib import Path

import pytest

from deployfiles import HOME, run, tool

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
ADMITTED = [line[1:] for line in (HOME / ".dockerignore").read_text().splitlines() if line.startswith("!")]


OURS = ["Dockerfile.server", "Dockerfile.sidecar"]
AIRFLOW = "deploy/airflow/Dockerfile"


def code(name: str) -> str:
    """A Dockerfile without comments, each instruction on one line."""
    return re.sub(r"^#.*\n", "", (HOME / name).read_text(), flags=re.MULTILINE).replace("\\\n", "")


@pytest.fixture(params=OURS)
def dockerfile(request: pytest.FixtureRequest) -> str:
    return code(request.param)


@pytest.fixture(params=[*OURS, AIRFLOW])
def any_dockerfile(request: pytest.FixtureRequest) -> str:
    return code(request.param)


def test_what_is_copied_exists_and_is_sent_to_the_builder(any_dockerfile: str) -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+)", any_dockerfile, re.MULTILINE) for word in line.split()[:-1]
    ]
    copied += re.findall(r"--mount=type=bind,source=([^,]+),", any_dockerfile)
    assert copied
    for path in copied:
        assert (HOME / path).exists()
        assert any((HOME / path) in HOME.glob(pattern) for pattern in ADMITTED), path


def test_the_wheel_finds_every_package_in_the_build(any_dockerfile: str) -> None:
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        folder = package.partition("/")[0]
        assert f"COPY {folder} {folder}" in any_dockerfile


def test_pip_downloads_only_what_is_pinned_by_hash(any_dockerfile: str) -> None:
    calls = re.findall(r"pip [^&\n]*", any_dockerfile)
    assert calls
    for call in calls:
        assert "--require-hashes" in call or "--no-index" in call or call.startswith("pip /opt"), call


def test_the_base_is_pinned_by_digest_the_same_in_both_and_another_one_can_be_given(dockerfile: str) -> None:
    bases = re.findall(r"^FROM (\S+) AS pinned$", dockerfile, re.MULTILINE)
    assert len(bases) == 1
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])
    assert bases[0] in code(OURS[0])
    assert dockerfile.startswith("ARG BASE=pinned\n")  # before the first stage: only there FROM knows it
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) <= {bases[0], "${BASE}"}


def test_the_example_starts_from_the_airflow_that_is_given_and_ends_as_its_user() -> None:
    stages = re.split(r"^(?=FROM )", code(AIRFLOW), flags=re.MULTILINE)[1:]
    assert [stage.split()[1] for stage in stages] == ["${AIRFLOW}"] * 2
    assert "\nUSER" not in stages[-1]


@pytest.mark.parametrize("name", [*OURS, AIRFLOW])
def test_hadolint_finds_nothing(name: str) -> None:
    run(*tool([str(Path(sys.executable).parent / "hadolint")], ["hadolint"]), "--no-color", HOME / name)


def test_an_image_says_what_it_is_and_what_it_was_built_from(any_dockerfile: str) -> None:
    last = any_dockerfile[any_dockerfile.rindex("\nFROM ") :]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', last))
    assert labels.keys() >= {"title", "description", "source", "version", "revision"}
    assert labels["source"] == PROJECT["project"]["urls"]["Source"]
    for name in ("version", "revision"):
        assert labels[name] == f"${{{name.upper()}}}"
        # After all that takes time: else each commit would build everything again.
        assert last.rindex("\nRUN ") < last.index(f'\nARG {name.upper()}=""\n')


def test_it_runs_a_command_of_the_project_as_a_numeric_user_that_is_not_root(dockerfile: str) -> None:
    [(uid, command)] = re.findall(r'^USER (\d+):0\nENTRYPOINT \["/opt/dagferry/bin/(\S+)"\]$', dockerfile, re.MULTILINE)
    assert int(uid) > 0
    assert command in PROJECT["project"]["scripts"]


def test_the_server_s_data_folder_is_its_own_and_its_group_s_which_has_openshift_s_random_users() -> None:
    text = (HOME / "Dockerfile.server").read_text()
    assert re.search(r"install -d -o 50000 -g 0 -m 2770 /var/lib/dagferry$", text, re.MULTILINE)
