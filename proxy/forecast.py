"""The outage forecast: how long each site would be stapled if no responder answered from now on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.sites import why_not_stapled
from proxy.staples import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one site: what ends first counts, since a client may get any of its certificates."""

    names: tuple[str, ...]
    certificate: str
    """Label of the one whose response ends first, or for which none is held."""
    until: datetime | None
    """None: it is not wholly stapled now."""

    def __str__(self) -> str:
        who = ", ".join(self.names) or "any name"
        if self.until is None:
            return f"{who}: not stapled now: there is nothing to staple for {self.certificate}"
        return f"{who}: stapled until {self.until:%Y-%m-%d %H:%MZ}, when {self.certificate} ends first"

    def to_json(self) -> dict[str, object]:
        until = self.until and f"{self.until:%Y-%m-%dT%H:%M:%SZ}"
        return {"names": list(self.names), "certificate": self.certificate, "stapled_until": until}


def forecasts(
    sites: Iterable[LoadedSite], settings: Settings, serve_until_s: Mapping[bytes, float], now: datetime
) -> list[Forecast]:
    """Make one for each site that is meant to be stapled.

    `serve_until_s`: by the certificates' keys the end of each response held, also of those that are over.
    """
    found = []
    for site in sites:
        ends = [
            (serve_until_s.get(identity.cache_key, 0.0), identity.label)
            for identity in site.identities
            if not why_not_stapled(identity, site.settings, settings)
        ]
        if ends:
            end_s, label = min(ends)
            found.append(Forecast(site.names, label, moment(end_s) if end_s > now.timestamp() else None))
    return found


def lines(found: Iterable[Forecast]) -> list[str]:
    """Write them for people; none: nothing is said."""
    told = [f"  {each}" for each in found]
    return ["with all responders gone from now:", *told] if told else []
