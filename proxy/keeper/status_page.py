"""The status page: one HTML document that needs nothing from elsewhere, and no script to be read. PURE.

It is not made by `proxy.page`: that makes reports, which are kept and mailed, and this is looked at as it changes,
under a policy for browsers that names its only style and its only script by their hashes.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING

from proxy.keeper import status_cards as cards
from proxy.keeper.admin_query import target
from proxy.keeper.status import DEFAULT_LIMIT, MAX_QUERY_CHARACTERS, Query, Sort, State
from proxy.keeper.status_rows import is_bad, pill, table
from proxy.keeper.status_script import SCRIPT
from proxy.keeper.status_style import STYLE
from proxy.keeper.status_words import clock, distance, number, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.keeper.status import Status

REFRESHED_EVERY_S = 10
"""Where there is no script."""


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash(STYLE)}",
        f"script-src {_hash(SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy."""


def page(status: Status, query: Query, *, may_order: bool) -> str:
    """Write it. `may_order`: whoever sees it may have responders asked."""
    return "\n".join(_document(status, query, may_order=may_order)) + "\n"


def _document(status: Status, query: Query, *, may_order: bool) -> Iterator[str]:
    bad = sum(count for state, count in status.certificates.items() if is_bad(state))
    yield f'<!DOCTYPE html>\n<html lang="en" data-version="{escape(status.version)}">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<noscript><meta http-equiv="refresh" content="{REFRESHED_EVERY_S}"></noscript>'
    yield f"<title>{f'({bad}) ' if bad else ''}stapleproxy</title>"
    yield f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>'
    yield '<a class="skip" href="#certificates">To the certificates</a>'
    yield '<p id="lost" role="alert" hidden></p>\n<header>'
    yield f'<h1>stapleproxy</h1><span class="faint">{escape(status.version)}</span>'
    yield '<p id="said" role="status"></p>'
    yield '<button type="button" id="pause" class="live-only" aria-pressed="false">Pause</button></header>\n<main>'
    yield from _summary(status)
    yield from _certificates(status, query, may_order=may_order)
    yield cards.responders(status.responders, status.now)
    yield '<div class="grid">'
    if status.traffic:
        yield cards.traffic(status.traffic)
    yield cards.cache(status.cache)
    if status.fleet:
        yield cards.fleet(status.fleet, status.now)
    yield cards.running(status)
    yield "</div>\n</main>"
    yield '<footer>Also: <a href="/api/status">status as JSON</a>, <a href="/metrics">metrics</a>,'
    yield '<a href="/readyz">readiness</a>, <a href="/openapi.json">description of the interface</a>.</footer>'
    yield f"<script>{SCRIPT}</script>\n</body>\n</html>"


def _summary(status: Status) -> Iterator[str]:
    ready = "ready" if status.ready else "not ready"
    yield f'<section class="card{"" if status.ready else " bad"}" id="summary" aria-labelledby="summary-title">'
    yield f'<h2 id="summary-title"><span class="pill {"good" if status.ready else "bad"}">'
    yield f'<i aria-hidden="true">{"✓" if status.ready else "✕"}</i> {ready}</span></h2>'
    if status.reasons:
        yield f"<ul>{''.join(f'<li>{said(each)}</li>' for each in status.reasons)}</ul>"
    yield f"<p>{_forecast(status)}</p>"
    yield f'<p class="faint">As of <time datetime="{status.now:%Y-%m-%dT%H:%M:%SZ}">{clock(status.now)}</time>.'
    yield '<span class="still-only">The page looks again every '
    yield f"{REFRESHED_EVERY_S} seconds.</span></p></section>"
    yield cards.mistakes(status.generation)


def _forecast(status: Status) -> str:
    until, site = status.forecast.until, said(status.forecast.site)
    if not site:
        return "Nothing is meant to be stapled."
    if status.profile != "prefetch":
        return "Responses are fetched when clients ask for them, as in Apache: without a responder none comes anew."
    if until is None:
        return f"Not all is stapled now: see <strong>{site}</strong>."
    return (
        f"If every responder went away now, all would be stapled until <strong>{clock(until)}</strong>, "
        f"{distance(until, status.now)}, when <strong>{site}</strong> ends first."
    )


def _certificates(status: Status, query: Query, *, may_order: bool) -> Iterator[str]:
    yield '<section class="card" id="certificates" aria-labelledby="certificates-title" tabindex="-1">'
    yield '<h2 id="certificates-title">Sites and certificates</h2>\n<ul class="states">'
    total = sum(status.certificates.values())
    yield _choice(query, None, f'<span class="pill all">{number(total)} in all</span>')
    for state, count in status.certificates.items():
        if count or state is query.state:
            yield _choice(query, state, pill(state, f"{number(count)} "))
    yield '</ul>\n<form class="bar" role="search" action="/"><label for="q">Search</label>'
    yield f'<input type="search" id="q" name="q" value="{said(query.text)}" maxlength="{MAX_QUERY_CHARACTERS}"'
    yield 'placeholder="name, serial, key, reason, responder" autocomplete="off" spellcheck="false">'
    for name, value, default in (
        ("state", query.state or "", ""),
        ("sort", query.sort, Sort.ATTENTION),
        ("limit", query.limit, DEFAULT_LIMIT),
    ):
        yield f'<input type="hidden" id="f-{name}" name="{name}" value="{"" if value == default else value}">'
    yield f'<button type="submit" class="still-only">Search</button><p id="shown">{_shown(status)}</p></form>'
    if status.sites:
        yield from table(status.sites, query, status.now, may_order=may_order)
    else:
        yield '<p>No site is like that. <a href="/" id="everything">Show all.</a></p>'
    yield "</section>"


def _choice(query: Query, state: State | None, content: str) -> str:
    link = escape(target(Query(query.text, state, query.sort, query.limit)))
    current = ' aria-current="true"' if state is query.state else ""
    return f'<li><a id="state-{state or "all"}" href="{link}"{current}>{content}</a></li>'


def _shown(status: Status) -> str:
    shown, matching, total = len(status.sites), status.sites_matching, status.sites_total
    what = "1 site" if matching == 1 else f"{number(matching)} sites"
    if matching < total:
        what += f" of {number(total)}"
    return what if shown == matching else f"{what}; the first {number(shown)} are shown: search for others"
