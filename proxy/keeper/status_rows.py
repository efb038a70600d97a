"""The status page's table of sites and certificates. PURE."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from zlib import crc32

from proxy.keeper.admin_query import target
from proxy.keeper.status import MEANINGS, Certificate, Query, Site, Sort, State
from proxy.keeper.status_words import NONE, clock, distance, said, short, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from proxy.keeper.status import Trouble

_MAX_NAMES = 20
_MAX_TROUBLES = 4
_MARKS: Mapping[State, tuple[str, str]] = {
    State.REVOKED: ("bad", "✕"),
    State.EXPIRED: ("bad", "✕"),
    State.MISSING: ("bad", "✕"),
    State.EXPIRING: ("warn", "▲"),
    State.FAILING: ("warn", "▲"),
    State.WAITING: ("quiet", "…"),
    State.STAPLED: ("good", "✓"),
    State.ON_DEMAND: ("quiet", "○"),
    State.NOT_STAPLED: ("quiet", NONE),
}
"""Class and sign of each state: told by colour, by form and by its word."""
_COLUMNS = (
    ("Site", Sort.NAME, "ascending"),
    ("State", Sort.ATTENTION, "other"),
    ("Time of the response", None, ""),
    ("Stapled until", Sort.UNTIL, "ascending"),
    ("Next refresh", Sort.NEXT, "ascending"),
    ("Last trouble", None, ""),
)


def pill(state: State, count: str = "") -> str:
    """Write a state's word with its sign."""
    kind, sign = _MARKS[state]
    word = state.replace("-", " ")
    return f'<span class="pill {kind}"><i aria-hidden="true">{sign}</i> {count}{word}</span>'


def is_bad(state: State) -> bool:
    """Tell whether clients go without."""
    return _MARKS[state][0] == "bad"


def table(sites: Iterable[Site], query: Query, now: datetime, *, may_order: bool) -> Iterator[str]:
    """Write it. Roles are said, since the style for narrow windows would take the table's away."""
    yield '<div class="wide"><table role="table" class="sites" aria-describedby="shown">'
    yield '<thead role="rowgroup"><tr role="row">'
    for title, sort, direction in _COLUMNS:
        yield _heading(title, sort, direction, query)
    if may_order:
        yield '<th role="columnheader" scope="col" class="order"><span class="unseen">Order</span></th>'
    yield '</tr></thead><tbody role="rowgroup" id="rows">'
    taken: dict[str, int] = {}
    for site in sites:
        for certificate in site.certificates:
            yield _row(site, certificate, _own_id(site, certificate, taken), now, may_order=may_order)
    yield "</tbody></table></div>"


def _heading(title: str, sort: Sort | None, direction: str, query: Query) -> str:
    if sort is None:
        return f'<th role="columnheader" scope="col">{title}</th>'
    link = escape(target(Query(query.text, query.state, sort, query.limit)))
    is_sorted = f' aria-sort="{direction}"' if sort is query.sort else ""
    return f'<th role="columnheader" scope="col"{is_sorted}><a id="sort-{sort}" href="{link}">{title}</a></th>'


def _own_id(site: Site, certificate: Certificate, taken: dict[str, int]) -> str:
    """Name a row: the same one each time, so that who has the focus there keeps it."""
    found = f"r-{certificate.key}-{crc32(chr(0).join(site.names).encode()):x}"
    taken[found] = taken.get(found, 0) + 1
    return found if taken[found] == 1 else f"{found}-{taken[found]}"  # the same names at another address


def _row(site: Site, certificate: Certificate, own_id: str, now: datetime, *, may_order: bool) -> str:
    cells = [
        f'<th role="rowheader" scope="row">{_names(site, certificate, own_id)}</th>',
        _cell("State", f"{pill(certificate.state)}{_remarks(certificate)}"),
        _cell("Time of the response", _bar(certificate, now)),
        _cell("Stapled until", when(certificate.stapled_until, now, "not stapled")),
        _cell("Next refresh", _next(certificate, now)),
        _cell("Last trouble", _troubles(certificate)),
    ]
    if may_order:
        cells.append(f'<td role="cell" class="order">{_button(site, certificate, own_id)}</td>')
    return f'<tr role="row" id="{own_id}" class="{_MARKS[certificate.state][0]}">{"".join(cells)}</tr>'


def _cell(label: str, content: str) -> str:
    return f'<td role="cell" data-label="{label}">{content}</td>'


def _names(site: Site, certificate: Certificate, own_id: str) -> str:
    first, more = next(iter(site.names), "any name"), site.names[1:]
    parts = [f"<strong>{said(first)}</strong>"]
    if more:
        left = len(more) - _MAX_NAMES
        listed = ", ".join(said(name) for name in more[:_MAX_NAMES]) + (f" and {left} more" if left > 0 else "")
        summary = f'<summary id="s-{own_id}">{len(more)} more name{"s" * (len(more) > 1)}</summary>'
        parts.append(f'<details id="d-{own_id}">{summary}{listed}</details>')
    parts.append(f"<small>{said(certificate.certificate)}</small>")
    return "".join(parts)


def _remarks(certificate: Certificate) -> str:
    remarks = []
    if certificate.must_staple:
        remarks.append("must-staple")
    if certificate.by_hand:
        remarks.append("put there by hand")
    if certificate.why:
        remarks.append(said(certificate.why))
    elif certificate.state not in {State.STAPLED, State.NOT_STAPLED}:
        remarks.append(escape(MEANINGS[certificate.state]))
    return "".join(f"<small>{remark}</small>" for remark in remarks)


def _bar(certificate: Certificate, now: datetime) -> str:
    """Draw the response's time from thisUpdate to its end, what is over of it, and where the next refresh is."""
    begin, end = certificate.this_update, certificate.stapled_until or certificate.next_update
    if begin is None or end is None or end <= begin:
        return f'<span class="faint">{"no response" if certificate.responders else NONE}</span>'
    life_s = (end - begin).total_seconds()

    def at(moment: datetime) -> float:
        return 100 * min(max((moment - begin).total_seconds() / life_s, 0.0), 1.0)

    over = at(now)
    words = f"{over:.0f} % of its time is over"
    mark = ""
    if certificate.next_attempt and begin < certificate.next_attempt < end:
        x = at(certificate.next_attempt)
        words += f", the next refresh is at {x:.0f} %"
        mark = f'<rect class="mark" x="{x:.2f}%" y="0" width="2" height="14"/>'
    title = f"thisUpdate {clock(begin)}, {distance(begin, now)}; end {clock(end)}; {words}"
    return (
        f'<svg class="age" role="img" aria-label="{words}" width="100%" height="14"><title>{title}</title>'
        f'<rect class="track" y="3" width="100%" height="8" rx="4"/>'
        f'<rect class="over" y="3" width="{over:.2f}%" height="8" rx="4"/>{mark}</svg>'
        f"<small>{short(begin, end)}</small>"
    )


def _next(certificate: Certificate, now: datetime) -> str:
    if certificate.under_way:
        return "being asked for"
    if certificate.next_attempt and certificate.next_attempt <= now:
        return "waits for its turn"
    return when(certificate.next_attempt, now, "on demand" if certificate.state is State.ON_DEMAND else NONE)


def _troubles(certificate: Certificate) -> str:
    if not certificate.troubles:
        return f'<span class="faint">{"none" if certificate.successes else NONE}</span>'
    times = f"<small>{certificate.failures} times in a row</small>" if certificate.failures > 1 else ""
    left = len(certificate.troubles) - _MAX_TROUBLES
    more = f"<small>and {left} more</small>" if left > 0 else ""
    return "".join(map(_trouble, certificate.troubles[:_MAX_TROUBLES])) + more + times


def _trouble(trouble: Trouble) -> str:
    return f"<p><code>{said(trouble.reason)}</code> {said(trouble.detail)}<small>{said(trouble.url)}</small></p>"


def _button(site: Site, certificate: Certificate, own_id: str) -> str:
    if not certificate.responders:
        return ""
    # Not `disabled` while it is being asked for: that would take the focus away from who has just pressed it.
    is_idle = "false" if certificate.next_attempt else "true"
    name = said(next(iter(site.names), "any name"))
    return (
        f'<button type="button" id="b-{own_id}" data-key="{certificate.key}" aria-disabled="{is_idle}">'
        f'Refresh<span class="unseen"> {name}, {said(certificate.certificate)}</span></button>'
    )
