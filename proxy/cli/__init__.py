"""The command line: one file a command, imported when it is used.

Exit status: 0 done; 1 this machine refuses what is asked for, and of `explain --live` that something would not be
stapled, of `lab` that its proof failed; 2 the configuration or the command line is wrong; 130 Ctrl-C ended the serving.
"""

from __future__ import annotations

from importlib import import_module

import click

from proxy import __version__
from proxy.errors import ConfigError, StapleproxyError

_COMMANDS = {
    "run": "proxy.cli.run",
    "serve": "proxy.cli.serve",
    "check": "proxy.cli.check",
    "convert": "proxy.cli.convert",
    "explain": "proxy.cli.explain",
    "staples": "proxy.cli.staples",
    "lab": "proxy.cli.lab",
    "bench": "proxy.cli.bench",
}
"""Each module has a command of the same name. In the order in which the help lists them."""


class _Commands(click.Group):
    """Imports a command when it is asked for, so that ``--version`` stays quick; tells errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            ctx.exit(2)
        except StapleproxyError as error:
            click.echo(error, err=True)
            ctx.exit(1)


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
    """  # noqa: D301  \b is click's mark for lines to leave as they are
