"""The status, laid out for terminals from 72 columns on, and for pipes. PURE: facts in, lines out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.text import Text

from proxy.keeper.status import State
from proxy.log_lines import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console, ConsoleOptions, RenderResult

    from proxy.keeper.status import Cache, Certificate, Fleet, Forecast, Generation, Responder, Site, Status, Traffic

_BAD, _DOUBTFUL, _GOOD, _QUIET, _TITLE = "bold red", "yellow", "green", "dim", "bold"
_STYLES = {
    State.REVOKED: _BAD,
    State.EXPIRED: _BAD,
    State.MISSING: _BAD,
    State.EXPIRING: _DOUBTFUL,
    State.FAILING: _DOUBTFUL,
    State.WAITING: _DOUBTFUL,
    State.STAPLED: _GOOD,
    State.ON_DEMAND: _QUIET,
    State.NOT_STAPLED: _QUIET,
}
_UNWELL = frozenset({State.REVOKED, State.EXPIRED, State.MISSING, State.EXPIRING, State.FAILING})
_LEAST_COLUMNS = 72
_GAP = "  "
_SITE_WIDTHS = (11, 7, 7, 7, 12)
"""Of state, age, left, next and forecast; the names get the rest."""
_SHOWN_RESPONDERS = 10
"""Those that fail most come first."""


class View:
    """What rich prints. What strangers have said may not steer the terminal: rich lets escape sequences pass."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        columns = max(options.max_width, _LEAST_COLUMNS)
        for line in lines(self._status, columns):
            line.plain = printable(line.plain)  # as long as before: its colours stay where they are
            line.overflow = "fold"
            yield line


def lines(status: Status, columns: int) -> Iterator[Text]:
    """Lay out all of it; only remarks are longer than `columns`, and are folded."""
    yield from _head(status)
    yield Text()
    yield from _sites(status, columns)
    if status.responders:
        yield Text()
        yield from _responders(status, columns)
    yield Text()
    yield _cache(status.cache)
    if status.fleet:
        yield from _fleet(status.fleet, status.now)
    if status.traffic:
        yield from _traffic(status.traffic)


def is_well(status: Status) -> bool:
    """Nobody needs to look."""
    last = status.generation.last_reload if status.generation else None
    if status.fleet and any(each.reason for each in status.fleet.servers):
        return False
    return status.ready and (last is None or last.ok) and not any(status.certificates.get(state) for state in _UNWELL)


def span(length: timedelta) -> str:
    """Write a length of time in the greatest unit of which there are two; with `-` what is over."""
    seconds = abs(length.total_seconds())
    sign = "-" if length.total_seconds() < 0 else ""
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{sign}{seconds // unit_s:.0f} {unit}"
    return f"{sign}{seconds:.0f} s"


def _head(status: Status) -> Iterator[Text]:
    line = Text.assemble(f"stapleproxy {status.version}, ", ("ready", _GOOD) if status.ready else ("not ready", _BAD))
    if status.profile != "prefetch":
        line.append(f", stapling as {status.profile}")
    generation = status.generation
    if generation:
        up = status.now - datetime.fromisoformat(generation.started)
        line.append(f", up for {span(up)}, generation {generation.generation}")
    yield line
    yield from (Text(f"{_GAP}{reason}", _BAD) for reason in status.reasons)
    if generation:
        yield from _last_reload(generation)
    line = Text()
    total = 0
    for state, count in status.certificates.items():
        if count:
            line.append(", " if total else ": ").append(f"{count} {state}", _STYLES[state])
            total += count
    yield Text(f"{total} certificate{'s' * (total != 1)}").append_text(line)
    yield from _forecast(status.forecast)


def _forecast(forecast: Forecast) -> Iterator[Text]:
    if forecast.until:
        ends = f"{forecast.until:%Y-%m-%d %H:%MZ} ({forecast.site} first)"
        yield Text(f"without responders all is stapled until {ends}")
    elif forecast.site:
        yield Text(f"not all is stapled: {forecast.site} is not", _DOUBTFUL)


def _last_reload(generation: Generation) -> Iterator[Text]:
    last = generation.last_reload
    if last is None:
        return
    if last.ok:
        yield Text(f"last reload {last.at}: done")
        return
    yield Text(f"last reload {last.at}: refused, nothing was changed", _BAD)
    yield from (Text(f"{_GAP}{mistake}", _BAD) for mistake in last.mistakes)


def _sites(status: Status, columns: int) -> Iterator[Text]:
    room = columns - sum(_SITE_WIDTHS) - len(_GAP) * len(_SITE_WIDTHS)
    width = max(
        [len("site"), *(min(room, len(_named(site, each))) for site in status.sites for each in site.certificates)]
    )
    yield _row([("site", width), *zip(("state", "age", "left", "next", "forecast"), _SITE_WIDTHS, strict=True)], _TITLE)
    for site in status.sites:
        for certificate in site.certificates:
            cells = [(_cut(_named(site, certificate), width), width)]
            cells += zip(_cells(site, certificate, status.now), _SITE_WIDTHS, strict=True)
            line = _row(cells)
            begin = width + len(_GAP)
            line.stylize(_STYLES[certificate.state], begin, begin + len(certificate.state))
            yield line
            yield from (Text(f"{_GAP}{remark}", _STYLES[certificate.state]) for remark in _remarks(certificate))
    if (more := status.sites_matching - len(status.sites)) > 0:
        yield Text(f"and {more} more: --limit shows more, --find those that have a text in them", _QUIET)


def _named(site: Site, certificate: Certificate) -> str:
    names = ", ".join(site.names) or "any name"
    if len(site.certificates) == 1:
        return names
    kind = certificate.certificate.rpartition("(")[2].partition(" ")[0].rstrip(")")
    return f"{kind}: {names}"


def _cells(site: Site, certificate: Certificate, now: datetime) -> tuple[str, ...]:
    begun, until, attempt = certificate.this_update, certificate.stapled_until, certificate.next_attempt
    return (
        certificate.state,
        span(now - begun) if begun else "-",
        span(until - now) if until else "-",
        "now" if certificate.under_way else span(max(attempt, now) - now) if attempt else "-",
        f"{site.stapled_until:%m-%d %H:%MZ}" if site.stapled_until else "-",
    )


def _remarks(certificate: Certificate) -> Iterator[str]:
    if certificate.why:
        yield f"{certificate.certificate}: {certificate.why}"
    elif certificate.troubles:
        rounds = f", {certificate.failures} times in a row" if certificate.failures > 1 else ""
        yield f"{certificate.certificate}: no responder gave a new response{rounds}"
    for trouble in certificate.troubles:
        yield f"{_GAP}{trouble.url}: {trouble.reason}: {trouble.detail}"


_RESPONDER_WIDTHS = (7, 7, 7, 8, 8)


def _responders(status: Status, columns: int) -> Iterator[Text]:
    room = columns - sum(_RESPONDER_WIDTHS) - len(_GAP) * len(_RESPONDER_WIDTHS) - len(_GAP) - len("disconnected")
    shown = status.responders[:_SHOWN_RESPONDERS]
    width = max(len("responder"), *(min(room, len(each.responder)) for each in shown))
    titles = zip(("asked", "ago", "errors", "median", "90 %"), _RESPONDER_WIDTHS, strict=True)
    yield _row([("responder", width), *titles, ("last", 0)], _TITLE)
    for each in shown:
        cells = zip(_answering(each, status.now), _RESPONDER_WIDTHS, strict=True)
        line = _row([(_cut(each.responder, width), width), *cells])
        yield line.append(_GAP).append(each.last_reason or "good", _DOUBTFUL if each.last_reason else _GOOD)
    if more := len(status.responders) - len(shown):
        yield Text(f"and {more} more, which fail no more often", _QUIET)


def _answering(responder: Responder, now: datetime) -> tuple[str, ...]:
    return (
        f"{responder.asked}",
        span(now - responder.last_asked),
        f"{responder.error_ratio:.0%}",
        f"{responder.p50_s * 1000:.0f} ms",
        f"{responder.p90_s * 1000:.0f} ms",
    )


def _cache(cache: Cache) -> Text:
    asked = cache.hits + cache.misses
    found = f", {cache.hits / asked:.1%} of {asked} look-ups found one" if asked else ""
    pushed_out = f", {cache.evicted} pushed out" if cache.evicted else ""
    used = cache.data_bytes / cache.data_room_bytes if cache.data_room_bytes else 0
    held = f"{cache.entries} response{'s' * (cache.entries != 1)}"
    return Text(f"cache: {held}, {used:.0%} of its room{found}{pushed_out}")


def _fleet(fleet: Fleet, now: datetime) -> Iterator[Text]:
    for each in fleet.servers:
        since = span(now - each.since)
        if each.is_up:
            yield Text(f"fleet: {each.server}: shared for {since}")
        elif each.reason:
            yield Text(f"fleet: {each.server}: away for {since}: {each.reason}: {each.detail}", _BAD)
        else:
            yield Text(f"fleet: {each.server}: not known yet", _DOUBTFUL)
    yield Text(f"fleet: {fleet.operations} operations, {fleet.failures} failed{_counts(fleet.counts)}")


def _traffic(traffic: Traffic) -> Iterator[Text]:
    yield Text(f"connections: {traffic.connections_open} open")
    by = _counts(traffic.handshakes_by)
    yield Text(f"handshakes: {traffic.handshakes_per_s:.1f} a second, {traffic.handshakes} so far{by}")
    by = _counts(traffic.requests_by)
    yield Text(f"requests: {traffic.requests_per_s:.1f} a second, {traffic.requests} so far{by}")


def _counts(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f" ({told})" if told else ""


def _row(cells: list[tuple[str, int]], style: str = "") -> Text:
    return Text(_GAP.join(text.ljust(width) for text, width in cells).rstrip(), style)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
