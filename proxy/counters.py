"""What the workers count, in shared memory that the master makes before it forks.

Each worker has a sheet of its own, and is the only one who writes there: a count is one word, so that nobody sees it
half written, and adding to it costs a twentieth of a microsecond. Nothing has to be published, so nothing is lost when
a worker is killed, but the last second of bytes and latencies; its successor goes on in the same sheet. While a worker
of an earlier generation still drains, the one that has its number now has another sheet; the number's counts are the
sum of both. So no count ever goes back, except that all begin again when a reload has brought so many names of sites
that the old ones are to be forgotten.

The keeper only reads. It is forked after the sheets of its generation were taken, so that it knows them.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.counters_layout import (
    CLASSES_AT,
    FAILURE_AT,
    HANDSHAKE_AT,
    HANDSHAKES_AT,
    LATENCY_AT,
    LATENCY_S,
    LATENCY_SUM_US,
    LOST_LINES,
    MAX_COUNT,
    OPEN,
    QUICK_AT,
    QUICK_END,
    REDIRECTS_AT,
    REFUSAL_AT,
    REFUSED_AT,
    REQUESTS_AT,
    SITES_AT,
    TUNNEL_AT,
    UPSTREAM_FAILURES,
    capacity_for,
    sheet_bytes,
    site_at,
    unaccounted,
)
from proxy.counters_totals import SiteTotals, Totals, site_totals, worker_totals
from proxy.tls.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.accesslog.record import Staple
    from proxy.limits import Refusal

_MIN_FORGOTTEN = 1024
"""So many names of sites that are no more are remembered, or as many as there are now."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The memory of one worker: `sites` fit in."""

    worker: int
    sites: int
    words: memoryview


class Counters:
    """All sheets; the master's, and after a fork what the keeper reads them by."""

    def __init__(self) -> None:
        self._sites: dict[str, int] = {}
        self._sheets: list[Sheet] = []
        self._in_use: set[Sheet] = set()

    def __repr__(self) -> str:
        return f"<Counters of {len(self._sites)} sites in {len(self._sheets)} sheets, {len(self._in_use)} in use>"

    def following(self, names: Sequence[str]) -> Counters:
        """Give what counts for a configuration with these sites: this, or one that begins anew.

        That is where it would have to remember too many names that are no more. Whoever still drains goes on in its
        sheet, and nobody looks there any more.
        """
        former = len(self._sites.keys() - set(names))
        return Counters() if former > max(len(names), _MIN_FORGOTTEN) else self

    def take_all(self, names: Sequence[str], workers: int) -> Counted:
        """Take what a configuration of these sites counts in; to be given back."""
        counters = self.following(names)
        places = counters.places(names)
        return Counted(counters, tuple(counters.take(number) for number in range(workers)), places)

    def places(self, names: Sequence[str]) -> tuple[int, ...]:
        """Where each site of a configuration is counted: where it was before, if there was one of that name."""
        return tuple(site_at(self._sites.setdefault(name, len(self._sites))) for name in names)

    def take(self, worker: int) -> Sheet:
        """Take a sheet for a worker of this number, and for its successors, until it is given back."""
        for sheet in self._sheets:
            if sheet.worker == worker and sheet not in self._in_use and sheet.sites >= len(self._sites):
                break
        else:
            sites = capacity_for(len(self._sites))
            sheet = Sheet(worker, sites, memoryview(mmap.mmap(-1, sheet_bytes(sites))).cast("Q"))
            self._sheets.append(sheet)
        self._in_use.add(sheet)
        return sheet

    def give_back(self, sheet: Sheet) -> None:
        """Tell that no process writes there any more: its counts stay, and the next worker of its number goes on."""
        settle(sheet)
        self._in_use.discard(sheet)

    def totals(self, *, of_sites: bool = True) -> Totals:
        """Add up what all sheets hold. While workers count, each figure is right for some moment of the look.

        Of 10,000 busy sites and 4 workers it takes a sixth of a second; without the sites, next to nothing.
        """
        by_worker: dict[int, list[list[int]]] = {}
        for sheet in self._sheets:
            seen = sheet.words if of_sites else sheet.words[:SITES_AT]
            by_worker.setdefault(sheet.worker, []).append(seen.tolist())
        workers = {number: _sum(sheets) for number, sheets in sorted(by_worker.items())}
        sites: dict[str, SiteTotals] = {}
        if of_sites:
            words = _sum(list(workers.values()))
            for name, index in self._sites.items():
                site = site_totals(words, site_at(index))
                if site is not None:
                    sites[name] = site
        return Totals({number: worker_totals(each) for number, each in workers.items()}, sites)


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What the workers of one configuration count in."""

    counters: Counters
    sheets: tuple[Sheet, ...]
    places: tuple[int, ...]

    def by_worker(self, number: int) -> WorkerCounts:
        """Begin to count as the worker of this number; in its process."""
        return WorkerCounts(self.sheets[number], self.places)

    def give_back(self) -> None:
        """Let others go on where the workers, which are gone, have counted."""
        for sheet in self.sheets:
            self.counters.give_back(sheet)


def _sum(sheets: list[list[int]]) -> list[int]:
    """Add word by word; a shorter one was made when there were fewer sites."""
    longest = max(map(len, sheets), default=0)
    if len(sheets) == 1:
        return sheets[0]
    return list(map(sum, zip(*(each + [0] * (longest - len(each)) for each in sheets), strict=True)))


def settle(sheet: Sheet) -> None:
    """Say what came of the connections that ended with their worker. Nobody else may write there meanwhile."""
    words = sheet.words
    words[OPEN] = 0
    at = FAILURE_AT[Failure.WORKER_ENDED]
    # Held within a word: the master must outlive whatever a worker that was taken over has written.
    words[at] = min(max(words[at] + unaccounted(words), 0), MAX_COUNT)


class SiteCounts:
    """What one worker counts of one site, and of itself beside it."""

    __slots__ = ("_quick", "_site_at", "_words")

    def __init__(self, words: memoryview, quick: list[float], begin: int) -> None:
        self._words = words
        self._quick = quick
        self._site_at = begin

    def shook_hands(self, kind: tuple[int, Staple]) -> None:
        """Count a handshake that was done, of this version, see `counters_layout.VERSIONS`."""
        at, words = HANDSHAKE_AT[kind], self._words
        words[HANDSHAKES_AT + at] += 1
        words[self._site_at + at] += 1

    def refused(self) -> None:
        """Count a client that was turned away for want of a staple: of the site; who it was told to counts the rest."""
        self._words[self._site_at + REFUSED_AT] += 1

    def ended(self, status: int) -> None:
        """Count a request that is over, by what its client was told."""
        words = self._words
        words[REQUESTS_AT + status] += 1
        words[self._site_at + CLASSES_AT + status // 100] += 1

    def answered(self, elapsed_s: float) -> None:
        """Count a backend's answer, whose head came after so long."""
        quick = self._quick
        quick[LATENCY_AT + bisect_left(LATENCY_S, elapsed_s)] += 1
        quick[LATENCY_SUM_US] += elapsed_s * 1e6

    def upstream_failed(self) -> None:
        """Count a request that no backend has answered."""
        self._words[UPSTREAM_FAILURES] += 1

    def relayed(self, outcome: str) -> None:
        """Count a connection in mode tcp that is over."""
        self._words[TUNNEL_AT[outcome]] += 1


class WorkerCounts:
    """What one worker counts: made in its process, which is the one writer of the sheet."""

    def __init__(self, sheet: Sheet, places: Sequence[int]) -> None:
        """`places` is where each site is counted, in the order of the plan; see `Counters.places`."""
        settle(sheet)  # the predecessor may have been killed
        self.words = sheet.words
        self.quick: list[float] = list(self.words[QUICK_AT:QUICK_END])
        """Bytes and latencies, several of them in each request: a list takes half of the time. `tell` publishes it."""
        self.sites = [SiteCounts(self.words, self.quick, at) for at in places]
        self._lost_lines = self.words[LOST_LINES]
        self._refused = {refusal: self.words[at] for refusal, at in REFUSAL_AT.items()}

    @classmethod
    def of_nobody(cls) -> WorkerCounts:
        """Make what may be counted by where nobody looks."""
        return cls(Sheet(0, 0, memoryview(bytearray(sheet_bytes(0))).cast("Q")), ())

    def redirected(self, status: int) -> None:
        """Count a request to the redirecting port."""
        self.words[REDIRECTS_AT + status] += 1

    def tell(self, count_open: int, refused: Mapping[Refusal, int], lost_lines: int) -> None:
        """Take over what others in this worker count; to be called each second, and at its end."""
        self.words[QUICK_AT:QUICK_END] = memoryview(array("Q", map(int, self.quick)))
        self.words[OPEN] = count_open
        for refusal, count in refused.items():
            self.words[REFUSAL_AT[refusal]] = self._refused[refusal] + count
        self.words[LOST_LINES] = self._lost_lines + lost_lines
