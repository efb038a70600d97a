"""What one process counts in one round, and how those of many add up. PURE: times are arguments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from proxy.bench.histogram import Histogram, coarse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.bench.outcomes import Failure, StapleOutcome
    from proxy.bench.staples import Verdict

SECOND_NS = 1_000_000_000
MAX_SEEN = 100_000
"""Distinct responses that are counted apart: a server may staple another one to each client."""


@dataclass(slots=True)
class Latencies:
    """Where the time went, in nanoseconds."""

    total: Histogram = field(default_factory=Histogram)
    """From when the client was due to the end of its handshake: what a stalled server cannot hide from."""
    late: Histogram = field(default_factory=Histogram)
    """From when it was due to when it began to connect: what this program takes to come to it and to make its
    ClientHello, or its limit of open connections."""
    connect: Histogram = field(default_factory=Histogram)
    handshake: Histogram = field(default_factory=Histogram)
    """From the ClientHello, which goes when the connection is open, to the end of the handshake."""
    first_byte: Histogram = field(default_factory=Histogram)
    """From a request to the first byte of its answer."""

    def merge(self, other: Latencies) -> None:
        for each in fields(self):
            getattr(self, each.name).merge(getattr(other, each.name))


@dataclass(slots=True)
class Second:
    """One second of a round."""

    total: Histogram = field(default_factory=Histogram)
    """Right within a thirtieth: a run of hours has thousands of these."""
    staples: Counter[StapleOutcome] = field(default_factory=Counter)
    failures: int = 0

    def add(self, total_ns: int, outcome: StapleOutcome) -> None:
        self.total.add(coarse(total_ns))
        self.staples[outcome] += 1

    def merge(self, other: Second) -> None:
        self.total.merge(other.total)
        self.staples += other.staples
        self.failures += other.failures


@dataclass(slots=True)
class SeenStaple:
    """One distinct response, however often it came; times are unix seconds."""

    size: int
    this_update: float | None
    serve_until: float | None
    count: int
    first: float
    last: float

    def merge(self, other: SeenStaple) -> None:
        self.count += other.count
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)


@dataclass(slots=True)
class Uncounted:
    """Clients of ramp and warm-up: the server has seen them, and they are in nothing else that is told."""

    handshakes: int = 0
    resumed: int = 0
    """Of the handshakes."""
    failed: int = 0

    def add(self, *, is_done: bool, is_resumed: bool, has_failed: bool) -> None:
        self.handshakes += is_done
        self.resumed += is_done and is_resumed
        self.failed += has_failed

    def merge(self, other: Uncounted) -> None:
        self.handshakes += other.handshakes
        self.resumed += other.resumed
        self.failed += other.failed


@dataclass(slots=True)
class Tally:
    """All that is told of a round; begins and ends are of the machine's monotonic clock."""

    begin_ns: int
    """From here on clients are counted."""
    end_ns: int = 0
    """When the last one was done."""
    latencies: Latencies = field(default_factory=Latencies)
    staples: Counter[tuple[StapleOutcome, str]] = field(default_factory=Counter)
    """With the reason, "" where none is needed."""
    seen: dict[bytes, SeenStaple] = field(default_factory=dict)
    """By digest; at most MAX_SEEN."""
    failures: Counter[tuple[Failure, str]] = field(default_factory=Counter)
    """The kind with its detail."""
    resumed: int = 0
    protocols: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """TLS version, cipher and group."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Of HTTP answers."""
    bytes_in: int = 0
    bytes_out: int = 0
    warmup: Uncounted = field(default_factory=Uncounted)
    connections: int = 0
    """All that were opened, those of ramp and warm-up too: as many as the server has accepted."""
    verified: int = 0
    """How often a staple's signature was looked at."""
    seconds: dict[int, Second] = field(default_factory=dict)
    """From `begin_ns`, by when the client was done."""

    @property
    def handshakes(self) -> int:
        return self.latencies.total.total

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def elapsed_s(self) -> float:
        return max(self.end_ns - self.begin_ns, 0) / SECOND_NS

    @property
    def rate(self) -> float:
        """Handshakes per second, to the end of the last one; 0 if none was made."""
        return self.handshakes / self.elapsed_s if self.handshakes and self.elapsed_s else 0.0

    def second(self, now_ns: int) -> Second:
        """The second that is now, of those that are counted; also moves the end."""
        self.end_ns = max(self.end_ns, now_ns)
        index = (now_ns - self.begin_ns) // SECOND_NS
        found = self.seconds.get(index)
        if found is None:
            found = self.seconds[index] = Second()
        return found

    def fail(self, kind: Failure, detail: str, now_ns: int) -> None:
        """Count a client that did not get what it came for."""
        self.failures[kind, detail] += 1
        self.second(now_ns).failures += 1

    def see(self, verdict: Verdict, now: float) -> None:
        """Count a staple; a new one only while there is room."""
        seen = self.seen.get(verdict.digest)
        if seen is not None:
            seen.count += 1
            seen.last = now
        elif len(self.seen) < MAX_SEEN:
            self.seen[verdict.digest] = SeenStaple(verdict.size, verdict.this_update, verdict.serve_until, 1, now, now)

    def add_to_warmup(self, other: Tally) -> None:
        """Add a round that was for warming up only."""
        self.connections += other.connections
        self.warmup.merge(other.warmup)
        self.warmup.merge(Uncounted(other.handshakes, other.resumed, other.failed))

    def merge(self, other: Tally) -> None:
        """Add what another process has counted in the same round."""
        self.begin_ns = min(self.begin_ns, other.begin_ns)
        self.end_ns = max(self.end_ns, other.end_ns)
        self._add(other, 0)

    def append(self, other: Tally) -> None:
        """Add another round, as if it had followed this one at once."""
        shift = max(self.seconds, default=-1) + 1
        self.end_ns += max(other.end_ns - other.begin_ns, 0)
        self._add(other, shift)

    def _add(self, other: Tally, shift: int) -> None:
        self.latencies.merge(other.latencies)
        self.staples += other.staples
        self.failures += other.failures
        self.protocols += other.protocols
        self.statuses += other.statuses
        self.resumed += other.resumed
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.warmup.merge(other.warmup)
        self.connections += other.connections
        self.verified += other.verified
        for key, seen in other.seen.items():
            mine = self.seen.get(key)
            if mine is not None:
                mine.merge(seen)
            elif len(self.seen) < MAX_SEEN:
                self.seen[key] = replace(seen)
        for index, second in other.seconds.items():
            self.seconds.setdefault(index + shift, Second()).merge(second)


def merged(tallies: Iterable[Tally]) -> Tally:
    """All processes of one round as one; there is at least one, and the first is changed."""
    first, *rest = tallies
    for each in rest:
        first.merge(each)
    return first


def chained(tallies: Iterable[Tally]) -> Tally:
    """Several rounds as one that had no pauses; there is at least one, and none is changed."""
    rounds = list(tallies)
    whole = Tally(rounds[0].begin_ns, rounds[0].begin_ns)
    for each in rounds:
        whole.append(each)
    return whole
