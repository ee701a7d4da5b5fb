"""``dagferry`` without its libraries says which extra has them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("lost", ["click", "requests"])
def test_without_its_extra_it_ends_with_2_and_names_it(lost) -> None:
    code = f"""
import sys
sys.modules[{lost!r}] = None
from dagferry_client.__main__ import main
sys.argv = ["dagferry", "whoami", "--server", "http://127.0.0.1:9"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"needs {lost}" in done.stderr
    assert 'pip install "dagferry[client]"' in done.stderr


def test_a_bug_in_our_own_imports_is_not_hidden() -> None:
    code = """
import sys
sys.modules["dagferry_client.output"] = None
from dagferry_client.__main__ import main
sys.argv = ["dagferry", "--help"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "dagferry[client]" not in done.stderr.splitlines()[-1]


def test_it_is_installed_as_a_command() -> None:
    from importlib.metadata import entry_points

    [found] = entry_points(group="console_scripts", name="dagferry")
    assert found.value == "dagferry_client.__main__:main"
