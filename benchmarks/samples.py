"""What was measured, one number a line: the CSV files, and what the report asks of them."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


LEFT_OUT = "left out"
"""The quantity of a sample that says, in place of the method, why a server has none in this case."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One server's figure in one round; a cost is that of one handshake."""

    case: str
    server: str
    quantity: str
    """With its unit."""
    method: str
    round: int
    value: float


def left_out(case: str, server: str, why: object) -> Sample:
    lines = str(why).strip().splitlines() or [repr(why)]
    return Sample(case, server, LEFT_OUT, lines[0], 0, 0)


def write(path: Path, samples: Iterable[Sample]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([each.name for each in fields(Sample)])
        writer.writerows([*astuple(each)[:-1], f"{each.value:.10g}"] for each in samples)


def read(path: Path) -> list[Sample]:
    with path.open(newline="") as file:
        return [
            Sample(row["case"], row["server"], row["quantity"], row["method"], int(row["round"]), float(row["value"]))
            for row in csv.DictReader(file)
        ]


class Figures:
    """Medians and ratios of samples."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._rounds: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
        self.methods: dict[str, str] = {}
        """By quantity."""
        self.left_out: list[str] = []
        """A sentence for each server that has no figures in a case."""
        for each in samples:
            if each.quantity == LEFT_OUT:
                self.left_out.append(f"{each.server} is left out at {each.case}: {each.method}")
                continue
            self._rounds[each.case, each.server, each.quantity][each.round] = each.value
            self.methods[each.quantity] = each.method

    def median(self, case: str, server: str, quantity: str) -> float | None:
        """None: it was not measured."""
        rounds = self._rounds.get((case, server, quantity))
        return statistics.median(rounds.values()) if rounds else None

    def by_round(self, case: str, server: str, quantity: str) -> dict[int, float]:
        return self._rounds.get((case, server, quantity), {})

    def ratios(self, case: str, one: str, other: str, quantity: str) -> list[float]:
        """One server's figure over another's, by round, the least first: what slows a round down slows both down.

        Rounds too short for the clock, which a few operations can be, are left out.
        """
        ones, others = (self.by_round(case, server, quantity) for server in (one, other))
        return sorted(ones[number] / others[number] for number in ones if others.get(number))

    def ratio(self, case: str, one: str, other: str, quantity: str) -> float | None:
        found = self.ratios(case, one, other, quantity)
        return statistics.median(found) if found else None

    def cases(self) -> list[str]:
        """In the order in which they were measured, as are the servers."""
        return list(dict.fromkeys(case for case, _, _ in self._rounds))

    def servers(self) -> list[str]:
        return list(dict.fromkeys(server for _, server, _ in self._rounds))
