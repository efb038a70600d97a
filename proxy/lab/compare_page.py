"""The comparison as one HTML page that needs neither network nor script. Pure.

Tables say in numbers what the plots show.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from proxy.lab.compare_outcomes import MEANING, Outcome, summarize
from proxy.lab.compare_plan import CLIENT_DEADLINE_S, INTERVAL_S, phases, scaled
from proxy.lab.compare_plot import STROKES, plot
from proxy.page import document
from proxy.svg import patterns, swatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.lab.compare_outcomes import Report, Summary
    from proxy.lab.compare_plan import Phase, Plan

_READING = (
    "The band shows what the clients of each moment were served, a dot how long one of them waited, on a logarithmic "
    "scale. Shaded: trouble at the responder."
)
_COLOURS = {
    # In light and in dark. They differ in brightness too, for eyes that mix up red and green, and the patterns in form.
    Outcome.GOOD: ("#5fb08a", "#2f7d5b"),
    Outcome.OLD: ("#a9cfe8", "#33607f"),
    Outcome.EXPIRED: ("#e9a23b", "#9a6312"),
    Outcome.BAD: ("#c58bc4", "#7b4279"),
    Outcome.TRY_LATER: ("#f2d95c", "#8a7a14"),
    Outcome.NONE: ("#d9d9d9", "#4a4d52"),
    Outcome.ALERT: ("#d9685c", "#a33c31"),
    Outcome.LATE: ("#8f8f9a", "#6a6a78"),
}
_TROUBLE = {"trouble": ("#fbe9e7", "#3a2321"), "edge": ("#b3392d", "#ee8278")}
_STYLE = ".trouble { fill: var(--trouble); } .edge { stroke: var(--edge); stroke-dasharray: 4 3; }\n"


def page(report: Report, *, made_by: str) -> str:
    """Write the whole page; `made_by`: the program with its version."""
    plan = report.plan
    parts = phases(plan)
    title = f"Stapling through trouble: {', '.join(plan.profiles)}"
    body = [
        patterns(STROKES),
        "<main>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_story(plan))}</p>",
        _troubles(parts),
        "<h2>All in all</h2>",
        _table("Clients by what they were served", "profile", _rows(report, plan.profiles)),
        "<h2>Over time</h2>",
        f'<p class="note">{_READING}</p>',
        *(_figure(report, profile, parts) for profile in plan.profiles),
        "<h2>The same in numbers</h2>",
        *(_table(f"{_when(part)}", "profile", _rows(report, plan.profiles, part)) for part in parts),
        "<h2>What the words mean</h2>",
        _meanings(),
        "<h2>How it was done</h2>",
        *_method(plan),
        f'<p class="note">Begun at {report.begun:%Y-%m-%d %H:%M:%S} UTC. Made by {escape(made_by)}.</p>',
        "</main>",
    ]
    return document(title, body, _COLOURS, _TROUBLE, _STYLE)


def wait_words(seconds: float) -> str:
    """Say how long, as precisely as it matters."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{seconds:.2f} s"


def _story(plan: Plan) -> str:
    return (
        f"One OCSP responder, {len(plan.profiles)} fronts that are set alike but for their profile, and at each front "
        f"a client every {INTERVAL_S * 1000:g} ms for {plan.seconds} s that asks for the staple and verifies it."
    )


def _troubles(parts: Sequence[Phase]) -> str:
    lines = "".join(
        f"<li>From {part.begin_s:g} s to {part.end_s:g} s: <code>{escape(part.fault.name)}</code>. "
        f"{escape(part.fault.what)}</li>"
        for part in parts
        if part.fault is not None
    )
    return f"<p>Trouble at the responder:</p><ul>{lines}</ul>"


def _rows(report: Report, profiles: Sequence[str], part: Phase | None = None) -> list[tuple[str, Summary]]:
    return [(profile, summarize(report.of(profile, part))) for profile in profiles]


def _table(caption: str, first: str, rows: Sequence[tuple[str, Summary]]) -> str:
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in (first, *Outcome, "clients", "longest wait"))
    lines = []
    for name, summary in rows:
        cells = "".join(_cell(summary.counts.get(each, 0)) for each in Outcome)
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th>{cells}<td>{summary.total}</td>'
            f"<td>{wait_words(summary.longest_wait_s)}</td></tr>"
        )
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(count: int) -> str:
    return f"<td>{count}</td>" if count else '<td class="zero">0</td>'


def _figure(report: Report, profile: str, parts: Sequence[Phase]) -> str:
    drawn = plot(profile, report.of(profile), parts, report.plan.seconds)
    return f'<figure><figcaption>{escape(profile)}</figcaption><div class="wide">{drawn}</div></figure>'


def _when(part: Phase) -> str:
    state = "responder healthy" if part.fault is None else f"trouble: {part.fault.name}"
    return f"Clients due from {part.begin_s:g} s to {part.end_s:g} s, {state}"


def _meanings() -> str:
    rows = "".join(
        f'<tr><td>{swatch(each)}</td><th scope="row">{each}</th>'
        f'<td style="white-space: normal">{escape(MEANING[each])}</td></tr>'
        for each in Outcome
    )
    return f'<table class="words"><tbody>{rows}</tbody></table>'


def _method(plan: Plan) -> tuple[str, ...]:
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(each.key)}</code></th><td>{each.value} s</td><td>{each.default} s</td>'
        f"<td>{escape(each.directive)}</td></tr>"
        for each in scaled(plan)
    )
    titles = "".join(f'<th scope="col">{each}</th>' for each in ("setting", "here", "default", "Apache's directive"))
    clients = (
        "Clients come whether or not those before them were served. A client's wait begins when it is due, not when "
        f"this machine comes to start it; it gives up after {CLIENT_DEADLINE_S:g} s."
    )
    speed = (
        f"So that hours fit into {plan.seconds} s, one second stands for {plan.speed:g}: the settings below are their "
        "defaults divided by that, in whole seconds and at least 1. The two timeouts are not, for a client waits in "
        f"real seconds: they are at most their default. Responses are valid for {plan.validity_s} s. The profile "
        "prefetch goes by the settings without httpd in their names, the profiles httpd-* by those with it."
    )
    table = (
        '<div class="wide"><table class="words"><caption>Settings of every front</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f"<p>{escape(clients)}</p>", f"<p>{escape(speed)}</p>", table
