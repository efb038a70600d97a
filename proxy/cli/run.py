"""``stapleproxy run``: serve what a file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.httpd_options import httpd_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.settings.source import HttpdOptions


@click.command(short_help="Serve as a configuration file says.")
@click.argument("file", type=click.Path(path_type=Path))
@httpd_options("file")
@click.pass_context
def run(ctx: click.Context, file: Path, httpd: HttpdOptions | None) -> None:
    """Serve as the configuration FILE says, until SIGTERM or Ctrl-C; SIGHUP has it read again.

    The smallest FILE names a certificate, its key and a backend:

    \b
      [[site]]
      upstream = "http://127.0.0.1:8000"
      [[site.certificate]]
      chain = "chain.pem"
      key = "key.pem"

    A FILE whose name ends with .conf is read as Apache's: its stapling, and what else it has that this program
    can do; anything else in it that clients would notice is a mistake. docs/httpd.md says what there is.

    \b
    Examples:
      stapleproxy run /etc/stapleproxy/stapleproxy.toml
      stapleproxy run --profile prefetch /etc/apache2/sites-available/www.conf

    Try a FILE without serving it: stapleproxy check FILE.
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy import master
    from proxy.configuration import read_file
    from proxy.forking import uncollected

    def read(between: Callable[[], None] = lambda: None) -> master.Reading:
        with uncollected():
            found = read_file(file, httpd, between)
        warnings = tuple(map(found.source.warning, found.source.warnings))
        return master.Reading(found.settings, found.sites, warnings, found.source.located)

    first = read()
    for warning in first.warnings:
        click.echo(warning, err=True)
    ctx.exit(master.run(first, read, str(file)))
