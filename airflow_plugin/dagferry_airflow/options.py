"""The plugin's own settings, in the section ``[dagferry]`` of airflow.cfg, or ``AIRFLOW__DAGFERRY__…``."""

from airflow.configuration import conf

SECTION = "dagferry"


def pin_runs() -> bool:
    """Return whether all tasks of a run get the version that was live when the run started."""
    return bool(conf.getboolean(SECTION, "pin_runs", fallback=False))


def report_parsed() -> bool:
    """Return whether the dag processor tells the server what Airflow has parsed."""
    return bool(conf.getboolean(SECTION, "report_parsed", fallback=True))
