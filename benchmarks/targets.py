"""What was to be reached, as a table: each target with where its figures are. PURE."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from counting import CPU, SUM, USER
from fronts import OURS, PEER
from growth import START
from handshakes import SHARE, Case
from pressure import MEMORY
from shares import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from samples import Figures

FULL, RSA, RESUMED = Case("ec", "1.3"), Case("rsa", "1.3"), Case("ec", "1.3", is_resumed=True)
FULL_12, RESUMED_12 = Case("ec", "1.2"), Case("ec", "1.2", is_resumed=True)


@dataclass(frozen=True, slots=True)
class Target:
    """At most `most`; `measure` gives the figure of a run, None where it was not measured."""

    what: str
    most: float
    unit: str
    measure: Callable[[Mapping[str, Figures]], float | None]

    def row(self, parts: Mapping[str, Figures]) -> tuple[str, str, str, str]:
        """Target, what it may be, what it is, and the verdict."""
        found = self.measure(parts)
        if found is None:
            return self.what, self._said(self.most), "", "not measured"
        return self.what, self._said(self.most), self._said(found), "met" if found <= self.most else "**missed**"

    def _said(self, value: float) -> str:
        return f"{value:.1f} %" if self.unit == "%" else f"{value:.2f} {self.unit}".strip()


def instructions(parts: Mapping[str, Figures]) -> tuple[Figures, str]:
    """Those of user and kernel where the processor counts them, else the user's under callgrind."""
    if SUM in parts["time"].methods:
        return parts["time"], SUM
    return parts["instructions"], USER


def _instructions(case: Case, peer: str) -> Callable[[Mapping[str, Figures]], float | None]:
    def measure(parts: Mapping[str, Figures]) -> float | None:
        figures, quantity = instructions(parts)
        return figures.ratio(case.name, OURS, peer, quantity)

    return measure


def _time(case: Case) -> Callable[[Mapping[str, Figures]], float | None]:
    return lambda parts: parts["time"].ratio(case.name, OURS, PEER, CPU)


def outside(case: Case, parts: Mapping[str, Figures]) -> float | None:
    """The share of a handshake's instructions that is neither OpenSSL's nor libc's, in percent."""
    figures = parts["instructions"]
    total = figures.median(case.name, OURS, USER)
    if not total:
        return None
    return 100 * sum(figures.median(case.name, OURS, SHARE + owner) or 0 for owner in OUTSIDE) / total


def _stapling(case: Case) -> Callable[[Mapping[str, Figures]], float | None]:
    def measure(parts: Mapping[str, Figures]) -> float | None:
        return stapling_adds(case, OURS, parts)

    return measure


def stapling_adds(case: Case, server: str, parts: Mapping[str, Figures]) -> float | None:
    """What a handshake with a staple costs more than one whose client does not ask, in percent."""
    figures, quantity = instructions(parts)
    bare = Case(case.kind, case.version, asks=False)
    stapled, unstapled = (figures.median(each.name, server, quantity) for each in (case, bare))
    return 100 * (stapled / unstapled - 1) if stapled and unstapled else None


def _ends(figures: Figures, quantity: str) -> tuple[str, str] | None:
    """The least and the greatest number of sites that all of it was measured with."""
    cases = [case for case in figures.cases() if figures.median(case, OURS, quantity) is not None]
    return (cases[0], cases[-1]) if len(cases) > 1 else None


def _start(parts: Mapping[str, Figures]) -> float | None:
    figures = parts["sites"]
    ends = _ends(figures, START)
    return figures.ratio(ends[1], OURS, PEER, START) if ends else None


def _cost_of_sites(parts: Mapping[str, Figures]) -> float | None:
    """By round, since these alternate between the numbers of sites."""
    figures = parts["sites"]
    quantity = SUM if SUM in figures.methods else CPU
    ends = _ends(figures, quantity)
    if ends is None:
        return None
    one, many = (figures.by_round(case, OURS, quantity) for case in ends)
    ratios = [many[number] / one[number] for number in many if one.get(number)]
    return statistics.median(ratios) if ratios else None


def memory_per_site_kib(server: str, figures: Figures) -> float | None:
    """What a server grows by, over the number of sites that it grows by."""
    ends = _ends(figures, MEMORY)
    if ends is None:
        return None
    little, much = (figures.median(case, server, MEMORY) for case in ends)
    if little is None or much is None:
        return None
    few, many = (int(case.partition(" ")[0].replace(",", "")) for case in ends)
    return (much - little) * 1024 / (many - few)


def _memory(parts: Mapping[str, Figures]) -> float | None:
    ours, peers = (memory_per_site_kib(server, parts["sites"]) for server in (OURS, PEER))
    return ours / peers if ours is not None and peers else None


TARGETS: Sequence[Target] = (
    Target("instructions, full TLS 1.3 ECDSA, stapled", 0.9, "x nginx", _instructions(FULL, PEER)),
    Target("the same", 0.55, "x Apache", _instructions(FULL, "Apache")),
    Target("instructions, full TLS 1.3 RSA-2048, stapled", 0.97, "x nginx", _instructions(RSA, PEER)),
    Target("instructions, resumed TLS 1.3", 0.75, "x nginx", _instructions(RESUMED, PEER)),
    Target("instructions, full TLS 1.2 ECDSA, stapled", 1.2, "x nginx", _instructions(FULL_12, PEER)),
    Target("instructions, resumed TLS 1.2", 1.3, "x nginx", _instructions(RESUMED_12, PEER)),
    Target("CPU time, full TLS 1.3 ECDSA, stapled", 1.2, "x nginx", _time(FULL)),
    Target("CPU time, full TLS 1.3 RSA-2048, stapled", 1.2, "x nginx", _time(RSA)),
    Target("CPU time, full TLS 1.2 ECDSA, stapled", 1.2, "x nginx", _time(FULL_12)),
    Target("CPU time, full TLS 1.2 RSA-2048, stapled", 1.2, "x nginx", _time(Case("rsa", "1.2"))),
    Target("outside OpenSSL and libc, full TLS 1.3 ECDSA", 10, "%", lambda parts: outside(FULL, parts)),
    Target("outside OpenSSL and libc, full TLS 1.2 ECDSA", 10, "%", lambda parts: outside(FULL_12, parts)),
    Target("outside OpenSSL and libc, resumed TLS 1.3", 10, "%", lambda parts: outside(RESUMED, parts)),
    Target("outside OpenSSL and libc, resumed TLS 1.2", 10, "%", lambda parts: outside(RESUMED_12, parts)),
    Target("stapling adds, full TLS 1.3 ECDSA", 2, "%", _stapling(FULL)),
    Target("stapling adds, full TLS 1.2 ECDSA", 2, "%", _stapling(FULL_12)),
    Target("start with the most sites, stapling from files", 1 / 3, "x nginx", _start),
    Target("cost of a handshake, the most sites beside one", 1.05, "x one site", _cost_of_sites),
    Target("memory of a site", 1.0, "x nginx", _memory),
)
