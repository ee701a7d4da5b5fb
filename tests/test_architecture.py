"""The house rules: which package may import which, core is pure, and the sidecar stays light."""

import ast
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
PACKAGES = {path.parent.name: path.parent for path in HOME.glob("*/dagferry_*/__init__.py")}


def imported_modules(path: Path) -> set[str]:
    """The modules that a source file imports, and the names it takes from them: ``a.b.c`` of ``from a.b import c``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported(path: Path) -> set[str]:
    """The top-level modules that a source file imports."""
    return {name.split(".")[0] for name in imported_modules(path)}


def files(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


ARROWS = {
    "dagferry_core": set(),
    "dagferry_follow": {"dagferry_core"},
    "dagferry_runtime": {"dagferry_core"},
    "dagferry_gate": {"dagferry_core"},
    "dagferry_server": {"dagferry_core", "dagferry_follow", "dagferry_runtime", "dagferry_gate"},
    "dagferry_sidecar": {"dagferry_core", "dagferry_follow", "dagferry_runtime"},
    "dagferry_client": {"dagferry_core", "dagferry_follow", "dagferry_runtime", "dagferry_gate"},
    "dagferry_airflow": {"dagferry_core", "dagferry_follow"},
    "dagferry_checker": {"dagferry_core", "dagferry_follow", "dagferry_runtime"},
}
"""Which packages of the project each one may import."""


def test_the_packages_are_found() -> None:
    assert set(PACKAGES) == set(ARROWS)


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_a_package_imports_only_what_its_arrows_allow(package: str) -> None:
    for path in files(package):
        others = imported(path) & (set(PACKAGES) - {package} - ARROWS[package])
        assert not others, f"{path.relative_to(HOME)} imports {others}"


def test_core_is_pure() -> None:
    forbidden = {"asyncio", "socket", "http", "urllib", "ssl", "argparse", "logging", "subprocess"}
    forbidden |= {"aiohttp", "aiofiles", "pydantic", "prometheus_client"}
    for path in files("dagferry_core"):
        assert not imported(path) & forbidden, path.relative_to(HOME)


ROOMS = {
    "config": set(),
    "store": set(),
    "fleet": set(),
    "auth": {"config"},
    "webhooks": {"auth", "config"},
    "deploys": {"auth", "config", "fleet", "store", "webhooks"},
    "peers": {"config", "deploys", "fleet"},
    "http": {"auth", "config", "deploys", "fleet", "peers", "store", "webhooks"},
    "web": {"auth", "config", "deploys", "fleet", "http", "store", "webhooks"},
}
"""Which rooms of the server each one may import, beside the modules that all of them share."""


def test_the_rooms_of_the_server_are_found() -> None:
    assert {path.parent.name for path in PACKAGES["dagferry_server"].glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_of_the_server_imports_only_what_its_arrows_allow(room: str) -> None:
    for path in sorted((PACKAGES["dagferry_server"] / room).rglob("*.py")):
        inner = {name.split(".")[1] for name in imported_modules(path) if name.startswith("dagferry_server.")}
        others = inner & (set(ROOMS) - {room} - ROOMS[room])
        assert not others, f"{path.relative_to(HOME)} imports {others}"


def test_the_service_and_the_other_rooms_know_no_http() -> None:
    """Handlers make answers of what these return; nothing here knows a request, or takes the whole server."""
    server = PACKAGES["dagferry_server"]
    service = imported_modules(server / "service.py")
    assert not [name for name in service if name.startswith(("dagferry_server.http", "aiohttp", "ssl"))]
    clients = {server / "auth" / "fetch.py", server / "webhooks" / "delivery.py", server / "peers" / "client.py"}
    for room in ("deploys", "fleet", "store", "auth", "config", "webhooks", "peers"):
        for path in sorted((server / room).rglob("*.py")):
            modules = imported_modules(path)
            above = [name for name in modules if name.startswith(("dagferry_server.http", "dagferry_server.service"))]
            assert not above, f"{path.relative_to(HOME)} imports {above}"
            # An issuer's keys come from elsewhere, webhooks and peers are there, so a client of HTTP is needed.
            if path not in clients:
                assert "aiohttp" not in imported(path), path.relative_to(HOME)


def test_the_sidecar_loads_no_asyncio_and_no_framework_at_start() -> None:
    heavy = {"asyncio", "aiohttp", "aiofiles", "pydantic", "prometheus_client", "dataclasses", "inspect", "http.server"}
    # Each of these costs a cold start some milliseconds (docs/adr/0026).
    heavy |= {"argparse", "ssl", "email", "logging", "gettext", "shutil", "subprocess", "dagferry_sidecar.probes"}
    heavy |= {"dagferry_core.source", "dagferry_core.source.observed"}
    code = """
import sys, dagferry_sidecar.__main__ as command, dagferry_runtime.exit as exit
exit.os._exit = lambda code: print(*sys.modules)
sys.argv = ["dagferry-sidecar", "--once", "--root", "/dev/null/dags"]
command.main()
"""
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "dagferry_sidecar.loop" in loaded
    if sys.version_info < (3, 11):
        heavy -= {"subprocess"}  # zstandard imports platform, which needed it then
    assert heavy & set(loaded) == set()
    for path in (*files("dagferry_sidecar"), *files("dagferry_follow"), *files("dagferry_runtime")):
        assert not imported(path) & {"asyncio", "aiohttp", "aiofiles", "pydantic"}, path.relative_to(HOME)


def lines_of_code(path: Path) -> int:
    """How many lines are neither blank nor a comment or docstring: a limit must not cost an explanation."""
    text = path.read_text()
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(text.splitlines(), 1)
    return sum(
        number not in documented and line.strip() != "" and not line.lstrip().startswith("#") for number, line in lines
    )


MANY_LINES, TOO_MANY_LINES = 300, 500
"""More lines of code than this in a file are a warning, and a failure."""


def measured_files() -> list[Path]:
    folders = [*PACKAGES.values(), *(HOME / name for name in ("scripts", "benchmarks", "tests"))]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def test_all_code_is_measured() -> None:
    names = {str(path.relative_to(HOME)) for path in measured_files()}
    assert {"core/dagferry_core/names.py", "scripts/mirror.py", "tests/harness.py", "benchmarks/run.py"} <= names


@pytest.mark.filterwarnings("always:.* lines of code")
def test_files_stay_about_one_thing() -> None:
    found = {str(path.relative_to(HOME)): lines_of_code(path) for path in measured_files()}
    for name, lines in found.items():
        if lines > MANY_LINES:
            warnings.warn(f"{name} has {lines} lines of code: is it about one thing?", stacklevel=1)
    assert {name: lines for name, lines in found.items() if lines > TOO_MANY_LINES} == {}


def test_explanations_and_blank_lines_are_no_lines_of_code(tmp_path) -> None:
    explained = '"""What it\n\n    promises."""\n'
    code = tmp_path / "code.py"
    code.write_text(f"{explained}\n# why\nx = 1\n{explained}\n\ndef f():\n    {explained}\n    return x  # so\n")
    assert lines_of_code(code) == 3
