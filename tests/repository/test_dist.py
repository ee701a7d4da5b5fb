"""``make dist`` builds what a release publishes, and notices when something is missing or too much."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from make_dist import build, complaints
from pin_client import CLIENT_PINS, pinned

from dagferry_core import __version__
from deployfiles import HOME

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

SCRIPT = HOME / "scripts" / "make_dist.py"
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
WHEEL = f"dagferry-{__version__}-py3-none-any.whl"


def run_script(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = run_script("--into", folder)
    assert done.returncode == 0, done.stderr
    return folder


pytestmark = pytest.mark.slow


def test_it_builds_a_wheel_and_a_source_distribution(built) -> None:
    assert {path.name for path in built.iterdir()} == {WHEEL, f"dagferry-{__version__}.tar.gz"}


def test_the_wheel_installs_every_command_and_nothing_of_the_tests(built) -> None:
    with zipfile.ZipFile(built / WHEEL) as wheel:
        names = wheel.namelist()
        commands = wheel.read(f"dagferry-{__version__}.dist-info/entry_points.txt").decode()
        metadata = wheel.read(f"dagferry-{__version__}.dist-info/METADATA").decode()
    assert {name.partition("/")[0] for name in names} == {
        *(path.name for path in HOME.glob("*/dagferry_*") if (path / "__init__.py").exists()),
        f"dagferry-{__version__}.dist-info",
    }
    assert not [name for name in names if "test" in name]
    assert all(f"{command} = " in commands for command in PROJECT["project"]["scripts"])
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Project-URL: Source, https://github.com/dagferry/dagferry\n" in metadata


def test_a_wheel_as_it_should_be_is_not_complained_of(built) -> None:
    assert complaints(built / WHEEL, PROJECT) == []


@pytest.mark.parametrize("lost", ["dagferry_core/py.typed", "dagferry_server/__main__.py", "licenses/LICENSE"])
def test_what_is_missing_is_named(built, tmp_path, lost) -> None:
    with zipfile.ZipFile(built / WHEEL) as wheel, zipfile.ZipFile(tmp_path / WHEEL, "w") as changed:
        for name in wheel.namelist():
            if not name.endswith(lost):
                changed.writestr(name, wheel.read(name))
    [complaint] = complaints(tmp_path / WHEEL, PROJECT)
    assert complaint.startswith("It lacks ")
    assert lost in complaint


@pytest.mark.parametrize("extra", ["tests/conftest.py", "dagferry_core/notes.txt"])
def test_what_does_not_belong_there_is_named(built, tmp_path, extra) -> None:
    shutil.copy(built / WHEEL, tmp_path / WHEEL)
    with zipfile.ZipFile(tmp_path / WHEEL, "a") as wheel:
        wheel.writestr(extra, "")
    assert complaints(tmp_path / WHEEL, PROJECT) == [f"It has {extra}, which does not belong there."]


def test_another_command_is_noticed(built) -> None:
    changed = {**PROJECT, "project": {**PROJECT["project"], "scripts": {"dagferry": "dagferry_client:main"}}}
    [complaint] = complaints(built / WHEEL, changed)
    assert "console_scripts" in complaint


def test_the_wheel_is_the_same_with_another_zlib_umask_and_date(built, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    before = os.umask(0o077)
    try:
        again = build("wheel", HOME, tmp_path)
    finally:
        os.umask(before)
    assert again.read_bytes() == (built / WHEEL).read_bytes()
    with zipfile.ZipFile(again) as wheel:
        assert {info.compress_type for info in wheel.infolist()} == {zipfile.ZIP_STORED}


def test_a_tag_is_refused_until_the_requirements_of_ci_name_its_wheel(built, tmp_path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(pinned(built / WHEEL, CLIENT_PINS.read_text()).replace("sha256:", "sha256:0", 1))
    arguments = (f"v{__version__}", "--into", tmp_path / "dist", "--requirements", pins)
    done = run_script(*arguments)
    assert done.returncode == 1
    assert "Run scripts/pin_client.py" in done.stderr
    subprocess.run([sys.executable, SCRIPT.with_name("pin_client.py"), built / WHEEL, "--into", pins], check=True)
    done = run_script(*arguments)
    assert done.returncode == 0, done.stderr


def test_the_requirements_of_ci_are_not_in_the_wheel_so_that_they_can_name_its_hash(built) -> None:
    with zipfile.ZipFile(built / WHEEL) as wheel:
        assert not [name for name in wheel.namelist() if "requirements" in name]


def test_a_tag_of_another_version_is_refused(tmp_path) -> None:
    done = run_script("v99.0.0", "--into", tmp_path)
    assert done.returncode == 1
    assert f"the version is {__version__}" in done.stderr
