"""``scripts/pin_client.py`` pins a wheel and what it needs; the file in deploy/ci is one of this version."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pin_client import CLIENT_PINS, REQUIREMENTS, pinned

from dagferry_core import __version__
from deployfiles import HOME

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

SCRIPT = HOME / "scripts" / "pin_client.py"
CLIENT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["optional-dependencies"]["client"]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "dagferry-9.8.7-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


def test_it_pins_the_wheel_and_keeps_every_pin_of_the_client(wheel) -> None:
    text = pinned(wheel, CLIENT_PINS.read_text())
    digest = hashlib.sha256(b"a wheel").hexdigest()
    assert f"\ndagferry==9.8.7 \\\n    --hash=sha256:{digest}\n" in text
    without = text.replace(f"dagferry==9.8.7 \\\n    --hash=sha256:{digest}\n", "")
    assert re.sub(r"^#.*\n", "", without, flags=re.MULTILINE) == re.sub(
        r"^#.*\n", "", CLIENT_PINS.read_text(), flags=re.MULTILINE
    )


def test_another_content_has_another_hash(wheel) -> None:
    first = pinned(wheel, "")
    wheel.write_bytes(b"another")
    assert pinned(wheel, "") != first


def test_the_script_writes_the_file(wheel, tmp_path) -> None:
    subprocess.run([sys.executable, SCRIPT, wheel, "--into", tmp_path / "pins.txt"], check=True)
    assert (tmp_path / "pins.txt").read_text() == pinned(wheel, CLIENT_PINS.read_text())


@pytest.mark.parametrize("name", ["other-1.0-py3-none-any.whl", "dagferry-1.0.tar.gz", "missing"])
def test_what_is_not_a_wheel_of_dagferry_is_refused(tmp_path, name) -> None:
    if name != "missing":
        (tmp_path / name).write_bytes(b"")
    else:
        name = "dagferry-1.0-py3-none-any.whl"
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / name, "--into", tmp_path / "pins.txt"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert name in done.stderr
    assert not (tmp_path / "pins.txt").exists()


def test_the_file_in_deploy_ci_pins_this_version_and_everything_that_the_client_needs() -> None:
    text = REQUIREMENTS.read_text()
    found = [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z].*", text, re.MULTILINE)]
    assert all(re.fullmatch(r"==[0-9][^,*]*", str(pin.specifier)) for pin in found)
    pins = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}
    assert len(pins) == len(found)
    assert pins["dagferry"] == __version__
    for needed in map(Requirement, CLIENT):
        assert needed.specifier.contains(pins[canonicalize_name(needed.name)]), needed


def test_it_has_nothing_but_exact_versions_with_their_hashes() -> None:
    for line in REQUIREMENTS.read_text().splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][^/]* \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line)
