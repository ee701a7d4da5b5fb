"""The DAG bundle by itself, in Airflow's environment: what it asks for, and what it raises where it cannot go on."""

import contextlib
import json
import os
import shutil
import signal
import subprocess

import pytest

from airflows import HOME, environment_of
from credentials import TokensFile
from dagferry_airflow.live import LiveTree, locked
from dagferry_core.fetch import Server
from harness import eventually, free_port
from issuer import make_certificate
from volumes import fill, needs_mounts, small_volume

pytestmark = pytest.mark.airflow

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "shop.py": b"rate = 3\n"}

HEAD = """
import json, sys
from airflow.exceptions import AirflowException
from dagferry_airflow import DagferryBundle, pin
from dagferry_core import fetch

def made(version=None, name="prod", **kwargs):
    return DagferryBundle(name=name, version=version, refresh_interval=5, **kwargs)

def raised(call):
    try:
        call()
    except AirflowException as error:  # all that Airflow 3.0 to 3.2 survive
        return type(error).__name__, str(error)
    return "", ""

def say(what):
    print("\\n" + json.dumps(what), flush=True)
"""


@pytest.fixture
def python(tmp_path):
    """Run code in Airflow's environment, and return what it said last; ``during`` is called when it said something."""
    environment = environment_of(3)
    folders = [HOME / "core", HOME / "airflow_plugin", environment / "plugin"]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(tmp_path / "bundles"),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }

    def run(code: str, during=lambda: None):
        with subprocess.Popen(
            [environment / "bin/python", "-c", HEAD + code], env=variables, text=True, stdin=-1, stdout=-1, stderr=-1
        ) as process:
            first = ""
            while process.stdout and not first.startswith(("[", "{", '"')):
                first = process.stdout.readline()
                assert first, process.communicate()
            during()
            out, errors = process.communicate("go on\n", timeout=60)
            assert process.returncode == 0, errors
            return json.loads((first + out).strip().splitlines()[-1])

    return run


def test_with_nothing_on_the_disk_what_goes_wrong_is_an_exception_of_airflows_that_names_the_setting(
    python, serve, tmp_path
) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    server = serve("--tokens-file", str(tokens.path))
    (tmp_path / "wrong").write_text("dgf_wrong")
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles/volume").write_text("in the way")
    cases = {
        "away": {"server": f"http://127.0.0.1:{free_port()}"},
        "URL": {"server": "nohttp"},
        "scheme": {"server": "ftp://x"},
        "token": {"server": server.url, "token_file": str(tmp_path / "wrong")},
        "no token": {"server": server.url, "token_file": str(tmp_path / "none")},
        "CA": {"server": server.url, "ca_file": str(tmp_path / "none")},
        "plain": {"server": "http://dagferry.example.com", "token_file": str(tmp_path / "wrong")},
        "volume": {"server": serve(data="open").url},
    }
    code = f"""
cases = {cases!r}
say({{name: raised(made(name=name, **kwargs).initialize) for name, kwargs in cases.items()}})
"""
    said = python(code)
    assert {kind for kind, _ in said.values()} == {"AirflowException"}
    for name, (_, text) in said.items():
        assert ("token_file, ca_file, allow_plain_http" in text) == (name != "volume")
        assert "--" not in text
        assert "sidecar" not in text
    assert "server is 'nohttp': a URL such as" in said["URL"][1]
    assert "none cannot be used: No such file" in said["CA"][1]


def test_a_task_is_rescheduled_only_where_waiting_helps(python, serve, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = serve("--tls-cert", certificate, "--tls-key", key)
    version = server.deploy(A)["version"]
    cases = {
        "away": {"server": f"http://127.0.0.1:{free_port()}"},
        "URL": {"server": "http://"},
        "CA": {"server": server.url, "ca_file": str(tmp_path / "none")},
        "not trusted": {"server": server.url},
        "unknown": {"server": server.url, "ca_file": certificate, "version": "20260101T000000Z-000099"},
    }
    code = f"""
pin.note_task()
cases = {cases!r}
versions = {{name: kwargs.pop("version", {version!r}) for name, kwargs in cases.items()}}
say({{name: raised(made(versions[name], name, **kwargs).initialize)[0] for name, kwargs in cases.items()}})
"""
    expected = {**dict.fromkeys(cases, "AirflowException"), "away": "AirflowRescheduleException"}
    assert python(code) == expected


def test_a_token_a_ca_and_a_link_for_people(python, serve, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    tokens = TokensFile(tmp_path / "tokens.toml")
    (tmp_path / "token").write_text(tokens.add("airflow", ["sync"]) + "\n")
    secret = tokens.add("ci", ["deploy"])
    server = serve("--tokens-file", str(tokens.path), "--tls-cert", certificate, "--tls-key", key)
    server.headers = {"Authorization": f"Bearer {secret}"}
    older, newest = (server.deploy(files)["version"] for files in (A, B))
    kwargs = {
        "server": server.url, "token_file": str(tmp_path / "token"), "ca_file": certificate,
        "view_url_template": "https://git.example.com/{version}",
    }  # fmt: skip
    code = f"""
seen = []
for version in (None, {older!r}):
    bundle = made(version, **{kwargs!r})
    bundle.initialize()
    seen.append((bundle.get_current_version().version, (bundle.path / "shop.py").read_text()))
say([seen, bundle.view_url_template(), bundle.view_url({older!r})])
"""
    assert python(code) == [
        [[newest, "rate = 2\n"], [older, "rate = 1\n"]],
        "https://git.example.com/{version}",
        f"https://git.example.com/{older}",
    ]


def test_a_server_that_hangs_does_not_stop_the_loop_that_refreshes(python, serve) -> None:
    server = serve()
    server.deploy(A)
    code = f"""
bundle = made(server={server.url!r})
bundle.initialize()
bundle.refresh()
say("the server may hang now")
sys.stdin.readline()
asked = []
ask = fetch.Server.current
fetch.Server.current = lambda *args: asked.append(1) or ask(*args)
for _ in range(100):
    bundle.refresh()
say([len(asked), (bundle.path / "shop.py").read_text()])
"""
    try:
        assert python(code, lambda: server.process.send_signal(signal.SIGSTOP)) == [1, "rate = 1\n"]
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_dag_processor_that_starts_while_the_server_is_away_has_what_is_on_the_disk(python, serve) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    code = f"""
bundle = made(server={server.url!r})
bundle.initialize()
bundle.refresh()  # Airflow lists no files of a bundle that has not been refreshed
say(bundle.get_current_version().version)
"""
    assert python(code) == version
    server.stop()
    assert python(code) == version


def test_tasks_ask_a_server_that_hangs_at_once_not_one_after_the_other(python, serve, tmp_path) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    server.process.send_signal(signal.SIGSTOP)
    try:
        with locked(str(tmp_path / "bundles/prod/live"), 0):
            code = f"""
pin.note_task()
fetch.SILENCE_SECONDS = 0.5
say(raised(made({version!r}, server={server.url!r}).initialize)[0])
"""
            assert python(code) == "AirflowRescheduleException"
    finally:
        server.process.send_signal(signal.SIGCONT)


# --- a version that is not the newest any more -----------------------------------------------------------------------


@pytest.fixture
def three(serve, tmp_path):
    """A server with three versions that were live one after the other, and no folder of any of them."""
    server = serve()
    versions = []
    (tmp_path / "bundles/prod").mkdir(parents=True)
    with contextlib.closing(Server(server.url, "default", agent="test")) as connection:
        for files in (A, B, C):
            versions.append(server.deploy(files)["version"])
            with LiveTree(str(tmp_path / "bundles/prod/live")) as live:
                live.take(connection.current("", 0, None), connection)
    return server, versions


def of_a_task(server, version: str) -> str:
    """Code that says what a task of that version gets, or what is raised."""
    return f"""
import pathlib
pin.note_task()
bundle = made({version!r}, server={server.url!r})
kind, text = raised(bundle.initialize)
say([kind, text, kind or {{path.name: path.read_text() for path in sorted(bundle.path.glob("*"))}}])
"""


def as_text(files: dict[str, bytes]) -> dict[str, str]:
    return {path: content.decode() for path, content in files.items()}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_version_that_is_whole_on_the_disk_is_used_though_the_server_is_away(python, three, number) -> None:
    server, versions = three
    server.stop()
    assert python(of_a_task(server, versions[number])) == ["", "", as_text((A, B, C)[number])]


def test_a_version_that_the_server_has_removed_is_used_from_the_disk(python, three, serve) -> None:
    server, versions = three
    server.stop()
    server = serve("--keep-deploys", "1", "--keep-days", "0")
    server.deploy({**C, "new.py": b""})  # retention goes by uploads
    eventually("the bundle to go", lambda: server.get(f"/default/dags/versions/{versions[0]}")[0] == 410)
    assert python(of_a_task(server, versions[0])) == ["", "", as_text(A)]


def test_a_version_that_is_damaged_on_the_disk_comes_from_the_server(python, three, tmp_path) -> None:
    server, versions = three
    [folder] = (tmp_path / "bundles/prod/live/.trees").glob(f"*/{versions[0]}")
    (folder / "shop.py").write_text("rate = 9\n")
    assert python(of_a_task(server, versions[0])) == ["", "", as_text(A)]
    [folder] = (tmp_path / "bundles/prod/live/.trees").glob(f"*/{versions[1]}")
    (folder / "shop.py").unlink()
    server.stop()
    assert python(of_a_task(server, versions[1]))[0] == "AirflowRescheduleException"


def test_a_version_that_is_nowhere_any_more_names_the_cure(python, three, serve, tmp_path) -> None:
    server, versions = three
    server.stop()
    server = serve("--keep-deploys", "1", "--keep-days", "0")
    server.deploy({**C, "new.py": b""})
    eventually("the bundle to go", lambda: server.get(f"/default/dags/versions/{versions[0]}")[0] == 410)
    for version in (versions[0], "20200101T000000Z-000099"):
        for folder in (tmp_path / "bundles/prod/live/.trees").glob(f"*/{version}"):
            shutil.rmtree(folder)
        kind, text, _ = python(of_a_task(server, version))
        assert kind == "AirflowException"
        assert "Clear the task with “Run with latest bundle version”" in text
        assert ("--keep-days" in text) == (version == versions[0])
        assert "dag_bundle_config_list" not in text


@needs_mounts
def test_a_version_on_the_disk_is_used_though_the_disk_is_full(python, three, tmp_path) -> None:
    """Room is made by what no task needs: there is an older tree than the one that is asked for."""
    server, versions = three
    with small_volume(tmp_path / "small", 2 << 20) as volume:
        shutil.copytree(tmp_path / "bundles", volume / "bundles", symlinks=True)
        shutil.rmtree(tmp_path / "bundles")
        (tmp_path / "bundles").symlink_to(volume / "bundles")
        fill(volume, leave_bytes=8192)
        assert python(of_a_task(server, versions[1])) == ["", "", as_text(B)]
        assert not list((volume / "bundles/prod/live/.trees").glob(f"*/{versions[0]}"))
