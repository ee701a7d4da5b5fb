"""What every sub-command shares: its options, and the ``Run`` that it gets.

::

    @sub_command(examples=("dagferry whoami", "dagferry whoami --json"))
    def command(run: Run) -> int | None:
        \"\"\"Show who you are for the server, and what you may do.\"\"\"
        identity = run.api.whoami()
        if run.output.json_wanted:
            run.output.json(identity)
        else:
            run.output.line(identity.actor)

``run.api`` asks the server that the options name, ``run.deployment`` is the deployment that they name. A sub-command
returns nothing (exit code 0) or an exit code, and raises ``DagferryError``.
"""

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagferry_client.output import Output
from dagferry_core.errors import SetupError

if TYPE_CHECKING:
    # --help does without them, and is fast without them.
    from dagferry_client.api import Api
    from dagferry_client.settings import Target

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Run:
    """One run of a sub-command: where it goes, and how it prints. Nothing is read or connected before it is needed."""

    def __init__(self, flags: Mapping[str, Any], output: Output) -> None:
        self._flags = flags
        self.output = output

    @functools.cached_property
    def target(self) -> "Target":
        """Where the command goes; raises ``SetupError`` if that is not known, or the token would be exposed."""
        from dagferry_client.credentials import exposed_file  # noqa: PLC0415
        from dagferry_client.settings import Flags, check_exposure, resolve  # noqa: PLC0415

        target = resolve(Flags(**self._flags), os.environ, Path.cwd())
        check_exposure(target)
        exposed = exposed_file(target.token.file) if target.token.file else ""
        for warning in (*target.warnings, *([exposed] if exposed else [])):
            self.output.warn(warning)
        return target

    @functools.cached_property
    def api(self) -> "Api":
        """The endpoints of the target's server."""
        from dagferry_client.api import Api  # noqa: PLC0415
        from dagferry_client.credentials import Credentials  # noqa: PLC0415
        from dagferry_client.http import Http  # noqa: PLC0415 - 130 ms, which --help does without

        target = self.target
        return Api(Http(target, Credentials(target.token, target.server, os.environ), self.output.say))

    @functools.cached_property
    def deployment(self) -> str:
        """The name of the deployment. If none was given it is asked for on a terminal; else raises ``SetupError``."""
        target = self.target
        if target.deployment:
            return target.deployment
        if sys.stdin.isatty() and sys.stderr.isatty():
            from dagferry_client.pick import pick  # noqa: PLC0415 - hardly any run needs it

            if picked := pick(self.api.deployments()):
                return picked
        if target.known:
            raise SetupError(
                f"No deployment was given, and {target.file} does not decide: it has the targets "
                f"{', '.join(target.known)}.",
                "Give one with --target, or a deployment with --deployment.",
            )
        raise SetupError(
            "No deployment was given.",
            "Give it with --deployment or DAGFERRY_DEPLOYMENT. Run: dagferry deployments, for a list of them.",
        )


class OptionalValue(click.Option):
    """An option with an optional value: ``--wait`` means ``--wait=bare``. The next argument is never its value."""

    def __init__(self, *names: Any, bare: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.bare = bare


class Command(click.Command):
    """A sub-command, with its ``examples`` at the end of its help: command lines that work.

    ``prints`` are the types of what it prints with ``--json``, of which docs/reference/json/ has the schema. ``exits``
    says what its exit codes mean, where the list for all commands does not.
    """

    examples: Sequence[str] = ()
    prints: Sequence[type] = ()
    exits: Mapping[int, str] = {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give the options that were written without a value the one that this means."""
        bare = {name: one.bare for one in self.params if isinstance(one, OptionalValue) for name in one.opts}
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [f"{a}={bare[a]}" if a in bare else a for a in args[:end]] + args[end:])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes and the examples."""
        if self.exits:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), meaning) for code, meaning in self.exits.items()])
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")  # never wrapped: it is to be copied


PRINTING = (
    click.option("--json", "json_wanted", is_flag=True, help="Print JSON on stdout, and errors as JSON on stderr."),
    click.option("-q", "--quiet", is_flag=True, help="Print data, warnings and errors only."),
)
CONNECTION = (
    click.option("--target", metavar="NAME", help="A target of dagferry.toml."),
    click.option("-s", "--server", metavar="URL", help="The server. [DAGFERRY_SERVER]"),
    click.option("-d", "--deployment", metavar="NAME", help="The deployment. [DAGFERRY_DEPLOYMENT]"),
    click.option("--token", metavar="TOKEN", help="The token; other users may see it. [DAGFERRY_TOKEN]"),
    click.option("--token-file", metavar="FILE", help="A file with the token."),
    click.option("--ca-file", metavar="FILE", help="The only CAs to trust, in PEM form."),
    click.option("--allow-plain-http", is_flag=True, help="Allow a token over http. [DAGFERRY_ALLOW_PLAIN_HTTP]"),
)


_FLAGS = ("server", "deployment", "target", "token", "token_file", "ca_file", "allow_plain_http")
"""The values of ``CONNECTION``, which are the fields of ``settings.Flags``."""
_NO_EXITS: Mapping[int, str] = {}


def sub_command(
    *options: Callable[[Any], Any],
    examples: Sequence[str],
    prints: Sequence[type] = (),
    exits: Mapping[int, str] = _NO_EXITS,
    connects: bool = True,
) -> Callable[[Callable[..., int | None]], Command]:
    """Return a decorator that makes a sub-command of a function.

    ``options`` are those of ``click`` that only this command has, in the order of its help; the function gets their
    values by name, after a ``Run``. ``examples``, ``prints`` and ``exits`` are those of ``Command``. Without
    ``connects`` it has no options for a server, and must not ask one.
    """

    def decorate(function: Callable[..., int | None]) -> Command:
        @functools.wraps(function)
        def call(json_wanted: bool, quiet: bool, **values: Any) -> int | None:  # noqa: FBT001 - click passes by name
            flags = {name: values.pop(name) for name in _FLAGS if name in values}
            return function(Run(flags, Output(json_wanted=json_wanted, quiet=quiet)), **values)

        decorated: Callable[..., int | None] = call
        for option in reversed((*options, *(CONNECTION if connects else ()), *PRINTING)):
            decorated = option(decorated)
        made = click.command(cls=Command, context_settings=HELP_OPTIONS)(decorated)
        made.examples, made.prints, made.exits = tuple(examples), tuple(prints), exits
        return made

    return decorate
