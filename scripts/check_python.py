"""Print in one line what is missing to create a virtual environment."""

import importlib.util
import sys

if sys.version_info < (3, 10):  # noqa: UP036 - this is the script that tells
    version = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"Dagferry needs Python 3.10 or newer; {sys.executable} is {version}. Try: make PYTHON=python3.11 …")
if importlib.util.find_spec("ensurepip") is None:
    package = f"python3.{sys.version_info[1]}-venv"
    sys.exit(f"Python's venv module is incomplete here. On Debian and Ubuntu: apt-get install {package}")
