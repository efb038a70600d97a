"""Rates that rise until the server does not keep up. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.bench.plan import MAX_RATE
from proxy.bench.report import duration_words

if TYPE_CHECKING:
    from proxy.bench.tally import Tally

MAX_STEPS = 1000
_FAILED_PART = 0.01
"""More clients than this may not fail, whatever the latency of the others is."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A quantile of `total`, and what it may be at most."""

    part: float
    name: str
    at_most_ns: int

    def __str__(self) -> str:
        return f"{self.name} of total at most {duration_words(self.at_most_ns)}"


@dataclass(frozen=True, slots=True)
class Step:
    """One rate, what came of it, and why it is too much; "" if it is not."""

    rate: float
    tally: Tally
    broken: str


def read_steps(text: str) -> tuple[float, ...]:
    """Read FROM:TO:STEP, rates per second; ValueError says what is wrong."""
    try:
        begin, end, step = map(float, text.split(":"))
    except ValueError:
        raise ValueError("write FROM:TO:STEP, three numbers of handshakes per second, such as 200:2000:200") from None
    if not (0 < begin <= end <= MAX_RATE and 0 < step < float("inf")):
        raise ValueError(f"FROM and STEP must be above 0, and TO at least FROM and at most {MAX_RATE}")
    count = int((end - begin) / step + 1e-9) + 1
    if count > MAX_STEPS:
        raise ValueError(f"these are {count} steps: at most {MAX_STEPS} are taken")
    return tuple(begin + step * number for number in range(count))


def read_goal(text: str) -> Goal:
    """Read a goal such as p99=50ms; ValueError says what is wrong."""
    found = re.fullmatch(r"p(\d{1,2}(?:\.\d{1,3})?)=(\d{1,6}(?:\.\d{1,3})?)(us|ms|s)", text)
    if not found or not float(found[1]) or not float(found[2]):
        raise ValueError("write a quantile and the longest time for it, such as p99=50ms")
    unit = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}[found[3]]
    return Goal(float(found[1]) / 100, f"p{found[1]}", int(float(found[2]) * unit))


def judge_step(rate: float, tally: Tally, goal: Goal) -> Step:
    """Tell whether the server kept up with this rate."""
    clients = tally.handshakes + tally.failed
    reached = tally.latencies.total.quantile(goal.part)
    if not clients:
        broken = "no handshake was completed"
    elif tally.failed > clients * _FAILED_PART:
        broken = f"{tally.failed} of {clients} clients failed"
    elif reached > goal.at_most_ns:
        broken = f"{goal.name} was {duration_words(reached)}"
        if 2 * tally.latencies.late.quantile(goal.part) > reached:
            broken += ", most of it because this program was late: the server may do more"
    else:
        broken = ""
    return Step(rate, tally, broken)
