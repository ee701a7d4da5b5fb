"""``deploy/ci/deploy.sh`` installs exactly the pinned client, runs it, and ends with its exit code.

Where only the installation is tested, the wheel is a small one of the same name and version, which pip installs as any
other; one test installs the real one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from make_dist import build
from pin_client import CLIENT_PINS, REQUIREMENTS, pinned

from dagferry_core import __version__
from deployfiles import HOME, tool
from harness import PATIENCE_SECONDS, free_port

pytestmark = pytest.mark.slow

SCRIPT = HOME / "deploy" / "ci" / "deploy.sh"
CLIENT = Path(sys.executable).parent
"""Has the command ``dagferry`` of this checkout."""
DAG = "from airflow.sdk import DAG\n"
SHELLS = (["dash"], ["bash"], ["busybox", "sh"])
INSTALL_SECONDS = 300
NEEDED = ("dirname", "sed", "id", "mkdir", "rm", "grep")
"""All programs that the script uses, but for Python and dagferry."""
SMALL_CLIENT = f"""
import json, sys
def main():
    if sys.argv[1:] == ["--version"]:
        print("dagferry {__version__}")
    else:
        print(json.dumps(sys.argv[1:]))
        sys.exit(7)
"""
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


def small_wheel(folder: Path, source: str = SMALL_CLIENT) -> Path:
    """Write a wheel that has nothing but a command ``dagferry``, which prints its arguments and ends with 7."""
    info = f"dagferry-{__version__}.dist-info"
    files = {
        "small_client.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: dagferry\nVersion: {__version__}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ndagferry = small_client:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    wheel = folder / f"dagferry-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, content)
    return wheel


class Job:
    """A CI job: a copy of the script with requirements of its own, a checkout, and a temporary folder."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.script = folder / "ci" / "deploy.sh"
        self.requirements = folder / "ci" / "requirements.txt"
        self.checkout = folder / "checkout"
        self.temp = folder / "temp dir"
        self.bin = folder / "bin"
        for made in (self.script.parent, self.checkout / "dags", self.temp, self.bin):
            made.mkdir(parents=True)
        shutil.copy(SCRIPT, self.script)
        (self.checkout / "dags" / "etl.py").write_text(DAG)
        # An empty environment is copied: to make one takes seconds.
        self.python("python3", f'case "$*" in "-I -m venv "*) exec cp -R {template}/. "$4" ;; esac')
        self.wheel = small_wheel(folder / "index")
        digest = hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        self.requirements.write_text(f"dagferry=={__version__} \\\n    --hash=sha256:{digest}\n")
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "RUNNER_TEMP": str(self.temp),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheel.parent),
        }

    def python(self, name: str, before: str = "") -> None:
        """Put this test's Python into PATH; ``before`` are lines of shell that come first."""
        (self.bin / name).write_text(f'#!/bin/sh\n{before}\nexec {sys.executable} "$@"\n')
        (self.bin / name).chmod(0o755)

    def start(self, *arguments: str, shell: list[str] | None = None, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*(shell or ["sh"]), self.script, *arguments],
            cwd=self.checkout,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *arguments: str, shell: list[str] | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, shell=shell, **environment)
        out, errors = process.communicate(timeout=INSTALL_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def installs(self, **environment: str) -> Path:
        """Run with ``--install``; return the command, which must work."""
        done = self.run("--install", **environment)
        assert done.returncode == 0, done.stderr
        command = Path(done.stdout.removesuffix("\n"))
        shown = subprocess.run([command, "--version"], check=True, capture_output=True, text=True, cwd="/")
        assert shown.stdout == f"dagferry {__version__}\n"
        return command

    def kept(self) -> list[Path]:
        """The environments in the temporary folder."""
        return sorted(self.temp.glob("dagferry-*/*"))


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """An environment with pip alone."""
    folder = tmp_path_factory.mktemp("template")
    subprocess.run([sys.executable, "-I", "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def job(tmp_path: Path, template: Path) -> Job:
    return Job(tmp_path, template)


@pytest.fixture
def with_client(job: Job) -> Job:
    """A job in an image that has the pinned command."""
    job.environment["PATH"] = f"{CLIENT}:{job.environment['PATH']}"
    shutil.copy(REQUIREMENTS, job.requirements)
    return job


@pytest.fixture
def stuck(job: Job) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start an installation, and return it when it waits for an index that never answers."""
    with contextlib.ExitStack() as opened, socket.create_server(("127.0.0.1", free_port())) as listener:
        listener.settimeout(PATIENCE_SECONDS)
        index = f"http://127.0.0.1:{listener.getsockname()[1]}/simple"

        def start(shell: list[str] | None = None) -> "subprocess.Popen[str]":
            process = job.start("--install", shell=shell, PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=index)
            opened.enter_context(listener.accept()[0])
            return process

        yield start


# --- The command.


@each_shell
def test_it_deploys_and_prints_the_version_and_a_second_time_says_unchanged(with_client, serve, shell) -> None:
    server = serve("--deployments", "prod")
    where = {"DAGFERRY_SERVER": server.url, "DAGFERRY_DEPLOYMENT": "prod"}
    done = with_client.run(shell=tool(shell), **where)
    assert done.returncode == 0, done.stderr
    assert done.stdout == server.current("prod")["version"] + "\n"
    again = with_client.run(shell=shell, **where)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "Nothing was deployed: prod has exactly this content already." in again.stderr


@each_shell
@pytest.mark.parametrize("text", ["it's; $(touch made) `touch made` \" * \\", "--", "ä\nb", " "], ids=range(4))
def test_arguments_arrive_as_they_are(with_client, serve, shell, text) -> None:
    server = serve("--deployments", "prod")
    done = with_client.run("--server", server.url, "--deployment", "prod", "--message", f"x{text}y", shell=tool(shell))
    assert done.returncode == 0, done.stderr
    [deploy] = json.loads(server.get("/prod/dags/deploys")[1])["deploys"]
    assert deploy["description"].split() == f"x{text}y".split()
    assert sorted(os.listdir(with_client.checkout)) == ["dags"]


@each_shell
def test_the_exit_code_is_that_of_dagferry(with_client, serve, shell) -> None:
    server = serve("--deployments", "prod")
    where = {"DAGFERRY_SERVER": server.url, "DAGFERRY_DEPLOYMENT": "prod"}
    assert with_client.run(shell=tool(shell)).returncode == 2
    assert with_client.run(shell=shell, **{**where, "DAGFERRY_DEPLOYMENT": "other"}).returncode == 4
    (with_client.checkout / "dags" / "etl.py").write_text(DAG + "def\n")
    assert with_client.run(shell=shell, **where).returncode == 3
    server.stop()
    assert with_client.run(shell=shell, **where).returncode == 5


def test_a_command_in_path_of_the_pinned_version_is_used(with_client) -> None:
    done = with_client.run("--install")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{CLIENT / 'dagferry'}\n", "")
    assert with_client.kept() == []


@pytest.mark.parametrize("lines", ["echo dagferry 9.9.9", "exit 1", f"echo dagferry {__version__}.dev1"], ids=range(3))
def test_a_command_in_path_of_another_version_is_not_used(job, lines) -> None:
    (job.bin / "dagferry").write_text(f"#!/bin/sh\n{lines}\n")
    (job.bin / "dagferry").chmod(0o755)
    assert job.installs().is_relative_to(job.temp)


# --- The installation.


@pytest.fixture(scope="module")
def real_wheel(tmp_path_factory) -> Path:
    return build("wheel", HOME, tmp_path_factory.mktemp("wheel"))


def test_it_installs_the_real_client_with_hashes_and_deploys(job, serve, real_wheel) -> None:
    server = serve("--deployments", "prod")
    job.python("python3")
    job.requirements.write_text(pinned(real_wheel, CLIENT_PINS.read_text()))
    # The index that this machine has, for all but dagferry itself, which may not be released yet.
    found = {**os.environ, "PATH": job.environment["PATH"], "RUNNER_TEMP": str(job.temp)}
    job.environment = {**found, "PIP_FIND_LINKS": str(real_wheel.parent)}
    done = job.run("--server", server.url, "--deployment", "prod")
    if "cannot reach its index" in done.stderr and not os.environ.get("CI"):
        pytest.skip("needs pip's index")
    assert done.returncode == 0, done.stderr
    assert done.stdout == server.current("prod")["version"] + "\n"
    [environment] = job.kept()
    check = subprocess.run([environment / "bin" / "python", "-m", "pip", "check"], check=False, capture_output=True)
    assert check.returncode == 0, check.stdout


@each_shell
def test_what_was_installed_serves_the_next_job_without_pip(job, shell, tmp_path) -> None:
    done = job.run("--install", shell=tool(shell))
    assert done.returncode == 0, done.stderr
    again = job.run("a b", shell=shell, PIP_FIND_LINKS=str(tmp_path / "nothing"))
    assert (again.returncode, again.stdout, again.stderr) == (7, '["deploy", "a b"]\n', "")
    assert len(job.kept()) == 1


def test_it_needs_nothing_but_python_and_the_programs_of_every_system(job) -> None:
    job.python("python3")
    busybox = shutil.which(tool(["busybox"])[0])
    for name in NEEDED:
        (job.bin / name).symlink_to(busybox)
    done = job.run("--install", shell=[busybox, "sh"], PATH=str(job.bin))
    assert done.returncode == 0, done.stderr


def test_other_requirements_are_installed_anew(job) -> None:
    first = job.installs()
    job.requirements.write_text(job.requirements.read_text() + "# changed\n")
    assert job.installs() != first
    assert len(job.kept()) == 2


def test_an_installation_that_is_killed_is_not_used(job, stuck) -> None:
    process = stuck()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
    [left] = job.kept()
    assert not job.installs().is_relative_to(left)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
@each_shell
def test_an_installation_that_is_cancelled_leaves_nothing(job, stuck, shell, number, code) -> None:
    process = stuck(tool(shell))
    os.killpg(process.pid, number)
    assert process.communicate(timeout=PATIENCE_SECONDS)[0] == ""
    assert process.returncode == code
    assert job.kept() == []


def test_jobs_at_once_do_not_disturb_each_other(job, stuck) -> None:
    slow = stuck()
    jobs = [job.start("x") for _ in range(2)]
    for process in jobs:
        out, errors = process.communicate(timeout=INSTALL_SECONDS)
        assert (process.returncode, out) == (7, '["deploy", "x"]\n'), errors
    os.killpg(slow.pid, signal.SIGTERM)
    slow.communicate(timeout=PATIENCE_SECONDS)
    assert job.installs().exists()


def test_an_environment_that_was_moved_is_made_anew(job, tmp_path) -> None:
    first = job.installs(DAGFERRY_VENV=str(tmp_path / "cache"))
    (tmp_path / "cache").rename(tmp_path / "restored")
    again = job.installs(DAGFERRY_VENV=str(tmp_path / "restored"))
    assert again.parent.parent.parent == tmp_path / "restored"
    assert again.name == first.name


@pytest.mark.parametrize(
    "name", ["a b", "-x", "deep/er", "a $(touch ran)", "a 'b' \"$(touch ran)", "a `touch ran`", "ü $HOME;"]
)
def test_environments_are_kept_where_dagferry_venv_says(job, name) -> None:
    command = job.installs(DAGFERRY_VENV=name)  # relative to the checkout
    assert command.is_relative_to(job.checkout / name)
    assert job.kept() == []
    assert job.run("x", DAGFERRY_VENV=name).stdout == '["deploy", "x"]\n'
    assert not (job.checkout / "ran").exists()


@pytest.mark.parametrize("variable", ["RUNNER_TEMP", "AGENT_TEMPDIRECTORY", "WORKSPACE_TMP", "TMPDIR"])
def test_without_it_they_are_in_the_temporary_folder_of_the_ci(job, variable, tmp_path) -> None:
    del job.environment["RUNNER_TEMP"]
    folder = tmp_path / "not there yet"
    assert job.installs(**{variable: str(folder)}).is_relative_to(folder)


def test_files_of_the_checkout_replace_no_modules(job) -> None:
    job.python("python3")
    for name in ("venv.py", "ensurepip.py", "pip.py", "hashlib.py", "tempfile.py"):
        (job.checkout / name).write_text("raise SystemExit('ran a file of the checkout')\n")
    job.installs()


def test_nor_does_pythonpath(job) -> None:
    for name in ("json.py", "small_client.py", "sitecustomize.py"):
        (job.checkout / name).write_text("raise SystemExit('ran a file of the checkout')\n")
    done = job.run("a b", "", PYTHONPATH=str(job.checkout))
    assert (done.returncode, done.stdout) == (7, '["deploy", "a b", ""]\n'), done.stderr


# --- What goes wrong.


def refused(job: Job, code: int, sentence: str, *arguments: str, **environment: str) -> str:
    """Run, and expect this exit code, this last sentence and an empty stdout; return all of stderr."""
    done = job.run(*arguments, **environment)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("deploy.sh: ")
    assert sentence in last
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_wheel_with_another_hash_is_not_installed(job) -> None:
    small_wheel(job.wheel.parent, SMALL_CLIENT + "# another build\n")
    assert "dagferry" in refused(job, 6, "is not the one that")
    assert job.kept() == []


@pytest.mark.parametrize("value", [":all:", "dagferry"])
def test_what_has_to_be_built_is_not_installed(job, value, tmp_path) -> None:
    """The hashes of requirements.txt do not cover the tools that build a source distribution, which pip would run."""
    index, backend = job.wheel.parent, tmp_path / "build_tool.py"
    backend.write_text(f"open({str(tmp_path / 'ran')!r}, 'x')\n")
    with zipfile.ZipFile(index / "build_tool-1-py3-none-any.whl", "w") as archive:
        archive.write(backend, backend.name)
        archive.writestr("build_tool-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: build_tool\nVersion: 1\n")
        archive.writestr(
            "build_tool-1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("build_tool-1.dist-info/RECORD", "")
    source = index / f"dagferry-{__version__}.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(
            f"dagferry-{__version__}/pyproject.toml",
            '[build-system]\nrequires = ["build_tool"]\nbuild-backend = "build_tool"\n',
        )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    given = job.requirements.read_text()
    job.requirements.write_text(f"{given.rstrip()} \\\n    --hash=sha256:{digest}\n")
    # Only wheels are taken although a variable says otherwise.
    job.installs(PIP_NO_BINARY=value)
    job.wheel.unlink()
    job.requirements.write_text(f"{given.rstrip()} --hash=sha256:{digest} # alone\n")
    refused(job, 6, "pip could not install", PIP_NO_BINARY=value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("variable", ["PIP_TARGET", "PIP_PREFIX", "PIP_DRY_RUN"])
def test_what_is_installed_somewhere_else_is_not_used(job, variable, tmp_path) -> None:
    value = "1" if variable == "PIP_DRY_RUN" else str(tmp_path / "elsewhere")
    refused(job, 6, "somewhere else", **{variable: value})
    assert job.kept() == []


def test_a_requirement_without_a_hash_is_not_installed(job) -> None:
    job.requirements.write_text(f"dagferry=={__version__}\n")
    assert "hash" in refused(job, 6, f"pip could not install dagferry {__version__}")


def test_a_version_that_the_index_does_not_have_is_named(job) -> None:
    job.wheel.unlink()
    assert f"dagferry=={__version__}" in refused(job, 6, f"pip could not install dagferry {__version__}")
    assert job.kept() == []


def test_an_index_that_cannot_be_reached_is_named(job) -> None:
    closed = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": f"http://127.0.0.1:{free_port()}/simple"}
    refused(job, 5, "pip cannot reach its index", PIP_RETRIES="0", **closed)
    assert job.kept() == []


def test_a_client_that_does_not_start_is_not_kept(job) -> None:
    wheel = small_wheel(job.wheel.parent, "def main():\n    raise OSError\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    job.requirements.write_text(f"dagferry=={__version__} --hash=sha256:{digest}\n")
    refused(job, 6, "does not start")
    assert job.kept() == []


def test_too_old_a_python_is_named(job) -> None:
    only = job.bin.parent / "only"
    only.mkdir()
    for name in NEEDED:
        (only / name).symlink_to(shutil.which(name))
    shell = [shutil.which("sh")]
    done = job.run(shell=shell, PATH=str(only))
    assert (done.returncode, "no Python 3.10 or later" in done.stderr) == (2, True)
    (only / "python3").write_text("#!/bin/sh\nexit 1\n")  # as Python 3.9 answers to the question
    (only / "python3").chmod(0o755)
    done = job.run(shell=shell, PATH=str(only))
    assert (done.returncode, "no Python 3.10 or later" in done.stderr) == (2, True)
    # A newer one of another name is found.
    job.python("python3.12")
    (only / "python3.12").symlink_to(job.bin / "python3.12")
    assert job.run("--install", shell=shell, PATH=str(only)).returncode == 0


def test_a_python_without_venv_is_named(job) -> None:
    for name in ("python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"):
        job.python(name, 'case "$*" in *ensurepip*) exit 1 ;; esac')
    refused(job, 2, "python3.10 has no venv. On Debian and Ubuntu: apt-get install python3-venv.")


@pytest.mark.parametrize("text", [None, "", "requests==2.32.0\n"], ids=["missing", "empty", "another"])
def test_requirements_that_are_not_those_of_dagferry_are_named(job, text) -> None:
    job.requirements.unlink() if text is None else job.requirements.write_text(text)
    refused(job, 2, "Copy deploy.sh together with")


def test_install_takes_no_other_arguments(job) -> None:
    refused(job, 2, "--install takes no other arguments.", "--install", "--server")


def test_a_folder_that_others_can_change_is_not_used(job) -> None:
    folder = job.temp / f"dagferry-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    refused(job, 6, f"Other users can change {folder}. Set DAGFERRY_VENV to a folder of this job.")
    folder.rmdir()
    (job.temp / "theirs").mkdir(mode=0o700)
    folder.symlink_to(job.temp / "theirs")
    refused(job, 6, "Other users can change ")
    folder.unlink()
    with contextlib.suppress(PermissionError):  # only root can give folders away
        folder.mkdir(mode=0o700)
        os.chown(folder, 4321, 4321)
        refused(job, 6, "Other users can change ")


def test_a_folder_that_cannot_be_made_is_named(job) -> None:
    (job.temp / "file").write_text("")
    refused(job, 6, "cannot be created", RUNNER_TEMP=str(job.temp / "file"))
    refused(job, 6, "cannot be created", DAGFERRY_VENV=str(job.temp / "file"))


# --- The file itself.


def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run([*tool(["shellcheck"]), SCRIPT], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_its_first_comment_names_each_variable() -> None:
    text = SCRIPT.read_text()
    head = text.partition("\nset -eu\n")[0]
    for name in ("DAGFERRY_VENV", "DAGFERRY_SERVER", "DAGFERRY_DEPLOYMENT", "DAGFERRY_TOKEN"):
        assert name in head
    assert "eval" not in text
