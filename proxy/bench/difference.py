"""What stapling costs: rounds with it and without it in turn, and how sure the difference is. PURE.

Rounds that stand beside each other share what the machine does besides, so each pair gives one difference, and the
interval is of their mean: where the true cost lies in 95 of 100 such runs (Student's t over the pairs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.bench.tally import Tally

# The 97.5 % quantile of Student's t for 1, 2, 3 ... degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_T_OF_MANY = 1.96


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and how far the true one may lie from it; infinite, where one pair is all there is."""

    mean: float
    half_width: float

    @property
    def ends(self) -> tuple[float, float] | None:
        """The lowest and the highest; None where a single value tells nothing of that."""
        return None if math.isinf(self.half_width) else (self.mean - self.half_width, self.mean + self.half_width)

    @property
    def is_sure(self) -> bool:
        """The difference is one: 0 lies outside."""
        return abs(self.mean) > self.half_width


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure with and without a staple."""

    measure: str
    unit: str
    with_staple: float
    without: float
    difference: Interval
    """With less without, in the unit."""

    @property
    def percent(self) -> float:
        return 100 * self.difference.mean / self.without if self.without else 0.0


_MEASURES: tuple[tuple[str, str, Callable[[Tally], float]], ...] = (
    ("handshake, mean", "ns", lambda tally: tally.latencies.handshake.mean),
    ("handshake, p50", "ns", lambda tally: tally.latencies.handshake.quantile(0.5)),
    ("handshake, p99", "ns", lambda tally: tally.latencies.handshake.quantile(0.99)),
    ("handshakes", "/s", lambda tally: tally.rate),
    ("received", "bytes", lambda tally: tally.bytes_in / tally.handshakes if tally.handshakes else 0.0),
)


def order_of(pair: int) -> tuple[bool, bool]:
    """Which of a pair asks for the staple: the first one changes, so that neither always comes behind the other."""
    return (True, False) if pair % 2 == 0 else (False, True)


def interval(values: Sequence[float]) -> Interval:
    """Give the mean of at least one value with its 95 % interval."""
    if len(values) < 2:
        return Interval(fmean(values), math.inf)
    freedom = len(values) - 1
    t = _T[freedom - 1] if freedom <= len(_T) else _T_OF_MANY + 2.4 / freedom
    return Interval(fmean(values), t * stdev(values) / math.sqrt(len(values)))


def differences(pairs: Sequence[tuple[Tally, Tally]]) -> tuple[Difference, ...]:
    """Compare pairs of rounds (with, without); those in which either made no handshake are left out."""
    whole = [(a, b) for a, b in pairs if a.handshakes and b.handshakes]
    if not whole:
        return ()
    return tuple(
        Difference(
            measure,
            unit,
            fmean(of(a) for a, _ in whole),
            fmean(of(b) for _, b in whole),
            interval([of(a) - of(b) for a, b in whole]),
        )
        for measure, unit, of in _MEASURES
    )
