"""Answers what a DAG file asks of Airflow's Variables and Connections, without those of the real Airflow.

A candidate must not read production's secrets, so by default values are made up. Where the file gives a default, that
one is returned. Each name is noted. With ``env`` the values come from ``AIRFLOW_VAR_…`` and ``AIRFLOW_CONN_…`` in the
environment, and only the names that are not there are noted.
"""

import json
import os
from typing import Any

STUB = "dagferry-stub"
"""The same as in ``judge``, which this process does not import."""
MAX_ASKED = 200

_MISSING = object()


class StubObject(dict[str, Any]):
    """A made-up JSON object: it has a made-up text under every key."""

    def __missing__(self, key: str) -> str:
        """Return the text."""
        return f"{STUB}-{key}"


class Stubs:
    """Made-up Variables and Connections; ``asked`` are the names so far. ``from_environment``: the mode ``env``."""

    def __init__(self, *, from_environment: bool) -> None:
        self._from_environment = from_environment
        self.asked: list[str] = []

    def _note(self, name: str) -> None:
        if name not in self.asked and len(self.asked) < MAX_ASKED:
            self.asked.append(name)

    def replace_variables(self, variable: Any) -> None:
        """Let ``variable.get`` of a class answer with made-up values."""
        original = variable.get

        def get(_cls: Any, key: str, *arguments: Any, **named: Any) -> Any:
            present = f"AIRFLOW_VAR_{str(key).upper()}" in os.environ
            if not (self._from_environment and present):
                self._note(f"variable:{key}")
            if self._from_environment:
                return original(key, *arguments, **named)
            default = arguments[0] if arguments else named.get("default", named.get("default_var", _MISSING))
            if default is not _MISSING:
                return default
            wants_json = arguments[1] if len(arguments) > 1 else named.get("deserialize_json", False)
            return StubObject() if wants_json else f"{STUB}-{key}"

        variable.get = classmethod(get)

    def replace_connections(self, connection: Any, name: str) -> None:
        """Let the class method ``name`` of a class answer with made-up connections."""
        original = getattr(connection, name)

        def get(_cls: Any, conn_id: str) -> Any:
            present = f"AIRFLOW_CONN_{str(conn_id).upper()}" in os.environ
            if not (self._from_environment and present):
                self._note(f"connection:{conn_id}")
            if self._from_environment:
                return original(conn_id)
            return connection(
                conn_id=conn_id,
                conn_type="generic",
                host=f"{STUB}.invalid",
                login=STUB,
                password=STUB,
                schema=STUB,
                port=1,
                extra=json.dumps({}),
            )

        setattr(connection, name, classmethod(get))

    def supervisor(self) -> Any:
        """Return what Airflow 3 takes for the process that runs a parse: it has nothing, and every question is noted.

        What reaches it did not go through the two methods above.
        """
        from airflow.sdk.exceptions import ErrorType  # noqa: PLC0415 - Airflow 3 only
        from airflow.sdk.execution_time.comms import ErrorResponse  # noqa: PLC0415

        kinds = {
            "GetVariable": ("variable", ErrorType.VARIABLE_NOT_FOUND),
            "GetConnection": ("connection", ErrorType.CONNECTION_NOT_FOUND),
        }

        def send(message: Any) -> Any:
            question = type(message).__name__
            kind, error = kinds.get(question, ("airflow", ErrorType.GENERIC_ERROR))
            key = str(getattr(message, "key", None) or getattr(message, "conn_id", None) or question)
            if question.startswith("Get") and not (self._from_environment and question in kinds):
                self._note(f"{kind}:{key}")
            return ErrorResponse(error=error, detail={"key": key})

        class Supervisor:
            def send(self, message: Any, **_: Any) -> Any:
                return send(message)

            async def asend(self, message: Any, **_: Any) -> Any:
                return send(message)

        return Supervisor()
