"""Check the stock and the orders for impossible values, before the shop opens."""

from shop_common.defaults import DEFAULT_ARGS, START
from shop_common.quality import Check, failures

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

CHECKS = [
    Check("negative stock", "SELECT COUNT(*) FROM stock WHERE pieces < 0"),
    Check("stock not counted for a month", "SELECT COUNT(*) FROM stock WHERE counted_on < DATE('now', '-1 month')"),
    Check("orders of unknown products", "SELECT COUNT(*) FROM orders WHERE product NOT IN (SELECT product FROM stock)"),
    Check("orders without a price", "SELECT COUNT(*) FROM orders WHERE cents <= 0"),
]


@dag(schedule="0 5 * * 1-6", start_date=START, catchup=False, default_args=DEFAULT_ARGS, tags=["shop", "quality"])
def stock_quality() -> None:
    """Fail with a message that lists everything that is wrong."""

    @task(retries=0)  # what is wrong now is wrong a minute later
    def check() -> None:
        if found := failures(CHECKS):
            raise ValueError("; ".join(found))

    check()


stock_quality()
