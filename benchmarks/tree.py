"""The trees that everything is measured on: a large one of 2,000 Python files in 627 folders, 60 MB, about 16 MB as
tar.gz, and one as most teams have it: 300 files in 70 folders, 1 MB.

    python benchmarks/tree.py OUT_DIR [large|usual]

The same bytes on every machine and Python: of ``random`` only ``Random(int).random()`` is used, the one method that is
promised to stay the same, and each file has a seed of its own. The text is Python that parses and packs as source code
does; it is not meant to run. Its files:

    common/warehouse.py                  a helper that 200 DAGs import, and nothing else does
    common/<word>.py                     40 helpers that many DAGs import
    team_NN/helpers.py                   26 helpers that the DAGs of a team import
    team_NN/<word>_NNN/<words>_NNNN.py   DAGs that nothing imports
"""

import functools
import itertools
import re
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

SEED = 20261120
HELPER = "common/warehouse.py"


class Shape(NamedTuple):
    """What a tree has. ``areas`` are the folders below the teams'; ``common`` and one for each team are helpers.

    ``leaf`` is the number of the DAG that ``change_leaf`` changes, one of about the mean size. Sizes of files are
    spread from ``least`` to ``least`` + 1, the larger the rarer, and scaled to the total.
    """

    name: str
    files: int
    total_bytes: int
    helper_importers: int
    common: int
    teams: int
    areas: int
    leaf: int
    least: float

    @property
    def helpers(self) -> int:
        """How many of the files are helpers; they come first."""
        return 2 + self.common + self.teams

    @property
    def folders(self) -> int:
        """How many folders it has."""
        return self.areas + self.teams + 1


LARGE = Shape("large", 2000, 60_000_000, 200, 40, 26, 600, 401, 0.1)
USUAL = Shape("usual", 300, 1_000_000, 30, 10, 8, 61, 219, 0.6)
SHAPES = (LARGE, USUAL)

WORDS = """
account active address adjust agent alert amount annual archive asset audit average backlog balance bank basket batch
benefit billing bonus booking branch brand budget bundle buyer call campaign cancel capacity card carrier cart cash
catalog category change channel charge check city claim client close cluster code cohort collect column company
compare contact contract convert cost count country coupon credit currency current customer cycle daily data day deal
debit default delay delivery demand deposit depot detail device discount district domain draft driver due early email
engine entry error event exchange expense export extract failure family feature fee feed field figure filter final
finance first fixed flag fleet flow forecast format fraud freight fulfil fund gap gateway goods grade grant gross
group growth handle header health hold holiday hour house image impact inbound income index industry input insight
invoice issue item job journal key label land last late launch layer lead lease ledger legal length level limit line
link list load loan local location log loss lot loyalty machine mail main manage manual margin market master match
measure media member merchant metric mobile model month move name national net network notice number offer office open
option order origin outbound output owner pack page paid parcel parent partner party payment payroll pending period
person phone pick piece pipeline place plan plant point policy pool portal post price print priority process product
profile profit program project promo proof property province purchase quality quantity quarter query queue quota quote
range rate ratio raw reason receipt record refund region release renewal rent repair report request reserve result
retail revenue review reward risk role route rule safety salary sale sample scale schedule score season second
section sector segment seller sensor series service session share shelf shift ship shop signal single site size source
space split staff stage standard start state statement station status step stock store stream street sum supplier
supply survey table target task tax team term test ticket tier time title token total track trade traffic transfer
transit trend trial trip type unit update usage user value vehicle vendor version view visit volume voucher warehouse
waste weather week weight window worker year yards zone
""".split()  # noqa: SIM905 - words are read best as words
VERBS = ["apply", "build", "check", "clean", "collect", "count", "derive", "enrich", "fetch", "filter", "join", "load"]
TYPES = ["BIGINT", "DATE", "DECIMAL(18,4)", "DOUBLE", "INTEGER", "TEXT", "TIMESTAMP", "VARCHAR(64)"]


class Writer:
    """Draws words and numbers, the same ones from the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random

    def number(self, below: int) -> int:
        """Return a number from 0 to ``below`` - 1."""
        return int(self.random() * below)

    def of(self, items: list[str]) -> str:
        """Return one of ``items``."""
        return items[int(self.random() * len(items))]

    def word(self) -> str:
        """Return a word that is an identifier too. Some words come more often than others, as in any text."""
        return WORDS[int(self.random() * self.random() * len(WORDS))]

    def name(self, words: int = 2) -> str:
        """Return an identifier of several words."""
        return "_".join(self.word() for _ in range(words))

    def sentence(self, words: int) -> str:
        """Return words with a capital at the start and a full stop at the end."""
        return " ".join(self.word() for _ in range(words)).capitalize() + "."

    def decimal(self) -> str:
        """Return a number with two digits after the point."""
        return f"{self.number(100)}.{self.number(100):02}"


def function(w: Writer) -> str:
    """Write a function that goes through rows."""
    column, other, result = w.name(), w.name(), w.word()
    result = "yards" if result == "yield" else result  # a variable; as long, so that nothing else changes
    return f'''
def {w.of(VERBS)}_{w.name()}(rows: list[Row], {w.word()}_limit: float = {w.decimal()}) -> list[Row]:
    """{w.sentence(9)}

    {w.sentence(13)}
    """
    {result}_rows = []
    for row in rows:
        # {w.sentence(11)}
        if row["{column}"] is None or row["{column}"] < {w.decimal()}:
            log.debug("{w.sentence(6)} %s", row["{w.name()}"])
            continue
        {result} = row["{column}"] * {w.decimal()} + row.get("{other}", {w.decimal()})
        {result}_rows.append({{"{column}": {result}, "{w.name()}": round(row["{other}"], {w.number(5)})}})
    log.info("{w.sentence(5)} %d of %d", len({result}_rows), len(rows))
    return {result}_rows
'''


def query(w: Writer) -> str:
    """Write a query."""
    columns = "".join(f"    a.{w.name()} AS {w.name()},\n" for _ in range(4 + w.number(8)))
    return f'''
{w.name().upper()}_SQL = """
SELECT
{columns}    SUM(b.{w.name()}) AS {w.word()}_total
FROM {w.word()}.{w.name()} AS a
LEFT JOIN {w.word()}.{w.name()} AS b ON b.{w.word()}_id = a.{w.word()}_id
WHERE a.{w.name()} >= {w.number(100_000)} AND b.{w.word()} IN ('{w.word()}', '{w.word()}')
GROUP BY {w.number(9) + 1}
HAVING COUNT(*) > {w.number(1000)}
"""
'''


def settings(w: Writer) -> str:
    """Write a table of settings."""
    lines = "".join(
        f'    "{w.name()}": {{"source": "{w.name(3)}", "type": "{w.of(TYPES)}", "limit": {w.decimal()}}},\n'
        for _ in range(5 + w.number(12))
    )
    return f"\n{w.name().upper()} = {{\n{lines}}}\n"


def keys(w: Writer) -> str:
    """Write keys that can hardly be compressed, because every real tree has some."""
    lines = "".join(f'    "{w.number(1 << 48):012x}",  # {w.name()}\n' for _ in range(4 + w.number(8)))
    return f"\n{w.name().upper()}_KEYS = [\n{lines}]\n"


BLOCKS = (function, function, function, function, function, query, settings, keys)


class Plan(NamedTuple):
    """A file that is to be written: its path, its bytes, and the modules of the tree that it imports."""

    path: str
    size: int
    imports: list[str]


@functools.cache
def plan(shape: Shape = LARGE) -> list[Plan]:
    """Return what the tree consists of: helpers first, then DAGs."""
    w = Writer(SEED)
    areas = [f"team_{number % shape.teams:02}/{w.word()}_{number:03}" for number in range(shape.areas)]
    common = [f"{w.name()}_{number:02}" for number in range(shape.common)]
    paths = ["common/__init__.py", HELPER, *(f"common/{name}.py" for name in common)]
    imports: list[list[str]] = [[], []]
    imports += [[f"common.{w.of(common[:number])}"] if number else [] for number in range(shape.common)]
    paths += [f"team_{team:02}/helpers.py" for team in range(shape.teams)]
    imports += [[f"common.{w.of(common)}"] for _ in range(shape.teams)]
    dags = shape.files - len(paths)
    for number in range(dags):
        area = areas[number % shape.areas]
        paths.append(f"{area}/{w.name()}_{number:04}.py")
        imports.append([f"{area[:7]}.helpers", *(f"common.{w.of(common)}" for _ in range(3))])
        if number in range(0, shape.helper_importers * 9, 9):
            imports[-1].append("common.warehouse")
    weights = [
        int(shape.least * 10**9) + w.number(1000) ** 3 for _ in paths
    ]  # whole numbers: floats add up differently in 3.12
    ends = [shape.total_bytes * total // sum(weights) for total in itertools.accumulate(weights)]
    return [Plan(path, end - start, of) for path, start, end, of in zip(paths, [0, *ends], ends, imports, strict=False)]


def source(number: int, shape: Shape = LARGE) -> str:
    """Return the text of file ``number`` of the plan, exactly as many bytes as planned."""
    file = plan(shape)[number]
    w = Writer(SEED + 1 + number)
    modules = "".join(f"from {module} import {w.name()}\n" for module in dict.fromkeys(file.imports))
    head = f'''"""{w.sentence(8)}

{w.sentence(14)}
"""

import logging
from datetime import datetime, timedelta

from airflow.exceptions import AirflowException
from airflow.sdk import dag, task

{modules}
log = logging.getLogger(__name__)

Row = dict[str, float]
REVISION = 0
'''
    name, first = w.name(3), w.name()
    tail = f'''

@dag(
    schedule="{w.number(60)} {w.number(24)} * * *",
    start_date=datetime(2026, {w.number(12) + 1}, 1),
    tags=["{w.word()}", "{w.word()}"],
)
def {name}():
    """{w.sentence(7)}"""

    @task(retries={w.number(5)}, retry_delay=timedelta(minutes={w.number(60)}))
    def {first}() -> int:
        raise AirflowException("{w.sentence(5)}")

    {first}()


{name}()
'''
    if number < shape.helpers:
        tail = ""
    pieces = [head]
    room = file.size - len(head) - len(tail)
    while len(piece := BLOCKS[w.number(len(BLOCKS))](w)) < room - 4:
        pieces.append(piece)
        room -= len(piece)
    comments = "".join(f"\n# {w.sentence(14)}" for _ in range(room // 20 + 1))[: room - 1]  # to the byte
    return "".join([*pieces, comments, "\n", tail])


def write(folder: Path, shape: Shape = LARGE) -> None:
    """Write the tree below ``folder``, which is made."""
    for number, file in enumerate(plan(shape)):
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source(number, shape), encoding="utf-8", newline="\n")


def change_leaf(folder: Path, number: int, shape: Shape = LARGE) -> Path:
    """Change one line of a DAG that nothing imports, another line for each ``number``; return its path."""
    return _change(folder / plan(shape)[shape.leaf].path, number)


def change_helper(folder: Path, number: int, _: Shape = LARGE) -> Path:
    """Change one line of the helper that many DAGs import, another line for each ``number``; return its path."""
    return _change(folder / HELPER, number)


def _change(path: Path, number: int) -> Path:
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^REVISION = \d+$", f"REVISION = {number + 1}", text, count=1), encoding="utf-8")
    return path


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit("usage: python benchmarks/tree.py OUT_DIR [large|usual]")
    write(Path(sys.argv[1]), next(shape for shape in SHAPES if shape.name == (*sys.argv, LARGE.name)[2]))
