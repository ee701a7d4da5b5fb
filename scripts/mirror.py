"""Finds the test file of a module by its name: the tests mirror the packages.

``core/dagferry_core/names.py`` has ``tests/core/test_names.py``, and ``follow/dagferry_follow/volume/tree.py`` would
have ``tests/follow/volume/test_tree.py``.
"""

from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

HOME = Path(__file__).resolve().parent.parent


def packages() -> list[str]:
    """Return the folders that packages are in: ``core`` has ``core/dagferry_core``."""
    return sorted(path.parent.parent.name for path in HOME.glob("*/dagferry_*/__init__.py"))


def modules(package: str) -> list[str]:
    """Return the paths of a package's modules, but for ``__init__.py`` and ``__main__.py``."""
    found = (HOME / package).glob("dagferry_*/**/*.py")
    return sorted(str(path.relative_to(HOME)) for path in found if not path.name.startswith("__"))


def own_tests(module: str) -> str:
    """Return the path of the test file of the module at this path, whether or not there is one."""
    package, _, *folders, name = Path(module).parts
    return str(Path("tests", package, *folders, f"test_{name}"))


def read_toml(path: Path) -> dict[str, Any]:
    """Return what is in a TOML file."""
    return tomllib.loads(path.read_text())
