"""The gate: whether Airflow could read a dags folder at all. Used by the server, and by the client before a deploy."""
