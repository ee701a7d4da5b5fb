"""A server with a week of history and a small fleet, on a clock of its own: what the pictures of the web page show."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from credentials import TokensFile
from dagferry_server.auth.setup import make_authenticator
from dagferry_server.http.app_state import AppState
from dagferry_server.http.listeners import Listeners
from dagferry_server.service import Service
from dagferry_server.settings import read_settings
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.store.local import LocalStore
from dagferry_server.web.opening import open_pages
from harness import PATIENCE_SECONDS, pack
from reporting import error, parsed, report

START = 1_795_080_000.0
"""On 19 Nov 2026."""
HOUR = 3600.0
SHOP = '''"""Orders of the shop, loaded every hour."""

from datetime import datetime

from airflow.sdk import DAG, task

RATE = {rate}


with DAG("orders_hourly", start_date=datetime(2026, 1, 1), schedule="@hourly"):

    @task
    def load() -> float:
        """Load the orders since the last run."""
        return total("orders.sql") * RATE{more}
'''
SQL = "select sum(amount)\nfrom orders\nwhere day = current_date{more}\n"


class Scene:
    """The server, in a thread. ``url`` is where it is, ``viewer`` the token of who looks at it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = START
        self._tokens = TokensFile(folder / "tokens.toml")
        self._ci = self._tokens.add("ci", ["deploy", "override"])
        self._pods = self._tokens.add("pods", ["sync"])
        self.viewer = self._tokens.add("ann", ["deploy", "admin"])
        self._opened = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> "Scene":  # noqa: PYI034 - Python 3.10 has no Self
        self._thread.start()
        assert self._opened.wait(PATIENCE_SECONDS)
        self._deploys()
        self._fleet()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join()

    async def _serve(self) -> None:
        flags = ["--listen", "127.0.0.1:0", "--data-dir", str(self._folder / "data"), "--deployments", "prod,staging"]
        flags += ["--tokens-file", str(self._folder / "tokens.toml"), "--airflow-python", "3.12"]
        settings = read_settings(flags, {}, lambda: (None, None))
        folder = DataFolder(settings.data_dir)
        state = await AppState.open(settings)
        service = await Service.open(
            settings, folder, LocalStore(folder.root), make_authenticator(settings), clock=lambda: self._now
        )
        listeners = Listeners(service, state, await open_pages(settings))
        [(host, port)] = await listeners.open()
        self._host, self.url = (host, port), f"http://{host}:{port}"
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        self._opened.set()
        await stopped.wait()
        await listeners.close()
        await service.close()
        state.close()
        folder.close()

    def _ask(self, method: str, path: str, token: str, body: bytes | None = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection(*self._host, timeout=PATIENCE_SECONDS)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Authorization": f"Bearer {token}", **sent})
        answer = connection.getresponse()
        found = json.loads(answer.read() or b"null")
        connection.close()
        return found

    def _deploy(self, files: dict[str, str], description: str, commit: str, deployment: str = "prod") -> Any:
        url = f"https://git.example.com/acme/dags/commit/{commit}"
        git = json.dumps({"commit": commit, "branch": "main", "author": "Ann Lee", "url": url})
        query = urlencode({"description": description, "git": git})
        packed = pack({path: text.encode() for path, text in files.items()})
        return self._ask("POST", f"/{deployment}/dags/upload?{query}", self._ci, packed)

    def _deploys(self) -> None:
        files = {"orders_hourly.py": SHOP.format(rate="1.0", more=""), "sql/orders.sql": SQL.format(more="")}
        self._deploy(files, "Load orders every hour", "8f14e45fceea167a")
        self._deploy(files, "Load orders every hour", "8f14e45fceea167a", "staging")
        self._now += 70 * HOUR
        files = {**files, "sql/orders.sql": SQL.format(more="\n  and state <> 'cancelled'")}
        good = self._deploy(files, "Skip cancelled orders", "c9f0f895fb98ab91")
        self._now += 20 * HOUR
        self._deploy({**files, "orders_hourly.py": SHOP.format(rate="1.91", more="")}, "New rate", "45c48cce2e2d7fbd")
        self._now += HOUR / 2
        body = json.dumps({"version": good["version"], "description": "The rate has a typo"}).encode()
        self._ask("POST", "/prod/dags/rollback", self.viewer, body, Content_Type="application/json")
        self._now += 3 * HOUR
        better = SHOP.format(rate="1.19", more="  # VAT")
        better = better.replace("import DAG, task\n", "import DAG, task\nfrom shop import total\n")
        files = {**files, "orders_hourly.py": better, "shop.py": "def total(query: str) -> float:\n    return 0.0\n"}
        self._deploy(files, "VAT is 19 %, and the query has its own module", "d3d9446802a44259")
        self._now += 240
        self._deploy(
            {**files, "report.py": "from airflow.sdk import DAG\n\nwith DAG('report':\n"}, "Report", "6512bd43d9caa6e0"
        )
        self._now += 60

    def _fleet(self) -> None:
        deploys = self._ask("GET", "/prod/dags/deploys", self.viewer)["deploys"]
        log_id = self._ask("GET", "/prod/dags/current", self._pods)["log_id"]
        new, old = deploys[0]["version"], deploys[1]["version"]
        error = "volume_full: No space left on device: /dags needs 3 MiB more"
        pods = [(f"worker-{number}", "worker", new, "") for number in (0, 2, 3)]
        pods += [("scheduler-0", "scheduler", new, ""), ("dag-processor-0", "dag-processor", new, "")]
        pods += [("worker-1", "worker", old, error)]
        for name, component, live, error_ in pods:
            for _ in range(2):  # a version counts after it was offered
                self._ask(
                    "GET", "/prod/dags/current", self._pods, None, Dagferry_Instance=name, Dagferry_Component=component,
                    Dagferry_Live=live, Dagferry_Log=log_id, Dagferry_Volume=name * 4, Dagferry_Error=error_,
                )  # fmt: skip
        self._report(deploys[0], log_id)
        staging = self._ask("GET", "/staging/dags/current", self._pods)
        for _ in range(2):
            self._ask(
                "GET", "/staging/dags/current", self._pods, None, Dagferry_Instance="airflow-0",
                Dagferry_Component="standalone", Dagferry_Live=staging["version"], Dagferry_Log=staging["log_id"],
            )  # fmt: skip

    def _report(self, deploy: Any, log_id: str) -> None:
        message = "ModuleNotFoundError: No module named 'holidays'"
        trace = f'Traceback (most recent call last):\n  File "orders_hourly.py", line 5, in <module>\n{message}\n'
        said = parsed(deploy, dags=1, errors=[error("orders_hourly.py", message=message, trace=trace)])
        body = json.dumps(report(log_id, said, component="bundle")).encode()
        self._ask("POST", "/prod/dags/reports", self._pods, body, Content_Type="application/json")
