"""A checker without Airflow: it follows candidates as the protocol says, and finds what the test says.

It is as strict as a server may expect it to be lenient: every answer must have exactly the documented keys.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from running import Answer, Running

Problems = list[dict[str, Any]]
LISTED = {"log_id", "live", "candidates"}
MAX_POLLS = 6
"""How often a list without a candidate may come before the one that is waited for."""
CANDIDATE = {"id", "base", "digest", "created"}


def problem(path: str, message: str = "ModuleNotFoundError: No module named 'acme'", **more: Any) -> dict[str, Any]:
    """A problem as a checker sends it."""
    return {"path": path, "line": 1, "message": message, "kind": "import", "trace": "Traceback …", "new": True, **more}


class ScriptedChecker:
    """A checker of one deployment that asks whatever server it is given."""

    def __init__(self, name: str = "checker-0", deployment: str = "default", **headers: str) -> None:
        self.name = name
        self.path = f"/{deployment}/dags/candidates"
        self.headers = {
            "Dagferry-Instance": name,
            "Dagferry-Airflow": "3.3.2",
            "Dagferry-Python": "3.11.7",
            "Dagferry-Variables": "stub",
            **headers,
        }
        self.tag = '"never"'

    async def ask(self, server: Running, wait: int = 0, **more: str) -> Answer:
        """Ask for candidates once."""
        headers = {**self.headers, "If-None-Match": self.tag, "Prefer": f"wait={wait}"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        return await server.call("GET", self.path, headers={name: value for name, value in headers.items() if value})

    async def poll(self, server: Running, wait: int = 20) -> Any:
        """Return the list when it is another one than the last; the same again if that takes too long."""
        answer = await self.ask(server, wait)
        if answer.status == 304:
            return None
        assert answer.status == 200, answer.body
        self.tag = answer.headers["ETag"]
        found = answer.json
        assert found.keys() == LISTED
        assert found["live"] is None or found["live"].keys() == {"version", "digest"}
        for each in found["candidates"]:
            assert each.keys() == CANDIDATE
            assert re.fullmatch(r"[0-9a-f]{32}", each["id"])
        return found

    async def next(self, server: Running) -> Any:
        """Return the first candidate, as soon as there is another one than before."""
        for _ in range(MAX_POLLS):
            found = await self.poll(server)
            if found and found["candidates"]:
                return found["candidates"][0]
        raise AssertionError("there was no candidate")

    async def content(self, server: Running, candidate: Mapping[str, Any], query: str = "") -> Answer:
        """Get what is to be checked."""
        return await server.call("GET", f"{self.path}/{candidate['id']}{query}", headers=self.headers)

    async def say(
        self, server: Running, candidate: Mapping[str, Any], *problems: dict[str, Any], **more: Any
    ) -> Answer:
        """Send a verdict."""
        verdict = {
            "instance": self.name,
            "base": candidate["base"],
            "digest": candidate["digest"],
            "problems": list(problems),
            "problem_count": len(problems),
            "new_problem_count": sum(each["new"] for each in problems),
            "unjudged": [],
            "files": 3,
            "dags": 3,
            "seconds": 0.4,
            "airflow": "3.3.2",
            "python": "3.11.7",
            **more,
        }
        return await self.send(server, candidate, verdict)

    async def send(self, server: Running, candidate: Mapping[str, Any], verdict: Any) -> Answer:
        """Send anything in place of a verdict."""
        return await server.call("POST", f"{self.path}/{candidate['id']}", json=verdict, headers=self.headers)

    async def check(self, server: Running, *problems: dict[str, Any], **more: Any) -> Any:
        """Check the next candidate, and return it."""
        candidate = await self.next(server)
        answer = await self.say(server, candidate, *problems, **more)
        assert (answer.status, answer.json) == (200, {}), answer.body
        return candidate

    async def run(self, server: Running, find: Callable[[Any], Problems] = lambda _: []) -> None:
        """Check whatever comes, until cancelled."""
        while True:
            candidate = await self.next(server)
            await self.say(server, candidate, *find(candidate))
