"""Sum up the orders of each day by region, with the query in a file next to this one."""

from pathlib import Path

from shop_common.defaults import DEFAULT_ARGS, START
from shop_common.warehouse import connect

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

# Relative to this file, so that the query and the code always come from the same version of the folder.
QUERY = Path(__file__).with_name("sales_daily.sql")


@dag(schedule="30 2 * * *", start_date=START, catchup=False, default_args=DEFAULT_ARGS, tags=["shop", "sales"])
def sales_daily() -> None:
    """Run the query for the day, and log the results."""

    @task
    def load(ds: str | None = None) -> int:
        with connect() as connection:
            return connection.execute(QUERY.read_text(), {"day": ds}).rowcount

    @task
    def report(regions: int, ds: str | None = None) -> None:
        print(f"{ds}: sales of {regions} regions")

    report(load())


sales_daily()
