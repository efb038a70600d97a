"""``stapleproxy staples``: look into a stapling cache, also while it is in use."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.httpd_options import httpd_options
from proxy.errors import ConfigError, Problem, StapleproxyError, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.cache.segment import Segment
    from proxy.settings.model import Settings
    from proxy.settings.source import HttpdOptions
    from proxy.sites import LoadedSite
    from proxy.staples import Known, Row

LEAST_TABLE_COLUMNS = 160
"""A narrower terminal folds the rows itself, and nothing is left out."""


@click.command(short_help="Look into the stapling cache, also while it is in use.")
@click.argument("file", metavar="FILE")
@click.argument(
    "action", metavar="[show|export|refresh]", required=False, type=click.Choice(("show", "export", "refresh"))
)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="The list as one JSON object.")
@click.option(
    "--figures",
    "naming",
    type=click.Choice(("apache", "prometheus")),
    help="Tell how full and how busy the cache is, under these names, instead of the list.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to export to.")
@httpd_options("file")
def staples(
    *,
    file: str,
    action: str | None,
    name: str | None,
    as_json: bool,
    naming: str | None,
    output: Path | None,
    httpd: HttpdOptions | None,
) -> None:
    """List the responses in a stapling cache. Nothing is written to it, and who uses it is not held up.

    FILE is the cache's file, or a configuration (.toml, or .conf for Apache's) whose cache has a path. A response
    tells its certificate's serial number and no host name: only with a configuration has the list the names too,
    the certificates for which nothing is held, and until when each site is stapled though all responders be gone.

    \b
    FILE show NAME      print one response as `openssl ocsp -resp_text` does
    FILE export NAME    write one response's DER, to standard output without -o
    FILE refresh NAME   have the responders asked now; FILE is a configuration with `admin.socket`

    NAME is a host name of the configuration, a serial number, or a key or its beginning.

    \b
    Examples:
      stapleproxy staples /etc/stapleproxy/stapleproxy.toml
      stapleproxy staples --json /var/lib/stapleproxy/staples
      stapleproxy staples stapleproxy.toml show www.example.com
      stapleproxy staples stapleproxy.toml export www.example.com -o www.der
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    _check_usage(action, name, as_json=as_json, naming=naming, output=output)
    if action == "refresh":
        assert name is not None  # or _check_usage would have refused
        _refresh(Path(file), name, httpd)
        return
    source = _source(file, httpd)
    path, known = source.path, source.known
    with _looked_into(path) as segment:
        if naming is not None:
            _tell_figures(segment, naming)
            return
        from proxy.cache.entries import whole_entries
        from proxy.forecast import forecasts, lines
        from proxy.staples import cache_line, room_for, rows

        held = whole_entries(segment)
        argument, eviction = segment.argument, segment.eviction
    found = rows(held, known)
    if action is None:
        now = datetime.now(UTC)
        ends = {entry.key: entry.serve_until_s for entry in held}
        forecast = forecasts(source.sites, source.settings, ends, now) if source.settings else None
        room = room_for(known, held, argument.size_bytes, eviction) if known else None
        if as_json:
            document = {"cache": path, "size_bytes": argument.size_bytes, "eviction": eviction}
            document |= {"room": room and asdict(room), "responses": [row.to_json() for row in found]}
            document |= {"forecast": None if forecast is None else [each.to_json() for each in forecast]}
            click.echo(json.dumps(document, indent=2))
        else:
            _list(found, now)
            click.echo(cache_line(argument, str(room or f"{len(held)} held")))
            for line in lines(forecast or ()):
                click.echo(line)
    else:
        assert name is not None  # or _check_usage would have refused
        row = _the_one(path, found, name)
        if action == "show":
            _show(row)
        else:
            _export(row, output)


def _check_usage(
    action: str | None, name: str | None, *, as_json: bool, naming: str | None, output: Path | None
) -> None:
    if action is not None and name is None:
        raise click.UsageError(f"a NAME is missing: FILE {action} NAME")
    if (as_json and naming) or (action is not None and (as_json or naming)):
        raise click.UsageError("--json and --figures are each without the other, and without show, export and refresh")
    if output is not None and action != "export":
        raise click.UsageError("-o is for export only")


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the cache is, and what a configuration tells; only the path without one."""

    path: str
    known: dict[bytes, Known] = field(default_factory=dict)
    sites: tuple[LoadedSite, ...] = ()
    settings: Settings | None = None


def _source(file: str, httpd: HttpdOptions | None) -> _Source:
    if not file.endswith((".toml", ".conf")):
        return _Source(file)
    from proxy.cache.layout import parse_argument
    from proxy.settings.source import read_source
    from proxy.sites import load_sites, stapled_certificates
    from proxy.staples import Known

    source = read_source(Path(file), httpd)
    settings = source.settings()
    path = parse_argument(settings.stapling.cache).path
    if not path:
        what = "this cache is in memory only, nobody else can look into it: give it a path, as in shmcb:/run/staples"
        raise source.located(ConfigError(Problem("stapling.cache", what)))
    try:
        sites = load_sites(settings)
    except ConfigError as error:
        raise source.located(error) from None
    known: dict[bytes, Known] = {
        each.identity.cache_key: Known(each.names, each.identity.label, f"{each.identity.leaf.serial_number:x}")
        for each in stapled_certificates(sites, settings)
    }
    return _Source(path, known, sites, settings)


@contextmanager
def _looked_into(path: str) -> Iterator[Segment]:
    from proxy.cache.segment import Segment

    segment = Segment.attach_read_only(path)
    try:
        yield segment
    finally:
        segment.close()


def _tell_figures(segment: Segment, naming: str) -> None:
    from proxy.cache.figures import apache_lines, figures, prometheus_lines

    found = figures(segment, datetime.now(UTC).timestamp())
    for line in apache_lines(found) if naming == "apache" else prometheus_lines(found):
        click.echo(line)


def _list(rows: list[Row], now: datetime) -> None:
    from rich.table import Table
    from rich.text import Text

    from proxy.cli.console import make_console

    if not rows:
        click.echo("no responses")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("names", "status", "thisUpdate", "nextUpdate", "serve until", "next refresh", "last stapled"):
        table.add_column(title, overflow="fold", no_wrap=title != "names")
    table.add_column("size", justify="right")
    table.add_column("hits", justify="right")
    for row in rows:
        who = (
            f"{', '.join(row.names)} ({row.certificate})" if row.certificate else f"{row.key[:12]} serial {row.serial}"
        )
        is_over = row.serve_until is not None and row.serve_until <= now
        times = (row.this_update, row.next_update, row.serve_until, row.next_refresh, row.last_stapled)
        numbers = (str(row.size), str(row.hits)) if row.response else ("-", "-")
        status = f"{row.status}, over" if is_over else row.status
        cells = [who, status, *(_clock(moment) for moment in times), *numbers]
        table.add_row(*map(Text, cells))  # a str would be read as markup
    console = make_console()
    console.width = max(console.width, LEAST_TABLE_COLUMNS)
    console.print(table)


def _clock(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%MZ}" if moment else "-"


def _the_one(path: str, rows: list[Row], name: str) -> Row:
    from proxy.staples import find

    found = find(rows, name)
    if not found:
        raise StartError(f"{path}: no response for {name!r}: stapleproxy staples lists what there is")
    if len(found) > 1:
        keys = ", ".join(f"{row.key[:12]} ({row.certificate or row.serial})" for row in found)
        raise StartError(f"{path}: {name!r} has {len(found)} responses: give one of the keys {keys}")
    return found[0]


def _show(row: Row) -> None:
    from proxy.ocsp.text import response_text

    try:
        click.echo(response_text(row.response), nl=False)
    except ValueError as error:
        raise StapleproxyError(f"{row.key}: {error}") from error


def _refresh(file: Path, name: str, httpd: HttpdOptions | None) -> None:
    from proxy.cli.adminclient import ask
    from proxy.settings.source import read_source
    from proxy.staples import LEAST_KEY_DIGITS

    source = read_source(file, httpd)
    path = source.settings().admin.socket
    if path is None:
        raise source.located(ConfigError(Problem("admin.socket", "is not set: there is nobody to tell")))
    wanted = name.lower().rstrip(".")
    staples = ask(path, "/api/staples")["staples"]
    assert isinstance(staples, list)
    found = [
        each
        for each in staples
        if wanted in {*each["names"], each["serial"]}
        or (len(wanted) >= LEAST_KEY_DIGITS and each["key"].startswith(wanted))
    ]
    if not found:
        raise StartError(f"{file}: no certificate for {name!r} is stapled: stapleproxy check lists them")
    for each in found:
        ask(path, f"/api/staples/{each['key']}/refresh", "POST")
        click.echo(f"{each['certificate']}: its responders are being asked")


def _export(row: Row, output: Path | None) -> None:
    if output is None:
        click.echo(row.response, nl=False)
        return
    try:
        output.write_bytes(row.response)
    except OSError as error:
        raise StartError(f"{output}: cannot be written: {error.strerror}") from error
