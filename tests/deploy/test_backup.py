"""The jobs that back up and restore are valid and locked down, and what they run does it, beside a busy server too."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from deployfiles import HOME, KUBERNETES, documents, run, tool
from harness import OTHER_USER, Server, pack

VERSIONS = ("1.29", kubernetes_validate.latest_version())
CLAIM, CRON = documents(KUBERNETES / "backup.yaml")
[RESTORE] = documents(KUBERNETES / "restore.yaml")
PODS = {
    "backup": CRON["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    "restore": RESTORE["spec"]["template"]["spec"],
}
PAGE = (HOME / "docs" / "how-to" / "back-up-and-restore.md").read_text()
SERVER = next(d for d in documents(KUBERNETES / "server.yaml") if d["kind"] == "StatefulSet")
ANSWER_SECONDS = 60
REPLACED = "replaced-20260104T000000Z"
"""What restore.yaml leaves, which is newer than any copy by its name."""
WHILE_BUSY = 3
"""Backups of a server that gets deploys all the time."""
DEPLOYING_TAR = """#!/bin/sh
# Deploys once, after the first part was copied.
{tar} "$@" || exit 1
if [ "$1" = -x ] && [ ! -e {folder}/deployed ]; then
  curl --fail-with-body -sS -F dags.tar.gz=@{folder}/dags.tar.gz {url}/prod/dags/upload >{folder}/deployed || exit 9
fi
"""
FAILING_TAR = """#!/bin/sh
# Reports, as for a file that cannot be read, that not all is in the archive.
{tar} "$@" || exit
if [ "$1" = -c ]; then exit 2; fi
"""
FAILING_MV = """#!/bin/sh
# Moves one of all that it is given, and then has no room.
{mv} "$1" "$2" "$3" || exit
echo "mv: No space left on device" >&2
exit 1
"""
KEPT = 12
"""Deploys whose bundles retention leaves: more than a server takes while the entries are copied."""


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """The folder that is used as the backup volume."""
    folder = tmp_path / "backup"
    folder.mkdir()
    return folder


def script(name: str, data: Path, backup: Path) -> str:
    """What a job runs, with the folders and the program of this machine."""
    [container] = PODS[name]["containers"]
    shell, flags, text = container["command"]
    assert (shell, flags) == ("sh", "-euc")
    text = text.replace("/opt/dagferry/bin/", f"{Path(sys.executable).parent}/").replace("/var/lib/dagferry", str(data))
    return str(re.sub(r"(?<![\w/.-])/backup\b", str(backup), text))


def start(name: str, data: Path, backup: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    defaults = {entry["name"]: entry["value"] for entry in PODS[name]["containers"][0]["env"]}
    return subprocess.run(
        ["sh", "-euc", script(name, data, backup)],
        env={**os.environ, **defaults, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=ANSWER_SECONDS,
    )


def instead_of(program: str, text: str, folder: Path) -> str:
    """A PATH in which a script replaces a program."""
    path = folder / "bin" / program
    path.parent.mkdir()
    path.write_text(text.format(**{program: shutil.which(program)}))
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


def copies(backup: Path) -> list[Path]:
    return sorted(path for path in backup.iterdir() if re.fullmatch(r"\d{8}T\d{6}Z", path.name))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [CLAIM, CRON, RESTORE], ids=lambda found: found["kind"])
def test_each_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_job_is_locked_down_and_mounts_what_the_server_has(name: str) -> None:
    pod = PODS[name]
    [container] = pod["containers"]
    server = SERVER["spec"]["template"]["spec"]
    assert pod["securityContext"] == server["securityContext"]
    assert container["securityContext"] == server["containers"][0]["securityContext"]
    assert container["image"] == server["containers"][0]["image"]
    assert pod["automountServiceAccountToken"] is False
    claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
    [data] = SERVER["spec"]["volumeClaimTemplates"]
    assert claims == {
        "data": f"{data['metadata']['name']}-{SERVER['metadata']['name']}-0",
        "backup": CLAIM["metadata"]["name"],
    }
    assert container["volumeMounts"][0]["mountPath"] == server["containers"][0]["volumeMounts"][0]["mountPath"]


def test_a_backup_runs_where_the_server_s_volume_is_and_cannot_write_it() -> None:
    [rule] = PODS["backup"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = SERVER["spec"]["template"]["metadata"]["labels"]
    assert rule["labelSelector"]["matchLabels"].items() <= labels.items()
    assert PODS["backup"]["containers"][0]["volumeMounts"][0]["readOnly"] is True


def test_the_pod_that_the_page_starts_is_valid_and_restricted() -> None:
    [overrides] = re.findall(r"--overrides='(.*?)'", PAGE, re.DOTALL)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new-log-id"}, **json.loads(overrides)}
    kubernetes_validate.validate(pod, VERSIONS[0], strict=True)
    [container] = pod["spec"]["containers"]
    assert container["image"] == SERVER["spec"]["template"]["spec"]["containers"][0]["image"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["spec"]["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 50000}.items()
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", PODS)
def test_shellcheck_finds_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    path.write_text("#!/bin/sh -eu\n" + PODS[name]["containers"][0]["command"][2])
    run(*tool(["shellcheck"]), "--exclude=SC2010,SC2012", path)  # the names are dates


@pytest.mark.slow
def test_a_copy_of_a_busy_server_is_complete(serve: Any, backup: Path) -> None:
    """``verify`` in the job checks every byte; here deploys go on, and old bundles are removed meanwhile."""
    server: Server = serve("--deployments", "prod", "--keep-deploys", str(KEPT), "--keep-days", "0")
    for number in range(KEPT + 1):
        server.deploy({"dag.py": b"old %d" % number}, "prod")
    done = threading.Event()
    failures: list[BaseException] = []

    def go_on() -> None:
        number = 0
        try:
            while not done.is_set():
                number += 1
                server.deploy({"dag.py": b"%d" % number}, "prod")
        except BaseException as failure:  # noqa: BLE001 - it is raised in the test
            failures.append(failure)

    deploying = threading.Thread(target=go_on)
    deploying.start()
    try:
        for _ in range(WHILE_BUSY):
            for old in copies(backup):  # two within a second would have the same name
                shutil.rmtree(old)
            ended = start("backup", server.data, backup)
            assert ended.returncode == 0, ended.stdout + ended.stderr
    finally:
        done.set()
        deploying.join()
    assert failures == []
    [copy] = copies(backup)
    bundles = len(list((copy / "prod" / "bundles").glob("*.zst")))
    assert 0 < bundles < len(list((copy / "prod" / "deploys").glob("*.json")))


@pytest.mark.slow
def test_a_deploy_between_entries_and_bundles_does_no_harm(serve: Any, backup: Path, tmp_path: Path) -> None:
    server: Server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"1"}, "prod")
    (tmp_path / "dags.tar.gz").write_bytes(pack({"dag.py": b"2"}))
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "tar"
    path.write_text(DEPLOYING_TAR.format(tar=shutil.which("tar"), folder=tmp_path, url=server.url))
    path.chmod(0o755)
    ended = start("backup", server.data, backup, PATH=f"{path.parent}:{os.environ['PATH']}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert server.current("prod")["sequence"] == 2
    [copy] = copies(backup)
    assert len(list((copy / "prod" / "deploys").glob("*.json"))) == 1
    assert len(list((copy / "prod" / "bundles").glob("*.zst"))) == 2


@pytest.mark.slow
def test_the_newest_copies_stay_and_what_an_aborted_run_left_goes(serve: Any, backup: Path) -> None:
    server: Server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"1"}, "prod")
    for name in ("20260101T000000Z", "20260102T000000Z", "20260103T000000Z", "20260104T000000Z.part", REPLACED):
        (backup / name).mkdir()
    ended = start("backup", server.data, backup)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 problems" in ended.stdout
    assert [path.name for path in copies(backup)][:2] == ["20260102T000000Z", "20260103T000000Z"]
    assert len(copies(backup)) == 3
    assert {path.name for path in backup.iterdir()} - {path.name for path in copies(backup)} == {REPLACED}


@pytest.mark.slow
def test_a_copy_for_which_not_all_could_be_read_is_none_and_old_copies_stay(
    serve: Any, backup: Path, tmp_path: Path
) -> None:
    server: Server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"1"}, "prod")
    (backup / "20260101T000000Z").mkdir()
    ended = start("backup", server.data, backup, KEEP="1", PATH=instead_of("tar", FAILING_TAR, tmp_path))
    assert ended.returncode == 1
    assert "Not all files could be read." in ended.stderr
    assert [path.name for path in copies(backup)] == ["20260101T000000Z"]
    ended = start("backup", server.data, backup, KEEP="1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(backup.iterdir()) == copies(backup)


@pytest.mark.slow
def test_a_damaged_folder_gives_no_copy_and_old_copies_stay(serve: Any, backup: Path) -> None:
    server: Server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"1"}, "prod")
    [bundle] = (server.data / "prod" / "bundles").glob("*.zst")
    bundle.write_bytes(b"x" * bundle.stat().st_size)
    (backup / "20260101T000000Z").mkdir()
    ended = start("backup", server.data, backup, KEEP="1")
    assert ended.returncode == 6
    assert [path.name for path in copies(backup)] == ["20260101T000000Z"]


@pytest.mark.slow
def test_a_restored_folder_is_followed_on(serve: Any, backup: Path, follow: Any) -> None:
    server: Server = serve("--deployments", "prod")
    first = server.deploy({"dag.py": b"1"}, "prod")["version"]
    assert start("backup", server.data, backup).returncode == 0
    second = server.deploy({"dag.py": b"2"}, "prod")["version"]
    sidecar = follow(server, "pod-0", "--deployment", "prod").runs(second)
    log_id = server.current("prod")["log_id"]
    server.stop()
    ended = start("restore", server.data, backup)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    again: Server = serve("--deployments", "prod", port=server.port)
    assert again.current("prod")["version"] == first
    assert again.current("prod")["log_id"] != log_id
    third = again.deploy({"dag.py": b"3"}, "prod")["version"]
    assert sidecar.runs(third).tree() == {"dag.py": b"3"}
    [replaced] = backup.glob("replaced-*")
    assert (replaced / "prod" / "log.json").is_file()


@pytest.mark.slow
def test_nothing_is_touched_when_there_is_no_copy_or_a_damaged_one(serve: Any, backup: Path) -> None:
    server: Server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"1"}, "prod")
    server.stop()
    before = sorted(server.data.rglob("*"))
    assert start("restore", server.data, backup).returncode == 1
    shutil.copytree(server.data, backup / "20260101T000000Z")
    [entry] = (backup / "20260101T000000Z" / "prod" / "deploys").glob("*.json")
    entry.write_text("{}")
    assert start("restore", server.data, backup).returncode == 6
    assert start("restore", server.data, backup, COPY="20260102T000000Z").returncode == 1
    assert sorted(server.data.rglob("*")) == before


@pytest.mark.slow
def test_nothing_is_restored_over_what_could_not_be_moved_away(serve: Any, backup: Path, tmp_path: Path) -> None:
    """Else the store would be a mixture of both. Again with room, it is what was backed up, and nothing is lost."""
    server: Server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"1"}, "prod")
    assert start("backup", server.data, backup).returncode == 0
    server.stop()
    (server.data / "newer").mkdir()
    there = sorted(path.name for path in server.data.iterdir())
    ended = start("restore", server.data, backup, PATH=instead_of("mv", FAILING_MV, tmp_path))
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    [replaced] = backup.glob("replaced-*")
    [moved] = [path.name for path in replaced.iterdir()]
    assert sorted([moved, *(path.name for path in server.data.iterdir())]) == there
    replaced.rename(backup / "replaced-1")  # two within a second would have the same name
    ended = start("restore", server.data, backup)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not (server.data / "newer").exists()
    assert sorted(path.name for each in backup.glob("replaced-*") for path in each.iterdir()) == there


@pytest.mark.slow
def test_nothing_is_restored_while_the_server_runs(serve: Any, backup: Path) -> None:
    server: Server = serve("--deployments", "prod")
    version = server.deploy({"dag.py": b"1"}, "prod")["version"]
    assert start("backup", server.data, backup).returncode == 0
    ended = start("restore", server.data, backup)
    assert ended.returncode == 1
    assert "The server runs: stop it first." in ended.stderr
    assert list(backup.glob("replaced-*")) == []
    assert server.current("prod")["version"] == version


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run a job as another user")
def test_a_restore_works_in_volumes_whose_roots_are_root_s(backup: Path, tmp_path: Path) -> None:
    """As the kubelet has a volume: its root is root's, its group is the job's, and what is in it is the job's own."""
    data, group = tmp_path / "data", int(OTHER_USER[2].partition("=")[2])
    for folder in (data, backup / "20260101T000000Z"):
        (folder / "prod").mkdir(parents=True)
        (folder / "prod" / "name").write_text(folder.name)
    for root in (data, backup):
        for path in (root, *root.rglob("*")):
            os.chown(path, 0 if path == root else group, group)
        root.chmod(0o2770)
    for parent in (tmp_path, *tmp_path.parents):  # pytest's own folders are closed to others
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    (tmp_path / "dagferry-server").write_text("#!/bin/sh\n")
    (tmp_path / "dagferry-server").chmod(0o755)
    text = script("restore", data, backup).replace(f"{Path(sys.executable).parent}/", f"{tmp_path}/")
    command = [*OTHER_USER, "sh", "-euc", text]
    done = subprocess.run(
        command, env={**os.environ, "COPY": ""}, check=False, capture_output=True, text=True, timeout=ANSWER_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert (data / "prod" / "name").read_text() == "20260101T000000Z"
    [replaced] = backup.glob("replaced-*")
    assert (replaced / "prod" / "name").read_text() == "data"
