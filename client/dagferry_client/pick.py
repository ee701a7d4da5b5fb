"""Asks a person at a terminal which deployment is meant."""

from collections.abc import Sequence

import click

from dagferry_client.api import Listed
from dagferry_client.output import clean


def pick(listed: Sequence[Listed]) -> str:
    """Return the deployment of ``listed`` that the person picks, by number or by name; empty if there is none.

    Everything is on stderr, so that stdout has nothing but data. Ctrl-C and Ctrl-D end the command.
    """
    if not listed:
        return ""
    names = [one.name for one in listed]
    width = max(map(len, names))
    click.echo("Which deployment?", err=True)
    for number, one in enumerate(listed, 1):
        click.echo(f"{number:>3}  {one.name:<{width}}  {clean(one.state)}", err=True)

    def chosen(answer: str) -> str:
        if answer in names:  # before the numbers: a name may be a number
            return answer
        if answer.isascii() and answer.isdecimal() and len(answer) < len("1000000") and 0 < int(answer) <= len(names):
            return names[int(answer) - 1]
        raise click.BadParameter(f"{answer!r} is neither a number of the list nor a name in it.")

    try:
        name: str = click.prompt("Number or name", value_proc=chosen, err=True)
    except click.Abort:
        click.echo(err=True)  # what comes next has a line of its own
        raise
    click.echo(f"Next time: --deployment {name}", err=True)
    return name
