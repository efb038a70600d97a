"""The command line: one file a command, imported when it is used. `exit_codes` has the exit status of each."""

from __future__ import annotations

from importlib import import_module

import click

from proxy import __version__
from proxy.cli.exit_codes import Exit, epilog
from proxy.errors import ConfigError, StapleproxyError

_SECTIONS = {
    "Serve": ("run", "serve"),
    "Before you serve": ("check", "convert", "explain"),
    "While it serves": ("status", "staples", "reload", "stop"),
    "Try and measure": ("lab", "bench"),
    "For your shell": ("completion",),
}
"""As the help lists them. Each command is in the module of its name."""
_COMMANDS = tuple(name for section in _SECTIONS.values() for name in section)


class _Commands(click.Group):
    """Imports a command when it is asked for, so that ``--version`` stays quick; tells errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"proxy.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            return None
        command.epilog = epilog(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for title, names in _SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name.ljust(width), command.get_short_help_str(100)) for name, command in commands if command]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            ctx.exit(Exit.WRONG)
        except StapleproxyError as error:
            click.echo(error, err=True)
            ctx.exit(Exit.FAILED)
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stapleproxy")
def main() -> None:
    """Accept TLS connections, staple OCSP responses, and pass the requests on to a backend.

    \b
    Begin with one of these:
      stapleproxy lab                       everything at once on this machine, to look at
      stapleproxy serve --cert chain.pem --key key.pem --upstream http://127.0.0.1:8000
      stapleproxy run stapleproxy.toml      the same from a file, with all settings
      stapleproxy run site.conf             what Apache has in site.conf, and how its stapling looks to clients
      stapleproxy status stapleproxy.toml   how it stands; the file needs [admin] with socket = "admin.sock"

    stapleproxy COMMAND --help tells all of a command, with examples and its exit status.
    """  # noqa: D301  \b is click's mark for lines to leave as they are
