"""The object stores that tests run: finds them, or installs them into a cache.

    python tests/store_programs.py versitygw azurite     # installs what is not there, and prints the paths

Each is kept in a folder of ``DAGFERRY_STORE_CACHE`` (default: ``.store-cache`` in the clone) that is named after its
version and after all that it is installed from: hashes pin it, in ``go.sum``, ``package-lock.json`` or here. Go checks
a module that is installed by its version against its database of checksums.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SOURCES = HERE / "scale" / "programs"
CACHE = Path(os.environ.get("DAGFERRY_STORE_CACHE") or HERE.parent / ".store-cache").absolute()


class NotInstalled(Exception):
    """A store is not in the cache, and cannot be installed."""


class Program(NamedTuple):
    """How a store is installed: ``tool`` does it from ``source``; ``file`` is what is started then."""

    tool: str
    source: str
    file: str
    sha256: str = ""
    """Of a jar."""
    variable: str = ""
    """An environment variable that may name the file instead."""


PROGRAMS = {
    "versitygw": Program(
        "go install", "github.com/versity/versitygw/cmd/versitygw@v1.8.0", "versitygw", variable="VERSITYGW"
    ),
    "fake-gcs-server": Program(
        "go install", "github.com/fsouza/fake-gcs-server@v1.56.1", "fake-gcs-server", variable="FAKE_GCS_SERVER"
    ),
    "azurite": Program("npm", "azurite", "node_modules/azurite/dist/src/blob/main.js"),
    "s3proxy": Program(
        "mvn",
        "org.gaul:s3proxy:4.1.0:jar:jar-with-dependencies",
        "s3proxy-4.1.0-jar-with-dependencies.jar",
        "a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d",
    ),
    "s3mock": Program(
        "mvn",
        "com.adobe.testing:s3mock:5.2.0:jar:exec",
        "s3mock-5.2.0-exec.jar",
        "dd7c192fef0005374dec507317ae946eaa5beeffeb4e901d8b97f7fd2ddfb741",
    ),
    # Its module has a replacement, which "go install" of a version refuses.
    "seaweedfs": Program("go build", "github.com/seaweedfs/seaweedfs/weed", "weed"),
}


def find(name: str) -> Path:
    """The path of a store's program; ``NotInstalled``, with the command that installs it, if there is none."""
    program = PROGRAMS[name]
    if program.variable and (named := os.environ.get(program.variable)):
        return Path(named)
    path = _folder(name) / program.file
    if not path.exists():
        raise NotInstalled(f"{name} is not installed: run python tests/store_programs.py {name}")
    return path


def install(name: str) -> Path:
    """Install a store unless it is there; return the path of its program."""
    try:
        return find(name)
    except NotInstalled:
        pass
    program = PROGRAMS[name]
    tool = program.tool.partition(" ")[0]
    if not shutil.which(tool):
        raise NotInstalled(f"{name} needs {tool}, which is not in PATH")
    started = time.monotonic()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="installing-") as scratch:
        made = Path(scratch) / name
        made.mkdir()
        _TOOLS[program.tool](program, made)
        made.rename(_folder(name))
    sys.stderr.write(f"installed {name}: {time.monotonic() - started:.0f} s\n")
    return find(name)


def _folder(name: str) -> Path:
    digest = hashlib.sha256(repr(PROGRAMS[name]).encode())
    sources = [path for path in sorted((SOURCES / name).glob("*")) if path.is_file()]
    for path in sources:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    text = PROGRAMS[name].source + "".join(path.read_text() for path in sources if path.suffix in (".mod", ".json"))
    version = re.search(rf"{name}(?:@v|:|\S* v|\": \")(\d[\w.-]*)", text)
    return CACHE / "-".join(filter(None, (name, version and version[1], digest.hexdigest()[:12])))


def _go_install(program: Program, made: Path) -> None:
    _run(["go", "install", "-trimpath", program.source], made, GOBIN=str(made))


def _go_build(program: Program, made: Path) -> None:
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
    _run([*command, "-o", str(made / program.file), program.source], SOURCES / made.name, CGO_ENABLED="0")


def _npm(program: Program, made: Path) -> None:
    for path in SOURCES.joinpath(program.source).glob("package*.json"):
        shutil.copy(path, made)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--silent", "--ignore-scripts"], made)


def _mvn(program: Program, made: Path) -> None:
    repository = made / "repository"
    get = ["mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={repository}", "dependency:get"]
    _run([*get, "-Dtransitive=false", f"-Dartifact={program.source}"], made)
    [jar] = repository.rglob(program.file)
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    if digest != program.sha256:
        raise NotInstalled(f"{program.file} has the SHA-256 {digest}, not {program.sha256}")
    jar.rename(made / program.file)
    shutil.rmtree(repository)


_TOOLS = {"go install": _go_install, "go build": _go_build, "npm": _npm, "mvn": _mvn}


def _run(command: Sequence[str], folder: Path, **variables: str) -> None:
    # What Go says goes where its progress goes; the paths alone are the output.
    environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off", **variables}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)


def main(names: Sequence[str]) -> str | None:
    """Install these stores and print their paths; return what went wrong."""
    if not names or not set(names) <= PROGRAMS.keys():
        return f"which of: {' '.join(PROGRAMS)}"
    try:
        for name in names:
            sys.stdout.write(f"{install(name)}\n")
    except NotInstalled as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return f"the installation failed with {error.returncode}: see above"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
