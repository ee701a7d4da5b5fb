"""The environment of the engine and of all DAG files: Airflow's, without secrets and without a database. Pure.

DAG files read the environment, so variables of the user are kept. Removed are the checker's own (``DAGFERRY_…``), the
Variables and Connections in it unless ``--variables env``, and the settings of Airflow that hold secrets.
"""

from collections.abc import Mapping

NO_DATABASE = "sqlite:////nonexistent/dagferry-checker-has-no-database.db"
"""The metadata database: using it fails at once."""

_VALUES = ("AIRFLOW_VAR_", "AIRFLOW_CONN_")
_REMOVED = (
    *("DAGFERRY_", "AIRFLOW__DATABASE__", "AIRFLOW__SECRETS__", "AIRFLOW__API_AUTH__", "AIRFLOW__SMTP__"),
    *("AIRFLOW__CELERY__", "AIRFLOW__SENTRY__", "AIRFLOW__ELASTICSEARCH__"),
)
_REMOVED_ENDS = ("SECRET_KEY", "FERNET_KEY", "SQL_ALCHEMY_CONN", "_CMD", "_SECRET", "_PASSWORD")
_SERVICE_ACCOUNT = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE")


def engine_environment(environment: Mapping[str, str], *, home: str, variables: str, seconds: float) -> dict[str, str]:
    """Return the environment of the engine; ``home`` is an empty folder, ``seconds`` the time a file may take.

    ``AIRFLOW_HOME`` stays if it is set, because plugins and policies are there; Airflow writes nothing to it.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_REMOVED)
        and not (name.startswith("AIRFLOW__") and name.endswith(_REMOVED_ENDS))
        and name not in _SERVICE_ACCOUNT
        and (variables == "env" or not name.startswith(_VALUES))
    }
    kept.setdefault("AIRFLOW_HOME", f"{home}/airflow")
    return {
        **kept,
        "HOME": home,
        "TMPDIR": home,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": NO_DATABASE,
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__SECRETS__BACKEND": "",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACKS": "True",
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "30",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": f"{seconds:g}",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{home}/logs",
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": f"{home}/logs",
        "AIRFLOW__SCHEDULER__CHILD_PROCESS_LOG_DIRECTORY": f"{home}/logs",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__METRICS__STATSD_ON": "False",
        "AIRFLOW__METRICS__OTEL_ON": "False",
        "AIRFLOW__TRACES__OTEL_ON": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
