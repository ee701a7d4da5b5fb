"""The shop's warehouse: a SQLite file, so that the examples run anywhere. Set SHOP_DB to put it somewhere else."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCHEMA = Path(__file__).with_name("schema.sql")


@contextmanager
def connect() -> Iterator[sqlite3.Connection]:
    """Open the warehouse for one transaction: all of it happens, or nothing."""
    with closing(sqlite3.connect(os.environ.get("SHOP_DB", "shop.db"), timeout=60)) as connection:
        connection.executescript(SCHEMA.read_text())
        with connection:
            yield connection


def upsert(table: str, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> int:
    """Insert rows, or replace those with the same key, so that a task can run twice; return how many."""
    marks = ", ".join("?" * len(columns))
    with connect() as connection:
        statement = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our names
        return connection.executemany(statement, rows).rowcount
