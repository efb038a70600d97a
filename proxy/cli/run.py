"""``stapleproxy run``: serve what a file says."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.errors import ConfigError


@click.command(short_help="Serve as a configuration file says.")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def run(ctx: click.Context, file: Path) -> None:
    """Serve as the configuration FILE says, until SIGTERM or Ctrl-C.

    The smallest FILE names a certificate, its key and a backend:

    \b
      [[site]]
      upstream = "http://127.0.0.1:8000"
      [[site.certificate]]
      chain = "chain.pem"
      key = "key.pem"

    \b
    Example:
      stapleproxy run /etc/stapleproxy/stapleproxy.toml

    Try a FILE without serving it: stapleproxy check FILE.
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy import master
    from proxy.configuration import read_file
    from proxy.settings.toml import in_file

    settings, sites = read_file(file)
    try:
        ctx.exit(master.run(settings, sites))
    except ConfigError as error:
        raise in_file(file, error) from None
