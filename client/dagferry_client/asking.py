"""Questions to the person at the terminal, before something happens that others notice."""

import sys

import click

from dagferry_client.output import Output, clean

_YES = {"y", "yes"}


def can_ask(output: Output) -> bool:
    """Return whether somebody can be asked: at a terminal, unless the output is for a program."""
    return not output.json_wanted and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(output: Output, question: str) -> None:
    """Ask ``question``, and end the command (exit code 130) unless the answer is yes."""
    sys.stdout.flush()
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in _YES:
        output.warn("Nothing was changed.")
        raise click.Abort
