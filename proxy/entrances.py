"""Which sites are served at which addresses, and which of them answers a name that none has there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.names import NameTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from proxy.settings.model import Settings, Site
    from proxy.settings.values import ListenAddress


@dataclass(frozen=True, slots=True)
class Entrance:
    """Addresses at which the same sites are served."""

    addresses: tuple[ListenAddress, ...]
    sites: tuple[int, ...]
    """By their index in the configuration, in its order."""
    default: int


def entrances(listen: Sequence[ListenAddress], sites: Mapping[int, Site]) -> list[Entrance]:
    """Put together what is served alike; an address where nothing is served is in none."""
    alike: dict[tuple[int, ...], list[ListenAddress]] = {}
    for address in listen:
        here = tuple(index for index, site in sites.items() if not site.listen or address in site.listen)
        alike.setdefault(here, []).append(address)
    return [Entrance(tuple(addresses), here, _defaults(here, sites)[0]) for here, addresses in alike.items() if here]


def mistakes(sites: Mapping[int, Site], names: Mapping[int, tuple[str, ...]]) -> list[Problem]:
    """List what cannot be at one address: two defaults, or two sites of one name; `names` are those of each site."""
    listen = tuple(dict.fromkeys(address for site in sites.values() for address in site.listen))
    here_and_there = entrances(listen, sites) if listen else [Entrance((), tuple(sites), 0)]
    problems: list[Problem] = []
    for entrance in here_and_there:
        first, *others = _defaults(entrance.sites, sites)
        what = f"site[{first}] is the default already: only one can be"
        problems.extend(Problem(f"site[{index}].default", what) for index in others)
        # The table tells sites by their position: one that is not here leaves its place empty.
        last = max(entrance.sites, default=-1)
        present = frozenset(entrance.sites)
        here = [names.get(index, ()) if index in present else () for index in range(last + 1)]
        try:
            NameTable(((each, None) for each in here), None)
        except ConfigError as error:
            problems.extend(error.problems)
    return list(dict.fromkeys(problems))


def contradictions(settings: Settings) -> Iterator[Problem]:
    """List addresses of sites where nothing listens, and those that no site is served at."""
    for index, site in enumerate(settings.site):
        for address in site.listen:
            if address not in settings.listen:
                yield Problem(f"site[{index}].listen", f"{address} is not in listen at the top: add it there")
    served = {
        address for each in entrances(settings.listen, dict(enumerate(settings.site))) for address in each.addresses
    }
    for address in settings.listen:
        if address not in served:
            yield Problem("listen", f"no site is served at {address}: name it in a site's listen, or leave it out")


def _defaults(here: Sequence[int], sites: Mapping[int, Site]) -> list[int]:
    """Those that say so, else the first."""
    return [index for index in here if sites[index].default] or list(here[:1]) or [0]
