"""How far something that takes a while has come: a line on a terminal that goes away, and nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dagferry_client.output import Output, clean

Advance = Callable[[float, str], None]
"""Shows how much of the total is done, and a text."""


@contextmanager
def progress(output: Output, total: float, unit: str = "") -> Iterator[Advance | None]:
    """Give a function that shows progress up to ``total``; ``None`` where nobody would see it.

    ``unit`` is ``"bytes"`` for sizes. Sentences that are said meanwhile come above the line.
    """
    if not output.is_watched:
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - 50 ms, which only a terminal needs
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    columns = [TextColumn("{task.description}"), BarColumn()]
    with Progress(
        *columns,
        *([DownloadColumn(binary_units=True)] if unit == "bytes" else []),
        console=Console(file=sys.stderr, highlight=False),
        transient=True,
        redirect_stdout=False,
    ) as shown:
        task: TaskID = shown.add_task("", total=total)

        def advance(done: float, text: str) -> None:
            shown.update(task, completed=done, description=Text(clean(text)).markup)

        yield advance
