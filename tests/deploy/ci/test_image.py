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
MANIFEST = f"""{{
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "digest": "{DIGEST}",
  "size": 856,
  "manifests": [{{"mediaType": "x", "digest": "sha256:{"b" * 64}", "size": 1}}]
}}
"""
DOCKER = """
printf '%s\\n' "$*" >> calls
case $1 in
  login) cat >> passwords ;;
  build) printf '%s' "${PIP_CONF-}" > secret ;;
  push) [ -e fail-push ] || touch pushed ;;
  buildx) [ -e pushed ] && cat manifest ;;
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
    # As docker prints it: the digest of the whole, then those of its parts.
    (tmp_path / "manifest").write_text(MANIFEST)
    (tmp_path / "requirements.txt").write_text("pandas==2.3.3\n")
    (tmp_path / "packages.txt").write_text("")
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


def commands(folder: Path) -> list[str]:
    """What docker was asked for, each by its first word."""
    return [call.split()[0] for call in calls(folder)]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_logs_in_builds_pushes_and_prints_the_digest(folder, shell) -> None:
    if not shutil.which(shell[0]):
        pytest.skip(f"there is no {shell[0]}")
    variables = {"REGISTRY_TOKEN": "token", "GITHUB_ACTOR": "ann", "PIP_CONF": "[global]\n"}
    output = {"GITHUB_OUTPUT": str(folder / "output")}
    done = build(folder, "ghcr.io/Acme/airflow", "--build-arg", "A=b c", shell=shell, **variables, **output)
    assert (done.returncode, done.stdout) == (0, DIGEST + "\n"), done.stderr
    assert (folder / "output").read_text() == f"digest={DIGEST}\n"
    [tag] = {word for call in calls(folder) for word in re.findall(r"ghcr.io/acme/airflow:(\S+)", call)}
    assert re.fullmatch("[0-9a-f]{32}", tag)
    options = "--secret id=pip_conf,env=PIP_CONF --build-arg A=b c"
    inspect = "buildx imagetools inspect --format {{json .Manifest}} ghcr.io/acme/airflow:" + tag
    assert calls(folder) == [
        "login ghcr.io --username ann --password-stdin",
        inspect,
        f"build --pull --file {IMAGE}/Dockerfile --tag ghcr.io/acme/airflow:{tag} {options} .",
        f"push ghcr.io/acme/airflow:{tag}",
        inspect,
    ]
    assert (folder / "passwords").read_text() == "token"
    assert (folder / "secret").read_text() == "[global]\n"
    assert "token" not in done.stderr + str(calls(folder))


def test_what_the_registry_has_is_not_built_again_unless_that_is_wanted(folder) -> None:
    assert build(folder, "ghcr.io/acme/airflow").returncode == 0
    again = build(folder, "ghcr.io/acme/airflow", GITHUB_OUTPUT=str(folder / "output"))
    assert (again.returncode, again.stdout) == (0, DIGEST + "\n")
    assert (folder / "output").read_text() == f"digest={DIGEST}\n"
    assert commands(folder) == ["buildx", "build", "push", "buildx", "buildx"]
    assert build(folder, "ghcr.io/acme/airflow", REBUILD="true").returncode == 0
    assert commands(folder)[5:] == ["build", "push", "buildx"]


def test_each_change_of_the_content_is_another_tag_and_dags_are_none(folder) -> None:
    def tag(*arguments: str) -> str:
        assert build(folder, "ghcr.io/acme/airflow", *arguments).returncode == 0
        return calls(folder)[-1].rpartition(":")[2]

    first = tag()
    (folder / "dags").mkdir()
    (folder / "dags" / "a.py").write_text("a = 1\n")
    assert tag() == first
    tags = [first, tag("--build-arg", "A=1"), tag("--build-arg", "A=2"), tag("--build-arg A=2")]
    (folder / "requirements.txt").write_text("pandas==2.3.4\n")
    tags.append(tag())
    (folder / "packages.txt").write_text("git\n")
    tags.append(tag())
    assert len(set(tags)) == len(tags)


def test_without_a_token_and_a_secret_there_is_no_login_and_no_secret(folder) -> None:
    done = build(folder, "ghcr.io/acme/airflow")
    assert done.returncode == 0, done.stderr
    assert commands(folder) == ["buildx", "build", "push", "buildx"]
    assert "--secret" not in str(calls(folder))


@pytest.mark.parametrize("step", ["login", "build", "push"])
def test_each_failure_is_red_and_gives_no_digest(folder, step) -> None:
    (folder / f"fail-{step}").touch()
    output = folder / "output"
    done = build(folder, "ghcr.io/acme/airflow", REGISTRY_TOKEN="t", GITHUB_OUTPUT=str(output))
    assert (done.returncode != 0, done.stdout, output.exists()) == (True, "", False)
    assert commands(folder)[-1] == step


@pytest.mark.parametrize("manifest", ["", "{}", '{"digest": "sha256:abc"}', "<html>"])
def test_a_push_without_a_digest_is_red(folder, manifest) -> None:
    (folder / "manifest").write_text(manifest)
    done = build(folder, "ghcr.io/acme/airflow")
    assert (done.returncode, done.stdout) == (2, "")
    assert "gave no digest" in done.stderr


@pytest.mark.parametrize("missing", ["name", "requirements.txt", "packages.txt"])
def test_without_a_name_or_a_list_nothing_is_built(folder, missing) -> None:
    if missing != "name":
        (folder / missing).unlink()
    assert build(folder, *([] if missing == "name" else ["ghcr.io/acme/airflow"])).returncode == 2
    assert calls(folder) == []


def test_every_variable_is_documented_in_the_script_and_on_the_page() -> None:
    text = BUILD.read_text()
    used = set(re.findall(r"\$\{([A-Z_]+):?-", text))
    used -= {"GITHUB_ACTOR", "CI_REGISTRY_USER", "GITHUB_OUTPUT"}  # those of the CI
    assert used == {"REGISTRY_TOKEN", "REGISTRY_USER", "PIP_CONF", "REBUILD"}
    for name in used:
        assert re.search(rf"^#   {name} ", text, re.MULTILINE)
        assert f"| `{name}` |" in PAGE
