"""Readers during swaps: real processes that walk and import as Airflow does, and a volume that swaps all the time."""

import json
import subprocess
import sys
import textwrap
import time

import pytest

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.volume.records import TreeRules
from dagferry_follow.volume.volume import Volume
from treemaker import manifest_of

SWAPS = 1000
READERS = 8
FILES = [f"team_{number % 3}/dag_{number}.py" for number in range(6)]
RULES = TreeRules(keep_trees=3, keep_hours=24, max_tree_bytes=1 << 40)

READER = textwrap.dedent(
    """
    import json, os, sys

    root, files = sys.argv[1], int(sys.argv[2])
    walks, failures = 0, []
    while not os.path.exists(f"{root}/stop"):
        before = os.readlink(f"{root}/current")
        seen, found = set(), 0
        try:
            for folder, _, names in os.walk(f"{root}/current", followlinks=True, onerror=failures.append):
                for name in names:
                    with open(os.path.join(folder, name)) as file:
                        source = file.read()
                    module = {}
                    exec(compile(source, name, "exec"), module)
                    seen.add(module["number"])
                    found += 1
        except Exception as error:
            failures.append(error)
        if os.readlink(f"{root}/current") == before:
            walks += 1
            if found != files or len(seen) != 1:
                failures.append(f"{found} files of {seen} under {before}")
    json.dump({"walks": walks, "failures": [repr(failure) for failure in failures]}, sys.stdout)
    """
)


@pytest.mark.slow
def test_eight_readers_during_a_thousand_swaps_see_no_error_and_no_mixed_tree(tmp_path) -> None:
    """No error at all; and a walk that started and ended under the same link saw one version, and all of it."""
    volume = Volume(str(tmp_path))

    def put(number: int) -> None:
        files = dict.fromkeys(FILES, b"number = %d\n" % number)
        manifest = manifest_of(files)
        with volume.stage(DeployRef("log", number, f"v-{number}", manifest.digest), manifest) as staging:
            staging.populate((entry, [files[path]]) for path, entry in manifest.files.items())
            volume.swap(staging, time.time)
        volume.retire(RULES, time.time())

    put(0)
    command = [sys.executable, "-c", READER, str(tmp_path), str(len(FILES))]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(READERS)]
    try:
        for number in range(1, SWAPS + 1):
            put(number)
    finally:
        (tmp_path / "stop").touch()
        told = [json.loads(reader.communicate(timeout=60)[0]) for reader in readers]
        volume.close()
    assert [failure for reader in told for failure in reader["failures"]] == []
    assert all(reader["walks"] for reader in told)
