"""How far something that takes a while has come: a line on a terminal that goes away; elsewhere some sentences."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dagferry_client.output import Output, clean

SAY_SECONDS = 2.0
"""How often a sentence is said that begins like the last one, without a terminal: a fleet may have 1,000 pods."""


@contextmanager
def bar(output: Output, text: str, total: int) -> Iterator[Callable[[int], object]]:
    """Give a function that shows how many of ``total`` bytes are done; without a terminal nothing shows it."""
    if not output.is_watched:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn  # noqa: PLC0415 - 50 ms, which only a terminal needs

    with _shown(clean(text), total, BarColumn(), DownloadColumn(binary_units=True)) as update:
        yield lambda done: update(completed=done)


@contextmanager
def told(output: Output) -> Iterator[Callable[[str], None]]:
    """Give a function that says how far something is: on a terminal in one line, elsewhere not too often."""
    if output.is_watched:
        from rich.progress import SpinnerColumn  # noqa: PLC0415 - 50 ms, which only a terminal needs

        with _shown("", None, SpinnerColumn()) as update:
            yield lambda text: update(description=clean(text))
        return
    last = [("", -math.inf)]

    def say(text: str) -> None:
        begin, now = text.partition(":")[0], time.monotonic()
        if begin != last[0][0] or now >= last[0][1] + SAY_SECONDS:
            output.say(text)
            last[0] = (begin, now)

    yield say


@contextmanager
def _shown(text: str, total: int | None, *columns: Any) -> Iterator[Callable[..., None]]:
    """Show a line below everything that is said meanwhile; give a function that changes it."""
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.progress import Progress, TextColumn  # noqa: PLC0415

    console = Console(file=sys.stderr, highlight=False)
    described = TextColumn("{task.description}", markup=False)
    with Progress(described, *columns, console=console, transient=True, redirect_stdout=False) as shown:
        task = shown.add_task(text, total=total)

        def update(**changed: Any) -> None:
            shown.update(task, **changed)

        yield update
