"""Checks of tables: each is a name and a query that counts the rows that are wrong."""

from typing import NamedTuple

from shop_common.warehouse import connect


class Check(NamedTuple):
    """A rule about a table."""

    name: str
    wrong_rows: str


def failures(checks: list[Check]) -> list[str]:
    """Run the checks; return a line for each one that finds something wrong."""
    with connect() as connection:
        counts = {check.name: connection.execute(check.wrong_rows).fetchone()[0] for check in checks}
    return [f"{name}: {count} rows" for name, count in counts.items() if count]
