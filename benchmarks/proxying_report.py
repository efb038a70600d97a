"""What a run on many servers has found: the tables, with the ratios judged by their targets."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from compare import OURS, ratios_by_round
from counting import CPU, SUM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Target:
    """What our cost over a peer's has to be."""

    most: float
    least: float = 0.0

    def judge(self, ratio: float) -> str:
        said = f"at most {self.most:.2f}" if not self.least else f"{self.least:.2f} to {self.most:.2f}"
        return f"{said}: {'met' if self.least <= ratio <= self.most else 'missed'}"


@dataclass(frozen=True, slots=True)
class Costs:
    """One server's cost of one unit of work, by round."""

    work: str
    server: str
    quantity: str
    method: str
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass(frozen=True, slots=True)
class Report:
    """Targets are judged by instructions of user and kernel together, or by CPU time where those were not counted."""

    machine: Mapping[str, str]
    missing: Sequence[str]
    units: Mapping[str, str]
    """By the work's name."""
    targets: Mapping[str, Mapping[str, Target]]
    costs: Sequence[Costs]

    def json(self) -> str:
        rows = [asdict(each) | {"ratio": _median(self._ratios(each))} for each in self.costs]
        return json.dumps({"machine": self.machine, "missing": self.missing, "rows": rows}, indent=2)

    def markdown(self) -> str:
        facts = [f"{name}: {value}" for name, value in self.machine.items()]
        lines = [f"- {fact}" for fact in [*facts, *self.missing]]
        for work, unit in self.units.items():
            lines += ["", f"**{work}**, per {unit}", "", *self._table(work)]
        return "\n".join(lines)

    def _table(self, work: str) -> list[str]:
        here = [each for each in self.costs if each.work == work]
        methods = {each.quantity: each.method for each in here}
        judged = next(quantity for quantity in (SUM, CPU, *methods) if quantity in methods)
        others = [quantity for quantity in methods if quantity != judged]
        heads = ["server", f"{judged}, {methods[judged]}", f"{OURS} ÷ it", "range", "target"]
        heads += [f"{quantity}, {methods[quantity]} ({OURS} ÷ it)" for quantity in others]
        lines = [_line(heads), _line(["---", "---:", "---:", "---", "---", *("---:" for _ in others)])]
        for server in dict.fromkeys(each.server for each in here):
            found = {each.quantity: each for each in here if each.server == server}
            if judged in found:
                lines.append(_line([server, *self._judged(found[judged]), *map(self._other, map(found.get, others))]))
        return lines

    def _judged(self, costs: Costs) -> list[str]:
        if costs.server == OURS:
            return [_figure(costs.median), "", "", ""]
        ratios = self._ratios(costs)
        ratio = _median(ratios)
        if ratio is None:
            return [_figure(costs.median), "", "", ""]
        target = self.targets[costs.work].get(costs.server)
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}" if len(ratios) > 1 else ""
        return [_figure(costs.median), f"{ratio:.2f}", spread, target.judge(ratio) if target else ""]

    def _other(self, costs: Costs | None) -> str:
        if costs is None:
            return ""
        figure = _figure(costs.median)
        ratio = _median(self._ratios(costs))
        return figure if costs.server == OURS or ratio is None else f"{figure} ({ratio:.2f})"

    def _ratios(self, costs: Costs) -> list[float]:
        ours = next(
            each.rounds
            for each in self.costs
            if (each.work, each.server, each.quantity, each.method) == (costs.work, OURS, costs.quantity, costs.method)
        )
        return ratios_by_round(ours, costs.rounds)


def _median(ratios: Sequence[float]) -> float | None:
    return statistics.median(ratios) if ratios else None


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1}f}"
