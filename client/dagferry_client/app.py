"""``dagferry``: the group of sub-commands. A sub-command is imported when it runs, so that ``--help`` stays fast."""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from dagferry_client.exits import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED
from dagferry_client.output import Output
from dagferry_client.run import HELP_OPTIONS
from dagferry_core import __version__
from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import EXIT_USAGE, DagferryError, SetupError

PROGRAM = "dagferry"
COMMANDS = {
    "deploy": "Deploy a dags folder.",
    "check": "Check what deploy would refuse, without a server.",
    "status": "Show whether every pod has the newest deploy.",
    "deployments": "List, create and delete the deployments of the server.",
    "history": "Show who deployed what, when and why.",
    "show": "Show one deploy: what it changed, and its warnings.",
    "diff": "Show which files differ between two versions.",
    "download": "Download a version.",
    "rollback": "Deploy an older version again.",
    "promote": "Deploy what another deployment has.",
    "verify": "Check the deploy log and the content of versions.",
    "doctor": "Find out what is wrong with the connection or the token.",
    "whoami": "Show who you are for the server, and what you may do.",
    "token": "Create, list and revoke the tokens of a tokens file.",
    "completion": "Print the script that completes commands in a shell.",
}
"""Every sub-command in the order of ``--help``: the module of its name in ``commands/`` has it as ``command``, whose
docstring begins with the same sentence."""


class _OutputClosed(Exception):
    """Nobody reads stdout any more. click would end the process with exit code 1, which is that of a bug."""


class _Group(click.Group):
    """Imports a sub-command when it is needed; ``--help`` needs the list alone."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _OutputClosed from None
        return result

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            # A mistake, so stdout stays empty. click does one thing or another, by its version.
            sys.stderr.write(ctx.get_help() + "\n")
            ctx.exit(EXIT_USAGE)
        return super().parse_args(ctx, args)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = importlib.import_module(f"dagferry_client.commands.{name.replace('-', '_')}").command
        assert isinstance(found, click.Command)  # noqa: S101 - a module without it is a bug
        return found

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only a mistake needs it

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            suggestion = f" Did you mean {near[0]}?" if near else f" The commands are {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {args[0]!r}.{suggestion}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    PROGRAM,
    cls=_Group,
    context_settings=HELP_OPTIONS,
    epilog="Each command has its own --help, with examples. Where the server is: --server, DAGFERRY_SERVER, or "
    f"dagferry.toml. Everything else: {DOCUMENTATION}/reference/cli.md",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """Deploy Airflow DAGs; see, compare and undo deploys."""


def main(arguments: Sequence[str]) -> int:
    """Run ``dagferry ARGUMENTS``; return the exit code. An error is printed on stderr."""
    try:
        # Without standalone_mode, click returns the code of --help instead of ending the process.
        return int(cli.main(list(arguments), prog_name=PROGRAM, standalone_mode=False) or 0)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        said = SetupError(" ".join(error.format_message().split()), f"See {path} --help.")
        return _fail(said, arguments)
    except click.ClickException as error:
        return _fail(SetupError(error.format_message(), ""), arguments)
    except DagferryError as error:
        return _fail(error, arguments)
    except (click.Abort, KeyboardInterrupt):
        # Objects that were interrupted while they were made may complain when they are freed.
        sys.unraisablehook = lambda _: None
        return EXIT_INTERRUPTED
    except _OutputClosed:
        # As with head. Python would complain when it flushes what is left at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED


def _fail(error: DagferryError, arguments: Sequence[str]) -> int:
    """Print ``error`` as the last line of stderr, or its last lines without ``--json``; return the exit code."""
    Output(json_wanted="--json" in arguments).error(error)
    return error.exit_code
