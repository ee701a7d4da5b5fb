"""``dagferry completion``: the script with which a shell completes commands and options."""

from typing import NamedTuple

import click

from dagferry_client.run import Run, sub_command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_DAGFERRY_COMPLETE"
"""The variable with which the script asks the command for completions."""


class Script(NamedTuple):
    """A script, and the shell that reads it."""

    shell: str
    script: str


@sub_command(
    click.argument("shell", type=click.Choice(SHELLS)),
    examples=(
        "dagferry completion bash > ~/.local/share/bash-completion/completions/dagferry",
        "dagferry completion zsh > ~/.zfunc/_dagferry",
        "dagferry completion fish > ~/.config/fish/completions/dagferry.fish",
    ),
    prints=(Script,),
    connects=False,
)
def command(run: Run, shell: str) -> None:
    """Print the script that completes commands in a shell."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    from dagferry_client.app import PROGRAM, cli  # noqa: PLC0415 - it imports this module

    completion = get_completion_class(shell)
    assert completion  # noqa: S101 - click has all of SHELLS
    script = completion(cli, {}, PROGRAM, VARIABLE).source()
    if run.output.json_wanted:
        run.output.json(Script(shell, script))
    else:
        click.echo(script)
