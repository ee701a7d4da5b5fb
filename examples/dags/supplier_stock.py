"""Wait for the supplier's stock list of the day, then load it."""

import csv
import os
from pathlib import Path

from shop_common.defaults import DEFAULT_ARGS, START
from shop_common.warehouse import upsert

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

INBOX = Path(os.environ.get("SHOP_INBOX", "inbox"))


def stock_list(day: str | None) -> Path:
    """Return where the supplier puts the list of a day."""
    return INBOX / f"stock-{day}.csv"


@dag(schedule="@daily", start_date=START, catchup=False, default_args=DEFAULT_ARGS, tags=["shop", "ingestion"])
def supplier_stock() -> None:
    """Look every five minutes, and hold no worker in between."""

    @task.sensor(poke_interval=300, timeout=6 * 3600, mode="reschedule")
    def arrived(ds: str | None = None) -> bool:
        return stock_list(ds).is_file()

    @task
    def load(ds: str | None = None) -> int:
        with stock_list(ds).open(newline="") as file:
            rows = [(line["product"], int(line["pieces"]), ds) for line in csv.DictReader(file)]
        return upsert("stock", ("product", "pieces", "counted_on"), rows)

    arrived() >> load()


supplier_stock()
