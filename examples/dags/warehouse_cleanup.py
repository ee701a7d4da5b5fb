"""Delete orders that are no longer needed, once a week at night."""

from shop_common.defaults import DEFAULT_ARGS, START
from shop_common.warehouse import connect

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

KEEP_DAYS = 400


@dag(
    schedule="0 3 * * 0",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["shop", "maintenance"],
)
def warehouse_cleanup() -> None:
    """Delete old orders, then log how many remain."""

    @task
    def forget(ds: str | None = None) -> int:
        with connect() as connection:
            return connection.execute("DELETE FROM orders WHERE day < DATE(?, ?)", (ds, f"-{KEEP_DAYS} days")).rowcount

    @task
    def left(forgotten: int) -> None:
        with connect() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM orders").fetchone()
        print(f"{forgotten} orders forgotten, {count} left")

    left(forget())


warehouse_cleanup()
