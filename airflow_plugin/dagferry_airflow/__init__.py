"""Runs inside Airflow: a plugin that pins tasks to their tree, and a DAG bundle for Airflow 3.

``pip install "dagferry[airflow]"`` into Airflow's environment is all the plugin needs. The DAG bundle is named in
``[dag_processor] dag_bundle_config_list`` as ``dagferry_airflow.DagferryBundle``. See
docs/how-to/use-the-dag-bundle.md.
"""

from typing import Any

__all__ = ["DagferryBundle"]


def __getattr__(name: str) -> Any:
    # Imported at its first use: Airflow 2 has no DAG bundles, and every process of Airflow loads the plugin.
    if name == "DagferryBundle":
        from dagferry_airflow.bundle import DagferryBundle  # noqa: PLC0415

        return DagferryBundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
