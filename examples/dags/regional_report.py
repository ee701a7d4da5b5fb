"""Write a report for every region that sold something: as many tasks as there are regions that day."""

from shop_common.defaults import DEFAULT_ARGS, START
from shop_common.warehouse import connect

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(schedule="0 6 * * *", start_date=START, catchup=False, default_args=DEFAULT_ARGS, tags=["shop", "reports"])
def regional_report() -> None:
    """Map one task over the regions, and gather what they return."""

    @task
    def regions(ds: str | None = None) -> list[str]:
        with connect() as connection:
            rows = connection.execute("SELECT region FROM daily_sales WHERE day = ? ORDER BY region", (ds,))
            return [region for (region,) in rows]

    @task(max_active_tis_per_dag=8)
    def report(region: str, ds: str | None = None) -> str:
        with connect() as connection:
            best = connection.execute(
                "SELECT product, SUM(cents) FROM orders WHERE day = ? AND region = ? GROUP BY product ORDER BY 2 DESC",
                (ds, region),
            ).fetchone()
        product, cents = best or ("nothing", 0)
        return f"{region}: most of all {product}, {cents / 100:.2f}"

    @task(trigger_rule="none_failed")
    def publish(lines: list[str]) -> None:
        print("\n".join(lines or ["no sales"]))

    publish(report.expand(region=regions()))


regional_report()
