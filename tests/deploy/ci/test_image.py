"""The template of Airflow's image: what linters say, no DAGs and no secrets in it, and the script that builds it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployfiles import HOME, run, tool
from workflows import search_path, stand_in

IMAGE = HOME / "deploy" / "ci" / "image"
DOCKERFILE = IMAGE / "Dockerfile"
BUILD = IMAGE / "build.sh"
PAGE = (HOME / "docs" / "how-to" / "build-the-airflow-image.md").read_text()
SHELLS = [("dash",), ("bash",), ("busybox", "sh")]
DIGEST = "sha256:" + "a" * 64
DOCKER = """
printf '%s\\n' "$*" >> calls
case $1 in
  login) cat >> passwords ;;
  build) printf '%s' "${PIP_CONF-}" > secret ;;
  push) ;;
  inspect) cat digests ;;
  *) exit 2 ;;
esac
if [ -e "fail-$1" ]; then exit 1; fi
"""


def code() -> str:
    """The Dockerfile without comments, each instruction on one line."""
    return re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")


def test_hadolint_finds_nothing() -> None:
    run(*tool([str(Path(sys.executable).parent / "hadolint")], ["hadolint"]), "--no-color", DOCKERFILE)


def test_shellcheck_finds_nothing() -> None:
    run(*tool(["shellcheck"]), BUILD)


def test_no_dags_are_in_it_and_only_two_files_are_sent_to_the_builder() -> None:
    assert not re.search(r"^(COPY|ADD) ", code(), re.MULTILINE)
    ignored = [line for line in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert ignored == ["*", "!requirements.txt", "!packages.txt"]
    bound = set(re.findall(r"type=bind,source=(\S+?),", code()))
    assert bound == {"requirements.txt", "packages.txt"}


def test_the_password_of_the_private_index_is_a_secret_mount_and_no_argument() -> None:
    assert "--mount=type=secret,id=pip_conf,target=/run/secrets/pip_conf,uid=50000" in code()
    assert "PIP_CONFIG_FILE=/run/secrets/pip_conf pip install --no-cache-dir" in code()
    assert not re.search(r"^(ARG|ENV) .*(?i:token|password|secret|index)", code(), re.MULTILINE)
    assert "PIP_CONFIG_FILE" not in re.sub(r"^RUN .*", "", code(), flags=re.MULTILINE)


def test_the_image_without_a_target_has_no_test_tools_and_does_not_run_as_root() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", code(), re.MULTILINE)
    base = "apache/airflow:${AIRFLOW_VERSION}-python${PYTHON_VERSION}"
    assert stages == [(base, "airflow"), ("airflow", "test"), ("airflow", "final")]
    assert re.findall(r"^USER (\d+)$", code(), re.MULTILINE)[-1] == "50000"


def test_it_has_the_plugin_and_the_versions_that_are_tested() -> None:
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", code(), re.MULTILINE))
    tested = re.findall(r"3\.\d+\.\d+|2\.\d+\.\d+", (HOME / "tests/airflow/make_environments").read_text())
    assert arguments["AIRFLOW_VERSION"] in tested
    from dagferry_core import __version__

    assert arguments["DAGFERRY_VERSION"] == __version__
    assert '"dagferry[airflow]==${DAGFERRY_VERSION}"' in code()
    for name, default in arguments.items():
        assert f"| `{name}` | `{default}` |" in PAGE


@pytest.fixture
def folder(tmp_path) -> Path:
    stand_in(tmp_path / "bin", "docker", DOCKER)
    (tmp_path / "digests").write_text(f"docker.io/other/airflow@sha256:{'b' * 64}\nghcr.io/acme/airflow@{DIGEST}\n")
    return tmp_path


def build(
    folder: Path, *arguments: str, shell: tuple[str, ...] = ("sh",), **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*shell, BUILD, *arguments],
        cwd=folder,
        env={"PATH": search_path(folder / "bin"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_logs_in_builds_pushes_and_prints_the_digest_of_that_name(folder, shell) -> None:
    if not shutil.which(shell[0]):
        pytest.skip(f"there is no {shell[0]}")
    variables = {"REGISTRY_TOKEN": "token", "GITHUB_ACTOR": "ann", "GITHUB_SHA": "abc", "PIP_CONF": "[global]\n"}
    output = {"GITHUB_OUTPUT": str(folder / "output")}
    done = build(folder, "ghcr.io/Acme/airflow", "--build-arg", "A=b c", shell=shell, **variables, **output)
    assert (done.returncode, done.stdout) == (0, DIGEST + "\n"), done.stderr
    assert (folder / "output").read_text() == f"digest={DIGEST}\n"
    options = "--secret id=pip_conf,env=PIP_CONF --build-arg A=b c"
    assert calls(folder) == [
        "login ghcr.io --username ann --password-stdin",
        f"build --pull --file {IMAGE}/Dockerfile --tag ghcr.io/acme/airflow:abc {options} .",
        "push ghcr.io/acme/airflow:abc",
        "inspect --format {{range .RepoDigests}}{{println .}}{{end}} ghcr.io/acme/airflow:abc",
    ]
    assert (folder / "passwords").read_text() == "token"
    assert (folder / "secret").read_text() == "[global]\n"
    assert "token" not in done.stderr + str(calls(folder))


def test_without_a_token_and_a_secret_there_is_no_login_and_no_secret(folder) -> None:
    done = build(folder, "ghcr.io/acme/airflow", TAG="1", CI_COMMIT_SHA="abc")
    assert done.returncode == 0, done.stderr
    assert [call.split()[0] for call in calls(folder)] == ["build", "push", "inspect"]
    assert "--secret" not in calls(folder)[0]
    assert "ghcr.io/acme/airflow:1" in calls(folder)[0]


@pytest.mark.parametrize("step", ["login", "build", "push", "inspect"])
def test_each_failure_is_red_and_gives_no_digest(folder, step) -> None:
    (folder / f"fail-{step}").touch()
    output = folder / "output"
    done = build(folder, "ghcr.io/acme/airflow", TAG="1", REGISTRY_TOKEN="t", GITHUB_OUTPUT=str(output))
    assert (done.returncode != 0, done.stdout, output.exists()) == (True, "", False)
    assert calls(folder)[-1].startswith(step)


@pytest.mark.parametrize("digests", ["", f"docker.io/other/airflow@{DIGEST}\n", "ghcr.io/acme/airflow@sha256:abc\n"])
def test_a_push_without_a_digest_is_red(folder, digests) -> None:
    (folder / "digests").write_text(digests)
    done = build(folder, "ghcr.io/acme/airflow", TAG="1")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(("arguments", "variables"), [((), {"TAG": "1"}), (("ghcr.io/acme/airflow",), {})])
def test_without_a_name_or_a_tag_nothing_is_built(folder, arguments, variables) -> None:
    assert build(folder, *arguments, **variables).returncode == 2
    assert calls(folder) == []


def test_every_variable_is_documented_in_the_script_and_on_the_page() -> None:
    text = BUILD.read_text()
    used = set(re.findall(r"\$\{([A-Z_]+):?-", text)) - {"GITHUB_SHA", "CI_COMMIT_SHA", "GITHUB_ACTOR"}
    used -= {"CI_REGISTRY_USER", "GITHUB_OUTPUT"}  # those of the CI
    assert used == {"REGISTRY_TOKEN", "REGISTRY_USER", "PIP_CONF", "TAG"}
    for name in used:
        assert re.search(rf"^#   {name} ", text, re.MULTILINE)
        assert f"| `{name}` |" in PAGE
