"""What can go wrong with the checker itself. What is wrong with a DAG file is a ``Problem``."""

from dagferry_core.documentation import Audience
from dagferry_core.errors import SetupError
from dagferry_follow.errors import SyncError


class AirflowMissing(SetupError):
    """Airflow cannot be imported by the Python that runs the checker."""

    code = "airflow_missing"
    default_hint = "Run the checker in Airflow's own image or environment."


class ImportCheckFailed(SyncError):
    """An import check could not be done: it says nothing about the DAG files."""

    code = "import_check_failed"
    audience = Audience.PODS
    default_hint = "It is tried again. Look at the checker's log, and at its limits of memory and processes."
