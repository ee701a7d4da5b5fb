"""What a container may use, from control groups of either version."""

import pytest

from dagferry_core.limits import GIB, MIB
from dagferry_server.cgroup import available

V1_NO_LIMIT = "9223372036854771712"


@pytest.fixture
def machine(tmp_path):
    """Return a function that lays out files below a root folder, and says what is available there."""

    def look(files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        return tuple(available(str(tmp_path)))

    return look


def v1(path, quota, period, memory):
    """The files of a group of version 1, mounted as container runtimes do."""
    return {
        f"sys/fs/cgroup/cpu{path}/cpu.cfs_quota_us": quota,
        f"sys/fs/cgroup/cpu{path}/cpu.cfs_period_us": period,
        f"sys/fs/cgroup/memory{path}/memory.limit_in_bytes": memory,
    }


def v2(path, cpu, memory):
    """The files of a group of version 2."""
    return {f"sys/fs/cgroup{path}/cpu.max": cpu, f"sys/fs/cgroup{path}/memory.max": memory}


V2 = {"proc/self/cgroup": "0::/"}
V2_SERVICE = {"proc/self/cgroup": "0::/system.slice/dagferry.service"}
V1 = {"proc/self/cgroup": "9:name=systemd:/kube/pod\n4:memory:/kube/pod\n1:cpu,cpuacct:/kube/pod\n0::/"}


@pytest.mark.parametrize(
    ("cpu", "memory", "found"),
    [
        ("200000 100000", "3221225472", (2.0, 3 * GIB)),
        ("50000 100000", "536870912", (0.5, 512 * MIB)),
        ("max 100000", "max", (None, None)),
        ("max 100000", "1024", (None, 1024)),
        ("150000 100000", "max", (1.5, None)),
    ],
)
def test_version_2_in_a_container_of_its_own_namespace(machine, cpu, memory, found):
    assert machine(V2 | v2("", cpu, memory)) == found


def test_version_2_in_a_group_that_the_path_names(machine):
    assert machine(V2_SERVICE | v2("/system.slice/dagferry.service", "100000 100000", str(GIB))) == (1.0, GIB)


def test_the_least_limit_on_the_way_up_counts_in_version_2(machine):
    own = v2("/system.slice/dagferry.service", "400000 100000", str(GIB))
    assert machine(V2_SERVICE | own | v2("/system.slice", "300000 100000", "max")) == (3.0, GIB)


def test_the_least_limit_on_the_way_up_counts_in_version_1(machine):
    own = v1("/kube/pod", "400000", "100000", V1_NO_LIMIT)
    assert machine(V1 | own | v1("/kube", "-1", "100000", str(GIB)) | v1("", "500000", "100000", str(2 * GIB))) == (
        4.0,
        GIB,
    )


@pytest.mark.parametrize("path", ["", "/kube/pod"])  # the mount shows the container's group alone, or all groups
def test_version_1(machine, path):
    assert machine(V1 | v1(path, "250000", "100000", str(2 * GIB))) == (2.5, 2 * GIB)


def test_version_1_without_limits(machine):
    assert machine(V1 | v1("", "-1", "100000", V1_NO_LIMIT)) == (None, None)


def test_what_cannot_be_read_is_no_limit(machine):
    assert machine({}) == (None, None)
    assert machine({"proc/self/cgroup": "rubbish\n0::"}) == (None, None)
    assert machine(V2 | v2("", "rubbish", "-5")) == (None, None)
    assert machine(V2 | v2("", "100000 0", "")) == (None, None)


def test_a_path_that_leaves_the_mount_is_not_followed(machine):
    assert machine({"proc/self/cgroup": "0::/../../..", "memory.max": "1"}) == (None, None)


def test_this_machine_can_be_asked():
    cpus, memory_bytes = available()
    assert cpus is None or cpus > 0
    assert memory_bytes is None or memory_bytes > 0
