"""Finds the test files of a module by their names: the tests mirror the packages.

``core/dagferry_core/names.py`` has ``tests/core/test_names.py``, and ``follow/dagferry_follow/volume/tree.py`` has
``tests/follow/volume/test_tree.py``. Where one file would be too long, ``test_tree_<part>.py`` are others.
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


def own_test(module: str) -> str:
    """Return the path of the test file of the module at this path, whether or not there is one."""
    package, _, *folders, name = Path(module).parts
    return str(Path("tests", package, *folders, f"test_{name}"))


def own_tests(module: str) -> list[str]:
    """Return the paths of all test files of the module at this path: ``own_test``, and the other parts."""
    first = own_test(module)
    prefix = f"{Path(first).stem}_"
    # test_tar_header.py belongs to a module of its own, so it is not a part of test_tar.py.
    names = [f"test_{path.stem}" for path in (HOME / module).parent.glob("*.py")]
    others = [name for name in names if name.startswith(prefix)]
    parts = [path for path in (HOME / first).parent.glob(f"{prefix}*.py") if not _is_of(path.stem, others)]
    return [first, *sorted(str(path.relative_to(HOME)) for path in parts)]


def _is_of(stem: str, others: list[str]) -> bool:
    """Return whether a test file is one of ``others``, or a part of one."""
    return any(stem == other or stem.startswith(f"{other}_") for other in others)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what is in a TOML file."""
    return tomllib.loads(path.read_text())
