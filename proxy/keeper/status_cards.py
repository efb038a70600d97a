"""The status page's cards: responders, traffic, cache, and the program itself. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.keeper.status_words import NOTHING, milliseconds, number, said, share, size, when

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from proxy.keeper.status import Cache, Fleet, FleetServer, Generation, Responder, Status, Traffic

MAX_RESPONDERS = 50
_SHOWN_RATIO_BAD = 0.5


def responders(found: Sequence[Responder], now: datetime) -> str:
    """Write how the responders have been answering."""
    if not found:
        return _card("responders", "Responders", "<p>None has been asked yet.</p>")
    head = "".join(
        f'<th scope="col"{kind}>{title}</th>'
        for title, kind in (
            ("Responder", ""),
            ("Failed of the last", ' class="number"'),
            ("Half within", ' class="number"'),
            ("90 % within", ' class="number"'),
            ("Asked", ' class="number"'),
            ("Last asked", ""),
            ("What went wrong", ""),
        )
    )
    rows = "".join(_responder(each, now) for each in found[:MAX_RESPONDERS])
    left = len(found) - MAX_RESPONDERS
    more = f"<p>And {number(left)} more, which fail less: /api/status has all.</p>" if left > 0 else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    # In a narrow window it is scrolled, and the focus is what a keyboard scrolls by.
    scrolled = f'<div class="wide" tabindex="0" role="region" aria-labelledby="responders-title">{table}</div>'
    return _card("responders", "Responders", scrolled + more)


def _responder(each: Responder, now: datetime) -> str:
    kind = "bad" if each.error_ratio >= _SHOWN_RATIO_BAD else "warn" if each.recent_failed else "good"
    ratio = (
        f'<span class="pill {kind}">{share(each.recent_failed, each.recent) if each.recent_failed else "0 %"}</span>'
    )
    reasons = ", ".join(f"<code>{said(reason)}</code> {count}" for reason, count in each.reasons.items())
    return (
        f'<tr><th scope="row">{said(each.responder)}</th>'
        f'<td class="number">{ratio} of {each.recent}</td>'
        f'<td class="number">{milliseconds(each.p50_s)}</td><td class="number">{milliseconds(each.p90_s)}</td>'
        f'<td class="number">{number(each.asked)}</td><td>{when(each.last_asked, now)}</td>'
        f"<td>{reasons or NOTHING}</td></tr>"
    )


def traffic(found: Traffic) -> str:
    """Write what the workers serve."""
    body = _facts(
        ("Connections open", number(found.connections_open)),
        ("Handshakes", _rate(found.handshakes_per_s, found.handshakes)),
        ("Requests", _rate(found.requests_per_s, found.requests)),
        ("Not answered by any backend", number(found.backend_failures)),
        ("Turned away by limits", number(found.connections_refused)),
    )
    body += _parts("Handshakes by staple", found.handshakes_by)
    body += _parts("Handshakes that failed", found.handshake_failures)
    body += _parts("Requests by status", found.requests_by)
    return _card("traffic", "Traffic", body)


def fleet(found: Fleet, now: datetime) -> str:
    """Write what is shared with other machines."""
    servers = [(said(each.server), _server(each, now)) for each in found.servers]
    body = _facts(*servers, ("Operations", f"{number(found.operations)}, {number(found.failures)} failed"))
    body += _parts("Responses and turns", found.counts)
    body += _parts("Refused", found.refused)
    return _card("fleet", "Fleet", body)


def _server(each: FleetServer, now: datetime) -> str:
    if each.is_up:
        return f'<span class="pill good">there</span> since {when(each.since, now)}'
    why = f"<code>{said(each.reason)}</code> {said(each.detail)}" if each.reason else "not known yet"
    return f'<span class="pill bad">away</span> since {when(each.since, now)}: {why}'


def cache(found: Cache) -> str:
    """Write how the stapling cache is used."""
    looks = found.hits + found.misses
    body = _facts(
        ("Responses held", f"{number(found.entries)} of at most {number(found.entries_room)}"),
        ("Bytes held", f"{size(found.data_bytes)} of {size(found.data_room_bytes)}"),
    )
    body += _gauge(found.data_bytes, found.data_room_bytes)
    body += _facts(
        ("Found in handshakes", f"{share(found.hits, looks)} of {number(looks)}"),
        ("Not found", number(found.misses)),
        ("Dropped to make room", number(found.evicted)),
        ("Dropped because over", number(found.expired)),
        ("Stored, replaced", f"{number(found.stores)}, {number(found.replaced)}"),
        ("What goes when it is full", "stapled longest ago" if found.eviction == "lru" else "stored longest ago"),
        ("Size", size(found.size_bytes)),
    )
    return _card("cache", "Stapling cache", body)


def running(status: Status) -> str:
    """Write which program runs, since when, and with what."""
    facts = [("Version", said(status.version)), ("Profile", said(status.profile))]
    found = status.generation
    if found:
        facts += [
            ("Configuration", f"<code>{said(found.config)}</code>" if found.config else "from the command line"),
            ("Running since", said(_moment(found.started))),
            ("Generation", number(found.generation)),
            ("Reloads", number(found.reloads)),
            ("Last reload", _last_reload(found)),
            ("Master", f"process {found.master_pid}"),
        ]
    return _card("running", "This program", _facts(*facts))


def mistakes(found: Generation | None) -> str:
    """Write why the last reload changed nothing; empty where it did, or there was none."""
    last = found.last_reload if found else None
    if last is None or last.ok:
        return ""
    listed = "".join(f"<li>{said(each, 1_000)}</li>" for each in last.mistakes)
    return (
        '<section class="card bad" id="mistakes">'
        f"<h2>The last reload, at {said(_moment(last.at))}, changed nothing</h2>"
        f"<p>What ran before still runs. The configuration has mistakes:</p><ul>{listed}</ul></section>"
    )


def _last_reload(found: Generation) -> str:
    if found.last_reload is None:
        return "none"
    said_at = said(_moment(found.last_reload.at))
    return f"{'taken in' if found.last_reload.ok else '<strong>refused</strong>'}<small>{said_at}</small>"


def _rate(per_s: float, count: int) -> str:
    pace = f"{per_s:.2g}" if per_s < 10 else number(round(per_s))
    return f"{pace}/s <small>{number(count)} in all</small>"


def _moment(rfc3339: str) -> str:
    return rfc3339.replace("T", " ").replace("Z", " UTC")


def _card(name: str, title: str, body: str) -> str:
    head = f'<section class="card" id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
    return f"{head}{body}</section>"


def _facts(*facts: tuple[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"


def _parts(title: str, counts: Mapping[str, int]) -> str:
    """Write counts with their shares of the whole."""
    whole = sum(counts.values())
    rows = "".join(
        f'<tr><th scope="row">{said(name)}</th><td class="number">{number(count)}</td>'
        f'<td class="number">{share(count, whole)}</td><td class="part">{_gauge(count, whole)}</td></tr>'
        for name, count in counts.items()
        if count
    )
    return f'<table class="parts"><caption>{title}</caption><tbody>{rows}</tbody></table>' if rows else ""


def _gauge(part: float, whole: float) -> str:
    """Draw a part of a whole; what it says stands beside it."""
    width = 100 * part / whole if whole else 0
    return (
        '<svg width="100%" height="8" aria-hidden="true"><rect class="track" width="100%" height="8" rx="4"/>'
        f'<rect class="over" width="{width:.2f}%" height="8" rx="4"/></svg>'
    )
