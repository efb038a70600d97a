"""From what the keeper has to the parts of a `Status`: those that are asked for are told in full. PURE."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.cache.entries import Entry
from proxy.cache.layout import Counter
from proxy.keeper.status import Cache, Certificate, Site, Trouble
from proxy.sites import NOT_STAPLED_BECAUSE
from proxy.staples import Known, moment, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.cache.figures import Figures
    from proxy.keeper.status_judged import Brief, SiteBrief
    from proxy.keeper.watched import Watched
    from proxy.staples import Row


def site_told(site: SiteBrief, now: datetime) -> Site:
    """Tell all of one site."""
    return Site(
        site.names, site.state, moment(site.until_s or None), tuple(told(each, now) for each in site.certificates)
    )


def told(judged: Brief, now: datetime) -> Certificate:
    """Tell all of one certificate."""
    identity, why_not = judged.planned.identity, judged.planned.why_not
    certificate = Certificate(
        key=identity.cache_key.hex(),
        certificate=identity.label,
        names=identity.names,
        serial=f"{identity.leaf.serial_number:x}",
        not_after=identity.leaf.not_valid_after_utc,
        must_staple=identity.must_staple,
        state=judged.state,
        why=NOT_STAPLED_BECAUSE[why_not] if why_not else "",
    )
    if isinstance(judged.found, Entry):
        return _from_cache(certificate, judged.found, now)
    return _watched(certificate, judged.found, now) if judged.found else certificate


def response_of(found: Watched | Entry, now: datetime) -> bytes | None:
    """Give the DER of what is stapled; None: nothing is."""
    if isinstance(found, Entry):
        return _row(found).response if found.serve_until_s > now.timestamp() else None
    held = found.held(now)
    return held.der if held else None


def not_ready(watched: Iterable[Watched], now: datetime) -> list[str]:
    """List why this front is not ready: certificates that say must-staple and have nothing to staple."""
    return [
        f"{each.identity.label}: it says must-staple, and there is no response to staple"
        for each in watched
        if each.identity.must_staple and each.held(now) is None
    ]


def cache_of(found: Figures) -> Cache:
    """Pick the figures that an operator asks for first."""
    return Cache(
        eviction=found.eviction,
        size_bytes=found.size_bytes,
        entries=found.slots,
        data_bytes=found.data_bytes,
        data_room_bytes=found.subcaches * found.data_bytes_per_subcache,
        entries_room=found.subcaches * found.indexes_per_subcache,
        hits=found.counts[Counter.RETRIEVE_HITS],
        misses=found.counts[Counter.RETRIEVE_MISSES],
        stores=found.counts[Counter.STORES],
        replaced=found.counts[Counter.REPLACED],
        evicted=found.counts[Counter.SCROLLED],
        expired=found.counts[Counter.EXPIRIES],
    )


def _watched(certificate: Certificate, watched: Watched, now: datetime) -> Certificate:
    newest, held = watched.newest, watched.held(now)
    return replace(
        certificate,
        names=watched.certificate.names,
        why=certificate.why or (newest.revocation if newest else ""),
        responders=watched.certificate.responder_urls,
        status=str(newest.status) if newest else None,
        this_update=newest.this_update if newest else None,
        next_update=newest.next_update if newest else None,
        stapled_until=held.serve_until if held else None,
        next_attempt=None if watched.due_s is None else datetime.fromtimestamp(watched.due_s, UTC),
        under_way=_is_under_way(watched, now),
        by_hand=watched.is_by_hand,
        successes=watched.successes,
        failures=watched.failures,
        troubles=tuple(Trouble(*each) for each in watched.troubles),
    )


def _is_under_way(watched: Watched, now: datetime) -> bool:
    """Tell it from those for which nobody is asked any more, which have no time for the next round either."""
    has_ended = watched.identity.leaf.not_valid_after_utc < now
    return watched.due_s is None and bool(watched.certificate.responder_urls) and not has_ended


def _from_cache(certificate: Certificate, entry: Entry, now: datetime) -> Certificate:
    row = _row(entry, Known(certificate.names, certificate.certificate, certificate.serial))
    return replace(
        certificate,
        status=row.status,
        this_update=row.this_update,
        next_update=row.next_update,
        stapled_until=row.serve_until if entry.serve_until_s > now.timestamp() else None,
    )


def _row(entry: Entry, known: Known | None = None) -> Row:
    (row,) = rows([entry], {entry.key: known} if known else {})
    return row
