"""What the guess and what observed parses say of which DAG files read a data file, against what the kernel saw.

``python benchmarks/reads.py CHECKOUT DAGS [FOLDER ON SYS.PATH ...]``, with ``AIRFLOW_PYTHON`` the Python of an Airflow.
The checkout (of a public repository) counts as a bundle. All of its DAG files are parsed under strace, which sees what
C code and other programs open as well. Then each data file alone is changed, and each is removed. A DAG file must be
read again that opened the file; if it is removed, also one that asked for it or listed its folder.

Prints a row of Markdown: DAG files (those with errors, and those of which an observation is partial), data files (those
that are read), pairs of a DAG file and a data file that it reads; and then for a change and for a removal, each by the
guess and by observations, missed pairs and superfluous ones (in parentheses: those of partial observations). With
``SHOW=1`` each of them is printed to stderr.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.source.graph import touched
from dagferry_core.source.observed import Contents, observe, opens_unseen, to_touch
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import imported_names

CALL = re.compile(r"(?P<name>\w+)\((?P<rest>.*)\)\s+= (?P<result>-?\d+|\?)")
MAX_OTHERS = 150
"""How many of the data files that nothing reads are changed, evenly over all."""
FORKS = {"clone", "clone3", "fork", "vfork"}
OPENS = {"open", "openat", "creat", "execve"}


class Seen(NamedTuple):
    """What the kernel saw of a process: files that it opened, and paths that it asked for."""

    opened: set[str]
    asked: set[str]


def parses(checkout: str, arguments: list[str], traces: str) -> list[dict]:
    """Parse all DAG files under strace, which writes a file for each process into ``traces``."""
    command = ["strace", "-ff", "-y", "-qq", "-s", "4096", "-o", f"{traces}/t", "--seccomp-bpf"]
    command += ["-e", "trace=%file,process", "-f", os.environ["AIRFLOW_PYTHON"]]
    script = Path(__file__).with_name("reads_parse.py")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*command, script, checkout, *arguments], check=True, stdout=-1, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


def seen_by(traces: str, process: int, checkout: str) -> Seen:
    """Return what a process and those that it started did in the checkout."""
    seen = Seen(set(), set())
    for line in Path(f"{traces}/t.{process}").read_text(errors="replace").splitlines():
        if not (call := CALL.match(line)):
            continue
        name, rest, result = call["name"], call["rest"], call["result"]
        if name in FORKS and result.isdigit() and Path(f"{traces}/t.{result}").exists():
            for mine, theirs in zip(seen, seen_by(traces, int(result), checkout), strict=True):
                mine.update(theirs)
            continue
        if not (path := re.search(r'"((?:[^"\\]|\\.)*)"', rest)):
            continue
        kind = seen.opened if name in OPENS and not result.startswith("-") else seen.asked
        folder = re.match(r"(?:AT_FDCWD|\d+)<(.*?)>", rest)
        real = os.path.normpath(os.path.join(folder[1] if folder else "/", path[1]))
        if real.startswith(checkout + "/") or real == checkout:
            kind.add(real[len(checkout) + 1 :])
    return seen


def main() -> None:
    """Measure one checkout."""
    checkout, *arguments = sys.argv[1:]
    checkout = os.path.realpath(checkout)
    sources: dict[str, bytes] = {}
    entries = []
    for path in Path(checkout).rglob("*"):
        if path.is_file() and not path.is_symlink() and not {".git", "__pycache__"} & set(path.parts):
            content, name = path.read_bytes(), str(path.relative_to(checkout))
            entries.append(Entry(name, len(content), 0o644, hashlib.sha256(content).hexdigest()))
            if name.endswith(".py"):
                sources[name] = content
    old = Manifest(entries)
    with tempfile.TemporaryDirectory() as traces:
        found = parses(checkout, arguments, traces)
        kernel = {one["file"]: seen_by(traces, one["process"], checkout) for one in found}
    contents = Contents(old)
    observations = {}
    for one in found:
        unseen = any(opens_unseen(sources[path]) for path in one["opened"] if path in sources)
        is_whole = not (one["started"] or unseen)
        if seen := observe(one["file"], one["opened"], one["listed"], contents, mtime=0, whole=is_whole):
            observations[one["file"]] = seen
    imports = {path: imported_names(source) for path, source in sources.items()}
    hints = {path: read_hints(source, imports[path]) for path, source in sources.items()}
    data = [path for path in old.files if not path.endswith((".py", ".so"))]
    listed = {one["file"]: set(one["listed"]) for one in found}  # the kernel does not know what import lists
    whole = {path for path, seen in observations.items() if seen.whole}
    zeros = dict.fromkeys(sources, 0)  # mtimes: nothing was touched since
    pairs = 0
    read = set()
    counts: dict[str, int] = defaultdict(int)
    others = [path for path in data if not any(path in seen.opened for seen in kernel.values())]
    sample = set(others[:: len(others) // MAX_OTHERS + 1])
    for path in data:
        if path in others and path not in sample:
            continue
        openers = {file for file, seen in kernel.items() if path in seen.opened}
        folder = path.rpartition("/")[0]
        seekers = openers | {file for file, seen in kernel.items() if path in seen.asked or folder in listed[file]}
        pairs += len(openers)
        read |= {path} if openers else set()
        entry = old.files[path]._replace(sha256="0" * 64)
        for kind, truth, rest in (("changed", openers, [entry]), ("removed", seekers, [])):
            new = Manifest([*(one for one in entries if one.path != path), *rest])
            guess = touched(old, new, imports, hints)
            exact = to_touch(old, new, observations, guess, mtimes=zeros, source_of=sources.__getitem__)
            for rule, says in (("guess", guess), ("exact", exact)):
                files = kernel.keys() & set(says)
                counts[f"{kind} {rule} missed"] += len(truth - files)
                counts[f"{kind} {rule} more"] += len(files - truth)
                counts[f"{kind} {rule} partial"] += len(files - truth - whole)
                if rule == "exact" and os.environ.get("SHOW"):
                    for file in sorted(truth ^ files):
                        word = "missed" if file in truth else "superfluous"
                        print(f"{kind} {path}: {file} {word}, whole: {file in whole}", file=sys.stderr)
    failed = sum(bool(one["errors"]) for one in found)
    figures = [f"{len(found)} ({failed}, {len(found) - len(whole)})", f"{len(data)} ({len(read)})", str(pairs)]
    for kind in ("changed", "removed"):
        for rule in ("guess", "exact"):
            missed, more, partial = (counts[f"{kind} {rule} {what}"] for what in ("missed", "more", "partial"))
            figures += [str(missed), f"{more} ({partial})" if rule == "exact" else str(more)]
    print("|", os.path.basename(checkout), "|", " | ".join(figures), "|")


if __name__ == "__main__":
    main()
