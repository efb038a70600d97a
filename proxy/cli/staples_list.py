"""All responses, of a cache's file or of a running stapleproxy."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from proxy.cache.entries import whole_entries
from proxy.cache.figures import apache_lines, figures, prometheus_lines
from proxy.cli.staples_place import Running, find_place
from proxy.cli.staples_view import print_rows
from proxy.forecast import forecasts, lines
from proxy.staples import cache_line, room_for, rows

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.cli.staples_place import CacheFile
    from proxy.settings.source import HttpdOptions


def list_responses(
    file: Path | None, socket_path: Path | None, httpd: HttpdOptions | None, *, as_json: bool, naming: str | None
) -> None:
    """Write the list, or the figures; raises what a mistake of the command line is, ConfigError or StartError."""
    if as_json and naming:
        raise click.UsageError("--json and --figures are each without the other")
    place = find_place(file, socket_path, httpd)
    if not isinstance(place, Running):
        _list_file(place, as_json=as_json, naming=naming)
        return
    if naming:
        raise click.UsageError("--figures is for a cache's file: /metrics has those of a running stapleproxy")
    found = place.rows()
    if as_json:
        click.echo(json.dumps({"socket": str(place), "responses": [row.to_json() for row in found]}, indent=2))
    else:
        print_rows(found, datetime.now(UTC))


def _list_file(place: CacheFile, *, as_json: bool, naming: str | None) -> None:
    at = datetime.now(UTC)
    with place.opened() as segment:
        if naming is not None:
            found = figures(segment, at.timestamp())
            for line in apache_lines(found) if naming == "apache" else prometheus_lines(found):
                click.echo(line)
            return
        held = whole_entries(segment)
        argument, eviction = segment.argument, segment.eviction
    told = rows(held, place.known)
    ends = {entry.key: entry.serve_until_s for entry in held}
    forecast = forecasts(place.sites, place.settings, ends, at) if place.settings else None
    room = room_for(place.known, held, argument.size_bytes, eviction) if place.known else None
    if as_json:
        document = {"cache": place.path, "size_bytes": argument.size_bytes, "eviction": eviction}
        document |= {"room": room and asdict(room), "responses": [row.to_json() for row in told]}
        document |= {"forecast": None if forecast is None else [each.to_json() for each in forecast]}
        click.echo(json.dumps(document, indent=2))
    else:
        print_rows(told, at)
        click.echo(cache_line(argument, str(room or f"{len(held)} held")))
        for line in lines(forecast or ()):
            click.echo(line)
