"""Finds files that look as if they hold a secret: who deploys them is warned, because every pod will have them."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

PATTERNS = (".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", ".netrc", ".pgpass", "id_*")
"""Names of files, at any depth, in small or capital letters."""
NO_KEY_SUFFIXES = (
    *(".py", ".sql", ".json", ".yaml", ".yml", ".csv", ".tsv", ".txt", ".md", ".rst", ".toml", ".ini", ".cfg", ".xml"),
    *(".html", ".j2", ".sh", ".ipynb", ".proto", ".avsc", ".parquet", ".pub"),
)
"""``id_*`` with one of these is no key: DAGs have names such as ``id_mapping.py``."""
MAX_SHOWN_PATHS = 10


def secret_warnings(paths: Iterable[str]) -> list[str]:
    """Return a warning that names the first of ``paths`` that look like secrets; nothing if there is none."""
    found = [path for path in paths if _looks_secret(path.rpartition("/")[2].lower())]
    if not found:
        return []
    more = f" and {len(found) - MAX_SHOWN_PATHS} more" if len(found) > MAX_SHOWN_PATHS else ""
    return [
        f"These look like secrets, and every Airflow pod will have them: {', '.join(found[:MAX_SHOWN_PATHS])}{more}."
    ]


def _looks_secret(name: str) -> bool:
    if name.startswith("id_") and name.endswith(NO_KEY_SUFFIXES):
        return False
    return any(fnmatchcase(name, pattern) for pattern in PATTERNS)
