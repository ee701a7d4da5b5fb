"""The page about sizes quotes what the benchmarks measured: a new measurement shows here what to write there."""

import re

import pytest

from pages import DOCS

PAGE = " ".join((DOCS / "how-to" / "size-the-server.md").read_text().split())
MEASURED = (DOCS / "explanation" / "benchmarks.md").read_text()
ROWS = dict(re.findall(r"^\| (.+?) \| [^|]+ \| (.+) \|$", MEASURED, re.MULTILINE))
QUOTED = {
    "upload of 15.4 MiB, one line changed ÷ `gzip -dc F \\| sha256sum`, 60 MB": (
        "1.21 ×: 356 ms",
        "an upload takes 0.3 to",
    ),
    "the same to an empty server, 60 MB": ("2.15 ×: 699 ms", "to 0.7 s of one"),
    "50 deployments × 5000 deploys: an upload of 1 MB": ("32 ms", "an upload takes 32 ms"),
    "server peak memory, 32 uploads of 15 MiB at once": ("122 MiB", "32 uploads of 15 MiB at once took 122 MiB"),
    "server peak memory, one upload of 500 MiB": ("63 MiB", "an upload of 500 MiB 63 MiB"),
    "1000 waiters: server memory for each": ("19.2 KiB", "19 KiB of memory while it waits"),
    "bytes a sidecar receives, with headers, one line in a leaf DAG, 60 MB": ("1028 B", "1 kB received"),
    "bytes it sends, with headers, one line in a leaf DAG, 60 MB": ("498 B", "0.5 kB sent"),
    "200 received → live, 50 sidecars": ("437 ms", "all live 0.4 s after the 200"),
    "1000 pods: the status": ("8 ms", "the status 8 ms"),
    "1000 pods: bytes of the status": ("165 kB", "and 165 kB"),
    "1000 pods take a deploy: the server's CPU with such a client ÷ without": (
        "220 ms (160–230, n = 5) ÷ 170 ms",
        "a deploy costs the server 0.2 s of CPU",
    ),
    "`--once` from an empty volume ÷ `curl … \\| zstd -dc \\| tar -x`, 60 MB": ("1.42 ×: 277 ms", "in 0.3 s and"),
    "`--once` from an empty volume ÷ `curl … \\| zstd -dc \\| tar -x`, 1 MB": (
        "3.80 ×: 75 ms",
        "and 75 ms on one machine",
    ),
    "50 task pods at once, 500 files of 5 MB: requests": ("100, refused 0", "2 requests; 76 MiB of memory"),
    "50 task pods at once, 500 files of 5 MB: CPU of the server": ("510 ms", "10 ms of CPU, 1.4 MB sent"),
    "50 task pods at once, 500 files of 5 MB: bytes that the server sends, with all headers": (
        "69873 kB",
        "1.4 MB sent, 2 requests",
    ),
    "50 task pods at once, 500 files of 5 MB: peak memory of the server": ("76 MiB", "76 MiB of memory at its peak"),
    "50 task pods at once, 500 files of 5 MB, that wait for a server which is away for 90 s: "
    "started again → the first, middle and last task start": (
        "5, 21 and 61 s",
        "the middle one after 21 s, the last after 61 s",
    ),
    "50 task pods at once, 500 files of 5 MB: created → the middle one starts its task, "
    "with our init container ÷ without": (
        "2.52 ×",
        "2.5 times as long",
    ),
    "500 task pods at once, 500 files of 5 MB: asked → the last has its bundle": (
        "10972 ms (5585–12397",
        "within 6 to 12 s",
    ),
    "500 task pods at once, 500 files of 5 MB: answers that said 503": ("250 (250–250", "250 are served, the others"),
    "sidecar memory, idle, 60 MB": (
        "25.7 MB (peak at its cold start 28.1 MB)",
        "26 MB idle with 2,000 files, 28 MB at its",
    ),
    "CPU of a minute of idle following, 60 MB": ("40 ms", "40 ms per minute idle"),
}
"""By the row of the benchmarks: what was measured, and what the page says."""


@pytest.mark.parametrize("row", QUOTED)
def test_a_figure_is_the_one_that_was_measured(row: str) -> None:
    measured, quoted = QUOTED[row]
    assert ROWS[row].startswith(measured)
    assert quoted in PAGE


def test_the_most_memory_is_that_of_the_default_limits() -> None:
    peaks = re.search(r"the server's peak was (\d+) MiB and the\s+sidecar's (\d+) MiB", MEASURED)
    assert peaks
    assert f"as many files as the default limits allow {peaks[1]} MiB" in PAGE
    assert f"98,000 files took {peaks[2]} MiB" in PAGE
