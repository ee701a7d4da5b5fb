"""The units are valid and locked down, and their commands publish what is deployed with the settings beside them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dagferry_server.settings
import dagferry_sidecar.settings
from dagferry_runtime.settings import parse
from dagferry_server.http.listeners import SHUTDOWN_SECONDS
from deployfiles import HOME, airflow_values, run, tool
from harness import free_port, pack, tree

FOLDER = HOME / "deploy" / "systemd"
PAGE = (HOME / "docs" / "how-to" / "run-without-kubernetes.md").read_text()
COMMANDS = {"server": dagferry_server.settings.SETTINGS, "sidecar": dagferry_sidecar.settings.SETTINGS}
ANSWER_SECONDS = 60


def unit(name: str) -> str:
    return (FOLDER / name).read_text()


def values(name: str, key: str) -> list[str]:
    """All values of a key of a unit."""
    return re.findall(rf"^{key}=(.*)$", unit(name), re.MULTILINE)


def environment(name: str) -> dict[str, str]:
    """The settings of a file beside the units."""
    lines = [line for line in unit(f"{name}.env").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_systemd_takes_the_units_and_the_drop_in(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.service"):
        # It looks for the programs, which are elsewhere here.
        text = path.read_text().replace("/opt/dagferry/bin", str(Path(sys.executable).parent))
        (tmp_path / path.name).write_text(text)
    (tmp_path / "airflow-worker.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "airflow-worker.service.d").mkdir()
    (tmp_path / "airflow-worker.service.d" / "dagferry.conf").write_text(unit("airflow.conf"))
    verify = [*tool(["systemd-analyze"]), "verify", "--man=no"]
    for path in sorted(tmp_path.glob("*.service")):
        done = subprocess.run(
            [*verify, path],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        )
        assert done.returncode == 0, done.stderr
        complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "dagferry" in line]
        assert complaints == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_unit_gives_its_command_little(name: str) -> None:
    security = [*tool(["systemd-analyze"]), "security", "--offline=true", "--threshold=20"]
    run(*security, FOLDER / f"dagferry-{name}.service")  # out of 100; a unit without any of this has 96


@pytest.mark.parametrize("name", COMMANDS)
def test_the_settings_are_those_of_the_command(name: str) -> None:
    found = environment(name)
    assert set(found) <= {setting.variable for setting in COMMANDS[name]}
    parse(f"dagferry-{name}", "", COMMANDS[name], [], found)
    assert values(f"dagferry-{name}.service", "EnvironmentFile") == [f"/etc/dagferry/{name}.env"]


def test_a_command_may_write_the_folder_that_its_settings_name_and_no_other() -> None:
    for name, setting in (("server", "DAGFERRY_DATA_DIR"), ("sidecar", "DAGFERRY_ROOT")):
        [folder] = values(f"dagferry-{name}.service", "StateDirectory")
        assert environment(name)[setting] == f"/var/lib/{folder}"
        assert values(f"dagferry-{name}.service", "ProtectSystem") == ["strict"]
        assert "ReadWritePaths" not in unit(f"dagferry-{name}.service")


def test_airflow_reads_current_and_cannot_write() -> None:
    root = environment("sidecar")["DAGFERRY_ROOT"]
    assert values("airflow.conf", "ReadOnlyPaths") == [root]
    assert f"AIRFLOW__CORE__DAGS_FOLDER={root}/current" in values("airflow.conf", "Environment")
    assert values("dagferry-sidecar.service", "StateDirectoryMode") == ["0755"]


def test_airflow_has_the_settings_that_it_has_in_kubernetes() -> None:
    kubernetes = airflow_values("sidecar.yaml")
    expected = {
        f"AIRFLOW__{section.upper()}__{name.upper()}={value}"
        for section in kubernetes["config"]
        for name, value in kubernetes["config"][section].items()
        if name != "dags_folder"
    }
    found = [value for value in values("airflow.conf", "Environment") if "DAGS_FOLDER" not in value]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_cannot_start_yet_is_tried_again_and_again(name: str) -> None:
    """By default systemd gives up after 5 starts within 10 s, which a command that ends at once has done in 6."""
    unit_section, _, service_section = unit(f"dagferry-{name}.service").partition("[Service]")
    assert "\nStartLimitIntervalSec=0\n" in unit_section, "systemd takes it from [Unit] alone"
    assert "\nRestart=always\n" in service_section


def test_the_server_has_time_to_finish_what_it_receives() -> None:
    assert int(values("dagferry-server.service", "TimeoutStopSec")[0]) > SHUTDOWN_SECONDS


def test_the_sidecar_s_start_may_take_as_long_as_it_waits() -> None:
    [waits] = [setting.default for setting in COMMANDS["sidecar"] if setting.variable == "DAGFERRY_ONCE_TIMEOUT"]
    assert int(values("dagferry-sidecar.service", "TimeoutStartSec")[0]) > float(str(waits))


@pytest.mark.slow
def test_the_sidecar_counts_as_started_when_the_dags_are_there(serve: Any, tmp_path: Path) -> None:
    """What systemd runs first ends with the deploy in the folder, with the page's tokens; also without the server."""
    secrets = {}
    for words in re.findall(r"dagferry-server (token new .*)", PAGE):
        made = subprocess.run(
            [sys.executable, "-m", "dagferry_server", *shlex.split(words)],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
        secrets[re.findall(r"--name (\w+)", words)[0]] = made.stdout.split()[0]
    (tmp_path / "sidecar-token").write_text(secrets["sidecars"])
    (tmp_path / "sidecar-token").chmod(0o600)
    server = serve("--deployments", "prod", "--tokens-file", str(tmp_path / "tokens.toml"))
    assert server.request("/prod/dags/upload", pack({"dag.py": b"1"}), Authorization=secrets["ci"])[0] == 200
    settings = environment("sidecar") | {
        "DAGFERRY_SERVER": server.url,
        "DAGFERRY_ROOT": str(tmp_path / "dags"),
        "DAGFERRY_TOKEN_FILE": str(tmp_path / "sidecar-token"),
        "DAGFERRY_LISTEN": f"127.0.0.1:{free_port()}",
    }
    [before] = values("dagferry-sidecar.service", "ExecStartPre")
    [command] = values("dagferry-sidecar.service", "ExecStart")
    assert before == f"{command} --once"
    arguments = shlex.split(before.replace("/opt/dagferry/bin", str(Path(sys.executable).parent)))
    for _ in range(2):
        done = subprocess.run(
            arguments, env={**os.environ, **settings}, check=False, timeout=ANSWER_SECONDS, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert tree(tmp_path / "dags" / "current") == {"dag.py": b"1"}
        if server.process.poll() is None:
            server.stop()
