"""The report as one HTML page that needs neither network nor script. PURE."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from proxy.bench.outcomes import FAILURE_MEANING, MEANING, StapleOutcome
from proxy.bench.plot import CURVES, STROKES, latency_plot, rate_plot, staple_plot
from proxy.bench.report import LATENCIES, by_outcome, notes, share_words, table
from proxy.page import document
from proxy.svg import patterns, swatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.bench.histogram import Histogram
    from proxy.bench.report import Report

_FILLS = {
    # In light and in dark. They differ in brightness too, for eyes that mix up red and green, and the patterns in form.
    StapleOutcome.GOOD: ("#5fb08a", "#2f7d5b"),
    StapleOutcome.REVOKED: ("#d9685c", "#a33c31"),
    StapleOutcome.OTHER: ("#f2d95c", "#8a7a14"),
    StapleOutcome.INVALID: ("#e9a23b", "#9a6312"),
    StapleOutcome.MISSING: ("#d9d9d9", "#4a4d52"),
    StapleOutcome.RESUMED: ("#a9cfe8", "#33607f"),
    StapleOutcome.NOT_ASKED: ("#c9c3dc", "#5b5472"),
}
_COLOURS = {
    "curve-a": ("#1f4e9c", "#9cc2ff"),
    "curve-b": ("#b3392d", "#ee8278"),
    "curve-c": ("#2f7d5b", "#7fd0aa"),
    "curve-d": ("#8a6d00", "#e6c84f"),
}
_STYLE = """.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curve-1 { stroke: var(--curve-a); } .curve-2 { stroke: var(--curve-b); stroke-dasharray: 8 3; }
.curve-3 { stroke: var(--curve-c); stroke-dasharray: 2 3; }
.curve-4 { stroke: var(--curve-d); stroke-dasharray: 9 3 2 3; }
.words td { white-space: normal; overflow-wrap: anywhere; }
.words td.count { white-space: nowrap; } .meaning { min-width: 15rem; }
.curve-fail { stroke: var(--curve-b); stroke-dasharray: 4 3; }
"""


def page(
    report: Report, *, made_by: str, before: Sequence[str] = (), extra: Sequence[Sequence[Sequence[str]]] = ()
) -> str:
    """Write the whole page; `made_by`: the program with its version; `before`: what is to be said first, and `extra`
    tables to follow it.
    """
    tally = report.tally
    title = f"Load of {report.target}"
    head, *blocks = table(report)
    histograms = {name: getattr(tally.latencies, name) for name in CURVES}
    body = [
        patterns(STROKES),
        "<main>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(sentence)}</p>" for sentence in (*before, *notes(report))),
        *(_table(block) for block in extra),
        _table([("run", ""), *head[1:], *_options(report)], "words"),
        *(_latencies(histograms) if tally.handshakes else ()),
        "<h2>Over time</h2>",
        _figure(_rate_title(tally.failed), rate_plot(tally)),
        *((_figure("What the staples were", staple_plot(tally)), _outcomes(report)) if tally.handshakes else ()),
        "<h2>In numbers</h2>",
        *(_table(block, "words" if len(block[0]) == 2 and block[0][1] == "" else "") for block in blocks),
        _failures(report),
        f'<p class="note">Begun at {report.begun:%Y-%m-%d %H:%M:%S} UTC. Made by {escape(made_by)}.</p>',
        "</main>",
    ]
    return document(title, body, _FILLS, _COLOURS, _STYLE)


def _rate_title(failed: int) -> str:
    return "Handshakes per second" + ("; dashed: failures" if failed else "")


def _options(report: Report) -> list[tuple[str, str]]:
    told = " ".join(f"{name} {value}".rstrip() for name, value in report.options.items())
    return [("options", told or "none"), ("processes", str(report.processes))]


def _figure(caption: str, drawn: str) -> str:
    return f'<figure><figcaption>{escape(caption)}</figcaption><div class="wide">{drawn}</div></figure>'


def _table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    titles, *rest = rows
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rest
    )
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _latencies(histograms: Mapping[str, Histogram]) -> tuple[str, ...]:
    return (
        "<h2>Latency</h2>",
        '<p class="note">Each step to the right is ten times as rare; both scales are logarithmic.</p>',
        _figure("Latency by quantile", latency_plot(histograms)),
        _curves([name for name, histogram in histograms.items() if histogram.total]),
    )


def _curves(names: Sequence[str]) -> str:
    """The legend of the lines, and what each counts."""
    rows = "".join(
        f'<tr><td><svg class="swatch" width="40" height="14" aria-hidden="true">'
        f'<path class="curve {CURVES[name]}" d="M0 7H40"/></svg></td>'
        f'<th scope="row">{name.replace("_", " ")}</th>'
        f'<td class="meaning">{escape(LATENCIES[name])}</td></tr>'
        for name in names
    )
    return _legend(rows)


def _outcomes(report: Report) -> str:
    """The legend of the band, with how many there were of each."""
    rows = "".join(
        f'<tr><td>{swatch(outcome)}</td><th scope="row">{outcome}</th>'
        f'<td class="count {"some" if count else "zero"}">{count}</td>'
        f'<td class="count">{share_words(count, report.tally.handshakes)}</td>'
        f'<td class="meaning">{escape(MEANING[outcome])}</td></tr>'
        for outcome, count in by_outcome(report.tally).items()
    )
    return _legend(rows)


def _failures(report: Report) -> str:
    """What the words for failures mean, of those that there were."""
    kinds = {kind for kind, _ in report.tally.failures}
    rows = "".join(
        f'<tr><th scope="row">{kind}</th><td class="meaning">{escape(meaning)}</td></tr>'
        for kind, meaning in FAILURE_MEANING.items()
        if kind in kinds
    )
    return _legend(rows) if rows else ""


def _legend(rows: str) -> str:
    return f'<div class="wide"><table class="words"><tbody>{rows}</tbody></table></div>'
