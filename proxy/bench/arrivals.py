"""When clients come, who of them resumes, and which name each asks for. PURE.

All of it follows from the number of an arrival: no chance is needed, any process can reckon its own part, and a run
can be repeated exactly.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Self

from proxy.errors import ConfigError, Problem
from proxy.names import host_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples fall more evenly into [0, 1) than chance would have them, and in step with no other share."""
_MAX_NAMES = 1_000_000
_MAX_WEIGHT = 1e9
"""The sum of all is to be a number."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """An open loop: clients come on schedule, whether or not those before them were served."""

    rate: float
    """In a second, once it is reached."""
    ramp_s: float = 0.0
    """So long it rises, evenly and from nothing."""

    def due_s(self, number: int) -> float:
        """When the client of this number is due, from the start; the first is number 0."""
        in_ramp = self.rate * self.ramp_s / 2
        if number < in_ramp:
            return math.sqrt(2 * self.ramp_s * number / self.rate)
        return self.ramp_s + (number - in_ramp) / self.rate

    def first_from(self, at_s: float) -> int:
        """The number of the first client that is due then or later."""
        if at_s < self.ramp_s:
            number = math.ceil(at_s * at_s * self.rate / (2 * self.ramp_s))
        else:
            number = max(math.ceil(self.rate * self.ramp_s / 2 + (at_s - self.ramp_s) * self.rate), 0)
        # Rounding may have gone one too far, either way.
        while number and self.due_s(number - 1) >= at_s:
            number -= 1
        while self.due_s(number) < at_s:
            number += 1
        return number


def share_of(count: int, index: int, parts: int) -> int:
    """How many of `count` fall to one of `parts` when they are dealt out one by one."""
    return count // parts + (index < count % parts)


def is_in_share(number: int, share: float) -> bool:
    """Tell whether this arrival is of those that make up `share`, spread evenly: of any n there are about share * n."""
    return math.floor((number + 1) * share) > math.floor(number * share)


@dataclass(frozen=True, slots=True)
class Names:
    """Server names to ask for, each as often as its weight says."""

    names: tuple[str, ...]
    ends: tuple[float, ...]
    """Of each name's piece of [0, total)."""

    @classmethod
    def of(cls, weighted: Sequence[tuple[str, float]]) -> Self:
        return cls(tuple(name for name, _ in weighted), tuple(accumulate(weight for _, weight in weighted)))

    def pick(self, number: int) -> str:
        """The name that the client of this number asks for; "" asks for none."""
        if len(self.names) == 1:
            return self.names[0]
        place = (number + 0.5) * _GOLDEN % 1 * self.ends[-1]
        return self.names[min(bisect_right(self.ends, place), len(self.names) - 1)]


def read_names(text: str, where: str) -> Names:
    """Read lines of a name and, if it has one, its weight; ConfigError with all mistakes at once."""
    found: list[tuple[str, float]] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            found.append(_weighted(words))
        except ValueError as error:
            problems.append(Problem(f"{where}, line {number}", str(error)))
    if not found and not problems:
        problems.append(Problem(where, "holds no name: write one a line, with its weight behind it if it has one"))
    if len(found) > _MAX_NAMES:
        problems.append(Problem(where, f"holds {len(found)} names: at most {_MAX_NAMES} are taken"))
    if problems:
        raise ConfigError(*problems)
    return Names.of(found)


def _weighted(words: list[str]) -> tuple[str, float]:
    if len(words) > 2:
        raise ValueError("must be a name and at most one weight")
    name = host_name(words[0])
    if name.startswith("*"):
        raise ValueError(f"{name} is no name that a client can ask for: write one that it stands for")
    try:
        weight = float(words[1]) if len(words) == 2 else 1.0
    except ValueError:
        weight = math.nan
    if not 0 < weight <= _MAX_WEIGHT:
        raise ValueError(f"the weight of {name} must be a number above 0, and at most {_MAX_WEIGHT:.0f}")
    return name, weight
