"""Latencies counted in buckets, as HdrHistogram counts them. PURE.

A value keeps its ten highest bits, so any quantile is right within a thousandth, however long the tail. Buckets that
nothing fell into are not stored, and two histograms add up to what one would have counted: processes count alone.
The package hdrhistogram does the same in C behind ctypes; these few lines are no slower here, and need no compiler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BITS = 10
_HALF = 1 << _BITS
_EXACT = _HALF << 1
"""Below this a value is its own bucket."""


@dataclass(slots=True)
class Histogram:
    """Whole numbers from 0 on; nanoseconds, where latencies are meant."""

    counts: dict[int, int] = field(default_factory=dict)
    total: int = 0
    sum: int = 0
    min: int = 0
    """Exact, as `max` and `sum` are; 0 while nothing was counted."""
    max: int = 0

    def add(self, value: int) -> None:
        """Count one value; what lies before 0, as between two clocks, counts as 0."""
        if value < _EXACT:
            bucket = value = max(value, 0)
        else:
            shift = value.bit_length() - _BITS - 1
            bucket = (shift << _BITS) + (value >> shift)
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + 1
        if value > self.max:  # noqa: PLR1730  max() costs a call, and this is counted five times a client
            self.max = value
        if value < self.min or not self.total:
            self.min = value
        self.total += 1
        self.sum += value

    def merge(self, other: Histogram) -> None:
        """Add all that another one has counted."""
        if not other.total:
            return
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.min = min(self.min, other.min) if self.total else other.min
        self.max = max(self.max, other.max)
        self.total += other.total
        self.sum += other.sum

    @property
    def mean(self) -> float:
        return self.sum / self.total if self.total else 0.0

    def quantile(self, part: float) -> int:
        """The value that this part of all, 0 to 1, does not exceed; 0 if nothing was counted."""
        return self.quantiles((part,))[0]

    def quantiles(self, parts: Iterable[float]) -> tuple[int, ...]:
        """Several at once, in rising order of their parts."""
        found: list[int] = []
        reached, value = 0, self.min
        rest = iter(sorted(self.counts.items()))
        for part in parts:
            # The highest of 1000 values is their p99.9 only when 1000 of them have been passed.
            wanted = min(max(_ceil(part * self.total), 1), self.total)
            while reached < wanted:
                bucket, count = next(rest)
                reached += count
                value = min(_upper_end(bucket), self.max)
            found.append(self.max if wanted == self.total else value)
        return tuple(found)

    def buckets(self) -> Iterator[tuple[int, int]]:
        """The highest value of each bucket and how many fell into it, in rising order."""
        for bucket, count in sorted(self.counts.items()):
            yield min(_upper_end(bucket), self.max), count


def coarse(value: int) -> int:
    """Round up to the five highest bits: so a histogram has 32 buckets for each doubling, and not 1024."""
    shift = value.bit_length() - 6
    return value | ((1 << shift) - 1) if shift > 0 else value


def _ceil(number: float) -> int:
    # 0.999 * 1000 is a little more than 999 in floating point, and must not become 1000.
    return -int(-number // 1) if abs(number - round(number)) > 1e-9 * max(number, 1) else round(number)


def _upper_end(bucket: int) -> int:
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _BITS) - 1
    return ((bucket - (shift << _BITS) + 1) << shift) - 1
