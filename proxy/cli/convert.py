"""``stapleproxy convert``: Apache's configuration as TOML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.httpd_options import httpd_options
from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from proxy.settings.source import HttpdOptions


@click.command(short_help="Print Apache's configuration as TOML.")
@click.argument("file", type=click.Path(path_type=Path))
@httpd_options("file")
def convert(file: Path, httpd: HttpdOptions | None) -> None:
    """Read FILE, which is Apache's (.conf), with all that it includes, and print the same as TOML.

    Names of files are absolute in it. Certificates and keys are not looked at: stapleproxy check does that.

    \b
    Examples:
      stapleproxy convert /etc/apache2/sites-available/www.conf > stapleproxy.toml
      stapleproxy convert --profile prefetch site.conf
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy.cli.console import busy
    from proxy.settings.source import read_source
    from proxy.settings.toml_text import to_toml

    with busy("Reading …"):
        source = read_source(file, httpd)
        source.settings()  # tells what is wrong with it
    for warning in source.warnings:
        click.echo(source.warning(warning), err=True)
    try:
        text = to_toml(source.data, {key: f"from {place}" for key, place in source.places.items()})
    except ValueError:
        raise ConfigError(Problem(str(file), "has text that is no UTF-8: TOML cannot hold it")) from None
    click.echo(text, nl=False)
