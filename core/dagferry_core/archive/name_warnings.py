"""Warnings about names in a bundle that are allowed, but probably a mistake."""

import os
import re
import string
import sys
from collections.abc import Iterable

from dagferry_core.archive.paths import ROOT, quoted

MAX_NAMES_SHOWN = 10
"""How many names a warning lists."""

MAX_PATH_SHOWN = 120
"""Characters of a path in the suggested upload query."""

_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of text (Unicode Standard Annex 9): ``yp.exe`` can look like ``exe.py``."""

_AS_IT_IS = frozenset(string.ascii_letters + string.digits + "-._~/")
"""Characters that need no escaping in a query (RFC 3986 §2.3)."""

# fmt: off
INSTALLED = frozenset({
    "aiohttp", "airflow", "alembic", "anyio", "asgiref", "attr", "attrs", "azure", "boto3", "botocore", "bs4",
    "celery", "certifi", "click", "connexion", "cosmos", "cryptography", "dagferry_airflow", "dagferry_core",
    "dateutil", "dbt", "dill", "docker", "docutils", "dotenv", "fastapi", "flask", "fsspec", "google", "greenlet",
    "grpc", "gunicorn", "httpcore", "httpx", "idna", "importlib_metadata", "itsdangerous", "jinja2", "jsonschema",
    "jwt", "kubernetes", "lockfile", "lxml", "mako", "markdown", "markupsafe", "marshmallow", "msgpack", "numpy",
    "openlineage", "opentelemetry", "orjson", "packaging", "pandas", "paramiko", "pendulum", "pip", "pkg_resources",
    "pluggy", "polars", "prometheus_client", "psutil", "psycopg", "psycopg2", "pyarrow", "pydantic",
    "pydantic_core", "pymongo", "pymysql", "pyspark", "pytest", "pytz", "redis", "referencing", "requests", "rich",
    "scipy", "setproctitle", "setuptools", "six", "sklearn", "slack_sdk", "sniffio", "snowflake", "sqlalchemy",
    "sqlparse", "starlette", "structlog", "tabulate", "tenacity", "termcolor", "toml", "tqdm", "typer",
    "typing_extensions", "tzdata", "urllib3", "uvicorn", "werkzeug", "wrapt", "yaml", "yarl", "zstandard",
})
# fmt: on
"""Packages that Airflow needs, and those that DAGs often import."""


def wrong_level(paths: Iterable[str]) -> list[str]:
    """Return a warning if all files of a bundle lie in one folder, as in an archive of a whole repository.

    That folder need not be the dags folder itself: a folder ``dags`` in it is more likely.
    """
    paths = list(paths)
    folders = [path.rpartition("/")[0] for path in paths]
    if not all(folders):
        return []
    common = os.path.commonpath(folders) if folders else ""
    if not common:
        return []
    # The slashes around it, so that neither "my_dags" nor a file named "dags" is taken for it.
    dags = {folder[: found + len(ROOT)] for folder in folders if (found := f"/{folder}/".find(f"/{ROOT}/")) >= 0}
    folder = dags.pop() if len(dags) == 1 else common
    top = common.partition("/")[0]
    path = folder if len(folder) <= MAX_PATH_SHOWN else top
    query = "".join(chr(byte) if chr(byte) in _AS_IT_IS else f"%{byte:02X}" for byte in path.encode())
    warning = (
        f"All files lie in the folder {quoted(top)}, so that it is part of every path in the dags folder. If "
        f"{quoted(folder)} is your dags folder, upload with ?root={query}; if all is as you want it, ?root=. ends this "
        "warning."
    )
    return [warning]


def name_warnings(paths: Iterable[str]) -> list[str]:
    """Return a warning for each kind of name that misleads people or Python; it lists the first of them."""
    turned: list[str] = []
    shadows: dict[str, None] = {}
    for path in paths:
        if not path.isascii() and _DIRECTIONS.search(path):
            turned.append(path)
        if (name := _top_module(path)) and (name in INSTALLED or name in sys.stdlib_module_names):
            shadows[path.removesuffix("/__init__.py")] = None
    warnings = []
    if turned:
        warnings.append(
            "These names have characters that change the direction of writing, so they look like other names: "
            f"{_listed(turned)}."
        )
    if shadows:
        warnings.append(
            "These have the names of Python's own modules or of packages that are often installed, and an import finds "
            f"one or the other by the order of sys.path: {_listed(list(shadows))}. Rename them."
        )
    return warnings


def _top_module(path: str) -> str:
    """Return the name of the module or package at the top of the bundle that ``path`` makes, if it makes one."""
    folder, _, name = path.rpartition("/")
    if name == "__init__.py" and "/" not in folder:
        return folder
    if not folder and name.endswith((".py", ".so")):
        return name.partition(".")[0]
    return ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(map(quoted, names[:MAX_NAMES_SHOWN])) + more
