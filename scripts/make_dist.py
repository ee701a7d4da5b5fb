"""Build the source distribution and the wheel, and check that they are what a release may publish.

``make dist`` writes them to dist/; a tag as argument must be that of the version, and deploy/ci/requirements.txt must
name the wheel then. Both are built twice, from the clone and from the unpacked source distribution: the same bytes show
that they are reproducible and that nothing is missing.
"""

import argparse
import configparser
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pin_client import CLIENT_PINS, REQUIREMENTS, pinned

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

HOME = Path(__file__).resolve().parent.parent
BUILD_SECONDS = 120
WEB_FOLDERS = ("web/static", "web/templates")
"""The folders below a package that have files in other languages than Python."""


def build(target: str, source: Path, into: Path) -> Path:
    """Build ``target`` (``sdist`` or ``wheel``) of the project at ``source``, and return the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(into)]
    # Some machines set the date of builds. The files have that of hatchling, so that the bytes are the same everywhere.
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(  # noqa: S603
        command, cwd=source, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if done.returncode:
        sys.exit(f"The {target} of {source} cannot be built:\n{done.stdout}{done.stderr}")
    [file] = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    if target == "wheel":
        store(file)
    return file


def store(wheel: Path) -> None:
    """Write a wheel again, without compression: its hash is pinned, and each zlib compresses to other bytes."""
    with zipfile.ZipFile(wheel) as archive:
        files = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, content in files:
            archive.writestr(info, content, zipfile.ZIP_STORED)


def packages(project: Mapping[str, Any]) -> list[Path]:
    """Return the folders of the packages that the wheel carries."""
    return [HOME / package for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def complaints(wheel: Path, project: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the contents of a wheel; empty if it is complete and has nothing else."""
    found: list[str] = []
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [info] = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
        expected = {
            f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        }
        for package in packages(project):
            expected |= {str(path.relative_to(package.parent)) for path in package.rglob("*.py")}
            for folder in WEB_FOLDERS:
                expected |= {str(path.relative_to(package.parent)) for path in package.glob(f"{folder}/*")}
            expected.add(f"{package.name}/py.typed")
        found += [f"It lacks {name}." for name in sorted(expected - names)]
        found += [f"It has {name}, which does not belong there." for name in sorted(names - expected)]
        if f"{info}/entry_points.txt" in names:
            declared = configparser.ConfigParser(delimiters=("=",))
            declared.read_string(archive.read(f"{info}/entry_points.txt").decode())
            wanted = {"console_scripts": project["project"]["scripts"], **project["project"]["entry-points"]}
            for group, commands in wanted.items():
                if not declared.has_section(group) or dict(declared[group]) != commands:
                    found.append(f"Its entry points of {group} are not those of pyproject.toml.")
    return found


def main() -> None:
    """Build both, check them, and print their names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", nargs="?", help="the tag that is released: v and the version")
    parser.add_argument("--into", type=Path, default=HOME / "dist", help="the folder for the two files")
    parser.add_argument("--requirements", type=Path, default=REQUIREMENTS, help="what must name the wheel of a tag")
    options = parser.parse_args()
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    for old in (*options.into.glob("dagferry-*.whl"), *options.into.glob("dagferry-*.tar.gz")):
        old.unlink()
    sdist = build("sdist", HOME, options.into)
    wheel = build("wheel", HOME, options.into)
    version = wheel.name.split("-")[1]
    if options.tag and options.tag != f"v{version}":
        sys.exit(f"The tag is {options.tag}, but the version is {version}: core/dagferry_core/__init__.py.")
    if found := complaints(wheel, project):
        sys.exit(f"{wheel}:\n" + "\n".join(found))
    if options.tag and options.requirements.read_text() != pinned(wheel, CLIENT_PINS.read_text()):
        sys.exit(f"{options.requirements} does not name this wheel. Run scripts/pin_client.py {wheel} and commit it.")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-xf", sdist, "-C", folder], check=True)  # noqa: S603, S607 - we made it just now
        again = Path(folder, "again")
        again.mkdir()
        for target, first in (("wheel", wheel), ("sdist", sdist)):
            second = build(target, Path(folder, f"dagferry-{version}"), again)
            if second.read_bytes() != first.read_bytes():
                sys.exit(f"{first.name} differs when it is built from the source distribution.")
    for file in (sdist, wheel):
        sys.stdout.write(f"{file}  {file.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
