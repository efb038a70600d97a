"""How it stands with each certificate and site, in one word: all of them are judged, since all are counted. PURE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from proxy.cache.entries import Entry
from proxy.keeper.status import URGENCY, Forecast, Query, Sort, State
from proxy.ocsp.response import CertStatus
from proxy.sites import NotStapled, why_not_stapled
from proxy.staples import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from proxy.httpd import Table
    from proxy.identity import CacheKey, Identity
    from proxy.keeper.watched import Watched
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite

Held: TypeAlias = "Mapping[CacheKey, Watched | Entry]"
"""What is known of each certificate: where the keeper fetches ahead all of it, else what the cache has."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One certificate of a site, as the configuration has it."""

    identity: Identity
    why_not: NotStapled | None
    """Why nothing is fetched for it; None: it is meant to be stapled."""


@dataclass(frozen=True, slots=True)
class SitePlan:
    """One site, as the configuration has it."""

    names: tuple[str, ...]
    certificates: tuple[Planned, ...]


def plan_of(sites: Iterable[LoadedSite], settings: Settings, table: Table | None = None) -> tuple[SitePlan, ...]:
    """Tell apart what is meant to be stapled; it stays so as long as the configuration.

    `table`: where it is as in Apache, which decides by other settings.
    """

    def planned(identity: Identity, site: LoadedSite) -> Planned:
        why_not = why_not_stapled(identity, site.settings, settings)
        if table and why_not is not NotStapled.DISABLED:
            why_not = None if identity.cache_key in table.certificates else why_not or NotStapled.NO_OCSP_URI
        return Planned(identity, why_not)

    return tuple(SitePlan(site.names, tuple(planned(each, site) for each in site.identities)) for site in sites)


@dataclass(frozen=True, slots=True)
class Brief:
    """One certificate of a site, as far as sorting and counting need it."""

    planned: Planned
    found: Watched | Entry | None
    state: State
    until_s: float
    """0: nothing is stapled."""
    next_s: float
    """Infinite: never, or it is being asked for."""


@dataclass(frozen=True, slots=True)
class SiteBrief:
    """One site, likewise."""

    names: tuple[str, ...]
    certificates: tuple[Brief, ...]
    state: State
    """The worst of its certificates."""
    until_s: float | None
    """The forecast: what ends first, since a client may get any of the certificates. None: nothing is meant to be."""


def brief(planned: Planned, found: Watched | Entry | None, now: datetime) -> Brief:
    """Judge one."""
    if planned.why_not:
        found = None  # another site may have it stapled
    until_s, next_s = 0.0, math.inf
    if isinstance(found, Entry):
        until_s = found.serve_until_s if found.serve_until_s > now.timestamp() else 0.0
    elif found:
        held = found.held(now)
        until_s = held.serve_until.timestamp() if held else 0.0
        next_s = math.inf if found.due_s is None else found.due_s
    return Brief(planned, found, _state(planned, found, until_s, now), until_s, next_s)


def briefs(plan: Iterable[SitePlan], held: Held, now: datetime) -> list[SiteBrief]:
    """Judge all."""
    known: dict[CacheKey, Brief] = {}  # sites may share a certificate
    found = []
    for site in plan:
        own = []
        for planned in site.certificates:
            key = planned.identity.cache_key
            judged = known.get(key)
            if judged is None or judged.planned.why_not is not planned.why_not:
                judged = known[key] = brief(planned, held.get(key), now)
            own.append(judged)
        ends = [each.until_s for each in own if each.planned.why_not is None]
        worst = min((each.state for each in own), key=URGENCY.__getitem__)
        found.append(SiteBrief(site.names, tuple(own), worst, min(ends, default=None)))
    return found


def counted(sites: Iterable[SiteBrief]) -> dict[State, int]:
    """Count the certificates in each state, each certificate once."""
    states = {each.planned.identity.cache_key: each.state for site in sites for each in site.certificates}
    counts = dict.fromkeys(State, 0)
    for state in states.values():
        counts[state] += 1
    return counts


def forecast(sites: Iterable[SiteBrief]) -> Forecast:
    """Tell what ends first if no responder answers from now on."""
    ends = [(site.until_s, next(iter(site.names), "any name")) for site in sites if site.until_s is not None]
    until_s, name = min(ends, default=(0.0, ""))
    return Forecast(moment(until_s or None), name)


def chosen(sites: Iterable[SiteBrief], query: Query) -> list[SiteBrief]:
    """Find those that the query wants, in its order; the limit is the caller's."""
    wanted = query.text.lower()
    found = [
        site
        for site in sites
        if (query.state is None or any(each.state is query.state for each in site.certificates))
        and (not wanted or wanted in _searched(site))
    ]
    match query.sort:
        case Sort.ATTENTION:
            found.sort(key=lambda site: (URGENCY[site.state], not _must_staple(site), _end(site), site.names))
        case Sort.NAME:
            found.sort(key=lambda site: site.names)
        case Sort.UNTIL:
            found.sort(key=lambda site: (_end(site), site.names))
        case Sort.NEXT:
            found.sort(key=lambda site: (min(each.next_s for each in site.certificates), site.names))
    return found


def _state(planned: Planned, found: Watched | Entry | None, until_s: float, now: datetime) -> State:
    identity = planned.identity
    if identity.leaf.not_valid_after_utc < now:
        return State.EXPIRED
    if planned.why_not:
        # Who obeys the certificate refuses it; with stapling turned off that is somebody's wish.
        is_trouble = identity.must_staple and planned.why_not is not NotStapled.DISABLED
        return State.MISSING if is_trouble else State.NOT_STAPLED
    if found is None or isinstance(found, Entry):
        return State.STAPLED if until_s else State.ON_DEMAND
    if found.newest and found.newest.status is CertStatus.REVOKED:
        return State.REVOKED
    if not until_s:
        has_begun = found.failures or found.newest or not found.certificate.responder_urls
        return State.MISSING if has_begun else State.WAITING
    if found.told == "expiring":
        return State.EXPIRING
    return State.FAILING if found.failures else State.STAPLED


def _searched(site: SiteBrief) -> str:
    """All that a search looks into, in lower case."""
    words: list[str] = [*site.names]
    for each in site.certificates:
        identity, found = each.planned.identity, each.found
        words += (identity.label, *identity.names, identity.cache_key.hex(), f"{identity.leaf.serial_number:x}")
        if found and not isinstance(found, Entry):
            words += found.certificate.responder_urls
            words += (trouble.reason for trouble in found.troubles)
    return "\n".join(words).lower()


def _must_staple(site: SiteBrief) -> bool:
    return any(each.planned.identity.must_staple for each in site.certificates)


def _end(site: SiteBrief) -> float:
    """What never ends, since it is not meant to be stapled, comes last."""
    return math.inf if site.until_s is None else site.until_s
