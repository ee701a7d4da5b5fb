"""Fetch the day's orders from the order service every hour; the service is not always up, so retries back off."""

from datetime import timedelta

from shop_common.api import orders
from shop_common.defaults import DEFAULT_ARGS, START
from shop_common.warehouse import upsert

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

COLUMNS = ("id", "day", "region", "product", "cents")


@dag(
    schedule="@hourly",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["shop", "ingestion"],
)
def orders_hourly() -> None:
    """Import the orders of the day; importing an order twice does no harm."""

    @task(
        retries=6,
        retry_delay=timedelta(seconds=30),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=15),
        execution_timeout=timedelta(minutes=10),
    )
    def ingest(ds: str | None = None) -> int:
        return upsert("orders", COLUMNS, (tuple(order[column] for column in COLUMNS) for order in orders(ds or "")))

    ingest()


orders_hourly()
