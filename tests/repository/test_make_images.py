"""``make images`` builds with what the machine has, says what it built from, and pushes for a release."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagferry_core import __version__
from deployfiles import HOME

SCRIPT = HOME / "scripts" / "make_images.py"
DIGEST = "sha256:" + "c" * 64
ENGINES = {
    "docker": """
        case $1 in
          version) [ -e no-daemon ] && { echo "Cannot connect" >&2; exit 1; }; echo 28.2.2 ;;
          build) ;;
          buildx) for word in "$@"; do
              [ "$previous" = --metadata-file ] && printf '{"containerimage.digest": "%s"}' "$DIGEST" >"$word"
              previous=$word
            done ;;
          image) echo 230000000 ;;
          save) touch "$3" ;;
          *) exit 9 ;;
        esac
    """,
    "buildah": """
        case $1 in
          build) ;;
          manifest) for word in "$@"; do
              [ "$previous" = --digestfile ] && printf %s "$DIGEST" >"$word"
              previous=$word
            done ;;
          images) echo '[{"size": "230 MB"}]' ;;
          push) ;;
          *) exit 9 ;;
        esac
    """,
    "syft": """
        for word in "$@"; do case $word in spdx-json=*) echo '{}' >"${word#*=}" ;; esac; done
    """,
}


class Machine:
    """A machine with some of the engines, which note what they are asked for."""

    def __init__(self, folder: Path, *engines: str) -> None:
        self.folder = folder
        for name in engines:
            path = folder / name
            path.write_text(
                f'#!/bin/sh\ncd {folder}\nprintf "%s\\n" "{name} $*" >>asked\n'
                f'[ -e fail ] && exit 3\nDIGEST={DIGEST}\nprevious=""\n{ENGINES[name]}'
            )
            path.chmod(0o755)
        for name in ("git", "touch"):
            (folder / name).symlink_to(next(p for p in (Path("/usr/bin", name), Path("/bin", name)) if p.exists()))

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, SCRIPT, *arguments],
            env={"HOME": os.environ.get("HOME", "/"), "PATH": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self, words: str) -> list[list[str]]:
        """The commands that began with ``words``."""
        lines = (self.folder / "asked").read_text().splitlines()
        return [line.split() for line in lines if line.startswith(words)]


@pytest.fixture(params=["docker", "buildah"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_server_and_sidecar_are_built_with_version_and_commit(tmp_path: Path, engine: str) -> None:
    machine = Machine(tmp_path, engine)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"dagferry-server:{__version__}  230 MB\ndagferry-sidecar:{__version__}  230 MB\n"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HOME, capture_output=True, text=True, check=True).stdout
    built = machine.asked(f"{engine} build ")
    assert [command[command.index("--file") + 1] for command in built] == ["Dockerfile.server", "Dockerfile.sidecar"]
    for command in built:
        assert f"VERSION={__version__}" in command
        [revision] = [word for word in command if word.startswith("REVISION=")]
        assert revision.removesuffix("-dirty") == f"REVISION={head.strip()}"
        assert command[-1] == "."


def test_docker_whose_daemon_is_away_is_not_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "docker", "buildah")
    (tmp_path / "no-daemon").touch()
    assert machine.run("sidecar").returncode == 0
    assert machine.asked("docker build ") == []
    assert len(machine.asked("buildah build ")) == 1


def test_without_an_engine_it_says_what_to_install(tmp_path: Path) -> None:
    done = Machine(tmp_path).run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "install one of them" in done.stderr


def test_a_release_pushes_all_platforms_as_one_image_and_prints_its_digest(tmp_path: Path, engine: str) -> None:
    machine = Machine(tmp_path, engine)
    platforms = "linux/amd64,linux/arm64"
    done = machine.run("--registry", "ghcr.io/acme", "--push", "--platforms", platforms, "server")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ghcr.io/acme/dagferry-server:{__version__}@{DIGEST}\n"
    [command] = machine.asked({"docker": "docker buildx build", "buildah": "buildah build"}[engine])
    assert command[command.index("--platform") + 1] == platforms
    if engine == "docker":
        assert {"--push", "--sbom=true", "--provenance=mode=max"} <= set(command)
    else:
        [pushed] = machine.asked("buildah manifest push")
        assert pushed[-1] == f"docker://ghcr.io/acme/dagferry-server:{__version__}"
        assert "--all" in pushed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["proxy"], "There is no image proxy"),
        (["--push"], "--push needs --registry"),
        (["--platforms", "linux/amd64,linux/arm64"], "need --push"),
    ],
    ids=["image", "registry", "platforms"],
)
def test_what_cannot_work_is_refused_before_anything_is_built(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    machine = Machine(tmp_path, "docker")
    done = machine.run(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert not (tmp_path / "asked").exists()


def test_a_failed_build_is_a_failure(tmp_path: Path, engine: str) -> None:
    machine = Machine(tmp_path, engine)
    (tmp_path / "fail").touch()
    done = machine.run("--engine", engine)
    assert done.returncode == 1
    assert "build failed with 3" in done.stderr


def test_the_example_of_airflow_and_other_bases_can_be_built(tmp_path: Path, engine: str) -> None:
    machine = Machine(tmp_path, engine)
    assert machine.run("--build-arg", "AIRFLOW=apache/airflow:2.11.2", "airflow").returncode == 0
    [command] = machine.asked(f"{engine} build ")
    assert command[command.index("--file") + 1] == "deploy/airflow/Dockerfile"
    assert "AIRFLOW=apache/airflow:2.11.2" in command


def test_with_syft_there_is_an_sbom_of_each(tmp_path: Path, engine: str) -> None:
    machine = Machine(tmp_path, engine, "syft")
    done = machine.run("sidecar", "--into", str(tmp_path / "dist"), SYFT=str(tmp_path / "syft"))
    assert done.returncode == 0, done.stderr
    written = tmp_path / "dist" / "dagferry-sidecar.spdx.json"
    assert done.stdout.splitlines()[-1] == str(written)
    assert json.loads(written.read_text()) == {}
