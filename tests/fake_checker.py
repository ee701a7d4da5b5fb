"""The command ``dagferry-checker`` with the engine of ``fake_airflow``, to be started as a process."""

import sys

import fake_airflow
from dagferry_checker import __main__, service
from dagferry_checker.engine_process import Engine


def _engine(*arguments: object) -> Engine:
    return Engine(*arguments, fake_airflow.COMMAND)  # type: ignore[arg-type]


if __name__ == "__main__":
    service.Engine = _engine  # type: ignore[misc,assignment]
    sys.exit(__main__.main())
