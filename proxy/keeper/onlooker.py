"""Reads all that a status is made of, at one moment."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from proxy import __version__
from proxy.cache.entries import whole_entries
from proxy.cache.figures import figures
from proxy.identity import CacheKey
from proxy.keeper.status import Generation, Query, Reload, Status
from proxy.keeper.status_judged import brief, briefs, chosen, counted, forecast, plan_of
from proxy.keeper.status_look import cache_of, not_ready, response_of, site_told, told
from proxy.keeper.traffic import NOTED_EVERY_S, Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.cache.segment import Segment
    from proxy.control import Bulletin
    from proxy.counters import Counters
    from proxy.httpd import Table
    from proxy.keeper.responders import Responders
    from proxy.keeper.status import Certificate, Fleet
    from proxy.keeper.status_judged import Held
    from proxy.keeper.watched import Watched
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite

MAX_REASONS = 20
"""Of not being ready, in a status; /readyz has all."""


class Onlooker:
    """Looks at what others write; it changes nothing, and may be called from a thread."""

    def __init__(
        self,
        sites: Sequence[LoadedSite],
        settings: Settings,
        segment: Segment,
        watched: Iterable[Watched],
        responders: Responders,
        never_ready: Sequence[str] = (),
        table: Table | None = None,
        bulletin: Bulletin | None = None,
        counters: Counters | None = None,
        fleet: Callable[[], Fleet] | None = None,
    ) -> None:
        """`never_ready`: reasons that no time will end. `table`: given where stapling is as in Apache.

        Without `counters` there is no traffic to tell. `fleet` tells what is shared with other machines.
        """
        self._plan = plan_of(sites, settings, table)
        self._stapled = {
            each.identity.cache_key: each for site in self._plan for each in site.certificates if not each.why_not
        }
        self._profile = settings.stapling.profile
        self._is_as_in_apache = table is not None
        self._segment = segment
        self._watched = {each.identity.cache_key: each for each in watched}
        self._responders = responders
        self._never_ready = never_ready
        self._bulletin = bulletin
        self._counters = counters
        self._fleet = fleet
        self._meter = Meter()

    async def measure(self) -> NoReturn:
        """Note the traffic again and again; cancel to stop."""
        while True:
            if self._counters:
                self._meter.note(self._counters.totals(of_sites=False), time.monotonic())
            await asyncio.sleep(NOTED_EVERY_S)

    def status(self, query: Query) -> Status:
        """Tell all, and in full the sites that are asked for."""
        now = datetime.now(UTC).replace(microsecond=0)
        all_sites = briefs(self._plan, self._held(), now)
        matching = chosen(all_sites, query)
        reasons = self.reasons()
        more = len(reasons) - MAX_REASONS
        return Status(
            version=__version__,
            now=now,
            profile=self._profile,
            ready=not reasons,
            reasons=(*reasons[:MAX_REASONS], *([f"and {more} more: see /readyz"] if more > 0 else [])),
            generation=self.generation(),
            certificates=counted(all_sites),
            forecast=forecast(all_sites),
            sites_total=len(all_sites),
            sites_matching=len(matching),
            sites=tuple(site_told(site, now) for site in matching[: query.limit]),
            responders=self._responders.told(),
            cache=cache_of(figures(self._segment, now.timestamp())),
            traffic=self._meter.traffic(self._counters.totals(of_sites=False), time.monotonic())
            if self._counters
            else None,
            fleet=self._fleet() if self._fleet else None,
        )

    def reasons(self) -> list[str]:
        """List why this front is not ready."""
        return [*self._never_ready, *not_ready(self._watched.values(), datetime.now(UTC))]

    def certificates(self) -> list[Certificate]:
        """Tell of each certificate that is meant to be stapled, once."""
        now, held = datetime.now(UTC), self._held()
        return [told(brief(each, held.get(key), now), now) for key, each in self._stapled.items()]

    def certificate(self, key: CacheKey) -> Certificate | None:
        """Tell of one of these; None: there is none of this key."""
        now, planned = datetime.now(UTC), self._stapled.get(key)
        return told(brief(planned, self._held().get(key), now), now) if planned else None

    def response(self, key: CacheKey) -> bytes | None:
        """Give the DER of what is stapled for a certificate; None: nothing is."""
        found = self._held().get(key)
        return response_of(found, datetime.now(UTC)) if found else None

    def watched(self, key: CacheKey) -> Watched | None:
        """Find a certificate that is asked for ahead; None: there is none of this key."""
        return self._watched.get(key)

    def generation(self) -> Generation | None:
        """Tell what the master last made known; None: nothing can be read."""
        if self._bulletin is None:
            return None
        try:
            news = self._bulletin.read()
        except BlockingIOError:  # the master was stopped while it wrote
            return None
        last = news["last_reload"]
        return Generation(
            news["generation"],
            news["started"],
            news["reloads"],
            Reload(last["at"], last["ok"], tuple(last["mistakes"])) if last else None,
            news["master_pid"],
            news["config"],
        )

    def _held(self) -> Held:
        if self._is_as_in_apache:
            return {CacheKey(entry.key): entry for entry in whole_entries(self._segment)}
        return self._watched
