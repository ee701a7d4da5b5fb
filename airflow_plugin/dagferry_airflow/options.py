"""The plugin's own settings, in the section ``[dagferry]`` of airflow.cfg, or ``AIRFLOW__DAGFERRY__…``."""

from airflow.configuration import conf

SECTION = "dagferry"


def report_parsed() -> bool:
    """Return whether the dag processor tells the server what Airflow has parsed."""
    return bool(conf.getboolean(SECTION, "report_parsed", fallback=True))
