"""A real browser for tests: Debian's Chromium, driven by playwright. Skipped where one of them is missing.

A ``Visit`` fails its test if a page runs a script that is not ours, loads something of another host, opens a dialog, or
has an error of its own.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox",) if os.geteuid() == 0 else ()
"""Chromium's sandbox does not work for root. The pages are our own, on loopback."""
PATIENCE_MS = 30_000
AXE = Path(__file__).parent / "web" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
NARROW, USUAL = {"width": 320, "height": 640}, {"width": 1100, "height": 800}


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser; skip the test if there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


class Visit:
    """One person's browser: tabs that share cookies. ``problems`` has what no page may do."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        self.problems: list[str] = []
        self.context = browser.new_context(**{"viewport": USUAL, **options})
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("page", self._watch)
        self.context.on("request", self._requested)

    def _watch(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("console", self._said)

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _said(self, message: Any) -> None:
        # A response with an error status is one too; the tests look at these pages themselves.
        if message.type == "error" and "the server responded with a status of" not in message.text:
            self.problems.append(f"console: {message.text}")

    def _requested(self, request: Any) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.problems.append(f"request: {request.url}")

    def tab(self, path: str = "/-/ui/") -> Any:
        """Open a page in a new tab."""
        page = self.context.new_page()
        page.goto(self.url + path)
        return page

    def sign_in(self, page: Any, token: str) -> None:
        """Fill in the form to sign in."""
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state()


def axe_violations(page: Any) -> list[str]:
    """Return what axe-core finds on a page that is serious; skip the test if it is missing."""
    if not AXE.exists():
        pytest.skip("no axe-core: npm ci --prefix tests/web/axe --ignore-scripts")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document)")
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in {"serious", "critical", "moderate"}
        for node in violation["nodes"][:3]
    ]
