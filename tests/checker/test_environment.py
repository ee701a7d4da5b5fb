"""The environment of DAG files has what is Airflow's and the user's, and no secret of the checker or of Airflow."""

from dagferry_checker.environment import NO_DATABASE, engine_environment

GIVEN = {
    "PATH": "/bin",
    "TEAM_BUCKET": "s3://team",
    "AIRFLOW_HOME": "/opt/airflow",
    "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX": "regexp",
    "DAGFERRY_TOKEN": "secret",
    "DAGFERRY_TOKEN_FILE": "/secret",
    "AIRFLOW_VAR_BUCKET": "secret",
    "AIRFLOW_CONN_WAREHOUSE": "postgres://secret",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://secret",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "cat secret",
    "AIRFLOW__CORE__FERNET_KEY": "secret",
    "AIRFLOW__API__SECRET_KEY": "secret",
    "AIRFLOW__API_AUTH__JWT_SECRET": "secret",
    "AIRFLOW__CELERY__BROKER_URL": "redis://secret",
    "AIRFLOW__SECRETS__BACKEND": "vault",
    "AIRFLOW__SECRETS__BACKEND_KWARGS": "secret",
}


def made(variables: str = "stub") -> dict[str, str]:
    return engine_environment(GIVEN, home="/scratch", variables=variables, seconds=30)


def test_secrets_do_not_reach_a_dag_file() -> None:
    assert [name for name, value in made().items() if "secret" in value] == []
    assert made()["AIRFLOW__SECRETS__BACKEND"] == ""
    assert not [name for name in made() if name.startswith("DAGFERRY_")]


def test_what_dag_files_need_stays() -> None:
    environment = made()
    assert environment["TEAM_BUCKET"] == "s3://team"
    assert environment["AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX"] == "regexp"
    assert environment["AIRFLOW_HOME"] == "/opt/airflow", "plugins and policies are there"
    assert (environment["HOME"], environment["TMPDIR"]) == ("/scratch", "/scratch")


def test_there_is_no_database() -> None:
    assert made()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == NO_DATABASE


def test_variables_and_connections_of_the_environment_are_an_explicit_choice() -> None:
    assert "AIRFLOW_VAR_BUCKET" not in made()
    assert made("env")["AIRFLOW_VAR_BUCKET"] == "secret"
    assert made("env")["AIRFLOW_CONN_WAREHOUSE"] == "postgres://secret"


def test_airflow_has_a_home_of_its_own_where_none_is_named() -> None:
    environment = engine_environment({}, home="/scratch", variables="stub", seconds=30)
    assert environment["AIRFLOW_HOME"] == "/scratch/airflow"
