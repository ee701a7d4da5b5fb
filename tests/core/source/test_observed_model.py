"""Random histories of bundles whose DAG files are small programs: none is ever out of date without being touched.

A program opens files, opens what the content of a file names, lists folders, asks whether files exist, and imports
modules, which are such programs too. What is guessed of it comes from a text that a real one could have.
"""

import random

import pytest

from dagferry_core.source.observed import Contents, observe, to_touch
from touching import bundle, touched_by

FOLDERS = ["", "a", "a/b", "c"]
DATA = [f"{folder}/{name}".lstrip("/") for folder in FOLDERS for name in ("x.yml", "y.yml", "z.sql")]
MODULES = ["lib.py", "a/lib.py", "util.py", "c/util.py"]
DAGS = ["one.py", "a/two.py", "c/three.py"]
PROGRAMS = {}
"""What a text stands for: a list of operations, each with its argument."""

TEXTS = {
    "open": "open('{}')",
    "follow": "open(open('{}').read())",
    "list": "for path in Path('{}').glob('*.yml'): path.read_text()",
    "ask": "if os.path.exists('{}'): ...",
    "import": "import {}",
}


def program(rng, operations, *, modules=True):
    steps = []
    for _ in range(rng.randint(0, 3)):
        kind = rng.choice(operations)
        if kind == "import" and modules:
            steps.append((kind, rng.choice(["lib", "util"])))
        elif kind == "list":
            steps.append((kind, rng.choice(FOLDERS[1:])))
        elif kind != "import":
            steps.append((kind, rng.choice(DATA)))
    text = "\n".join([f"# {rng.random()}", *(TEXTS[kind].format(argument) for kind, argument in steps)])
    PROGRAMS[text] = steps
    return text


class Parse:
    """A parse of ``path`` in ``files``: what comes of it, what it opened and listed."""

    def __init__(self, files, path):
        self.files = files
        self.outcome, self.opened, self.listed = [], set(), set()
        self.run(path, path.rpartition("/")[0])

    def open(self, path):
        self.opened.add(path)
        self.outcome.append((path, self.files.get(path)))
        return self.files.get(path)

    def run(self, path, folder):
        for kind, argument in PROGRAMS[self.open(path)]:
            if kind == "import":
                self.load(argument, folder)
            elif kind == "list":
                self.list(argument)
            elif kind == "ask":
                self.outcome.append((argument, argument in self.files))
            else:
                content = self.open(argument)
                if kind == "follow" and content:
                    self.open(content.split()[0])

    def load(self, name, folder):
        for place in (folder, ""):  # as sys.path
            module = f"{place}/{name}.py".lstrip("/")
            if module in self.files:
                if module not in self.opened:
                    self.run(module, folder)
                return
        self.outcome.append((name, "missing"))

    def list(self, folder):
        if any(path.startswith(f"{folder}/") for path in self.files):  # as Path.is_dir, which is not seen
            self.listed.add(folder)
            for path in sorted(self.files):
                if path.rpartition("/")[0] == folder and path.endswith(".yml"):
                    self.open(path)


def changed(rng, files, operations):
    after = dict(files)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(DATA + MODULES + DAGS) if rng.random() < 0.4 else rng.choice(DATA)
        if rng.random() < 0.35 and path not in DAGS:
            after.pop(path, None)
        elif path.endswith(".py"):
            after[path] = program(rng, operations, modules=path in DAGS)
        else:
            after[path] = f"{rng.choice(DATA)} {rng.random()}"
    return after


def superfluous_guesses(seed, *, always_noted):
    """Run a history; return how many guesses of it were found to be superfluous."""
    rng = random.Random(seed)
    # What the content of a file names cannot be guessed: who reads that is known only where each parse was noted.
    operations = [kind for kind in TEXTS if always_noted or kind != "follow"]
    files = {path: program(rng, operations) for path in DAGS}
    seen, parsed, waiting, mtimes = {}, {}, set(DAGS), dict.fromkeys(DAGS, 0)
    superfluous = 0
    for _ in range(40):
        for path in [path for path in sorted(waiting) if rng.random() < 0.7]:
            parse = Parse(files, path)
            parsed[path] = parse.outcome
            waiting.discard(path)
            if always_noted or rng.random() < 0.5:
                contents = Contents(bundle(files))
                seen[path] = observe(
                    path, parse.opened, parse.listed, contents, mtime=mtimes[path], before=seen.get(path)
                )
        after = changed(rng, files, operations)
        changes = {path: after.get(path) for path in files.keys() | after.keys() if files.get(path) != after.get(path)}
        guess = touched_by(changes, files)
        sources = {path: text.encode() for path, text in files.items()}
        touched = to_touch(bundle(files), bundle(after), seen, guess, mtimes=mtimes, source_of=sources.__getitem__)
        fresh = {path for path in DAGS if path in touched or files[path] != after[path]}
        waiting |= fresh
        mtimes |= {path: mtimes[path] + 1 for path in fresh}
        superfluous += len(set(guess) & set(DAGS) - set(touched))
        files = after
        for path in set(DAGS) - waiting:
            assert Parse(files, path).outcome == parsed[path], f"{path} is out of date, seed {seed}"
    return superfluous


@pytest.mark.parametrize("always_noted", [True, False])
def test_no_dag_file_is_out_of_date_without_being_touched(always_noted):
    found = [superfluous_guesses(seed, always_noted=always_noted) for seed in range(20)]
    assert sum(map(bool, found)) > 15, "most histories have a guess that is not needed"
