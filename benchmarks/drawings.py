"""Which plots stand beside RESULTS.md, and what is in them. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plots
from counting import CPU, USER
from growth import START
from handshakes import Case
from pressure import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from samples import Figures


def drawings(parts: Mapping[str, Figures]) -> dict[str, str]:
    """File name -> plot."""
    shown = [case.name for kind in ("ec", "rsa") for case in (Case(kind, "1.3"), Case(kind, "1.2"))]
    shown += [Case("ec", version, is_resumed=True).name for version in ("1.3", "1.2")]
    costs = {
        name: plots.bars(title, unit, _groups(parts[name], shown, quantity, scale))
        for name, title, unit, quantity, scale in (
            ("instructions", "User instructions of a handshake, stapled where it is full", "thousands", USER, 1000),
            ("time", "CPU time of a handshake, stapled where it is full", "µs", CPU, 1),
        )
    }
    return costs | {
        name: plots.lines(title, unit, of, _series(parts[part], quantity), is_log=part == "sites")
        for name, part, title, unit, of, quantity in (
            ("sites-start", "sites", "From exec to the first good handshake", "s", "sites", START),
            ("sites-memory", "sites", "Memory of all processes", "MiB", "sites", MEMORY),
            ("idle-memory", "idle", "Memory of all processes", "MiB", "idle connections", MEMORY),
        )
    }


def _groups(figures: Figures, cases: Iterable[str], quantity: str, scale: float) -> dict[str, dict[str, float]]:
    found = {
        case: {
            server: value / scale
            for server in figures.servers()
            if (value := figures.median(case, server, quantity)) is not None
        }
        for case in cases
    }
    return {case: group for case, group in found.items() if group}


def _series(figures: Figures, quantity: str) -> dict[str, list[tuple[float, float]]]:
    return {
        server: [
            (float(case.partition(" ")[0].replace(",", "")), value)
            for case in figures.cases()
            if (value := figures.median(case, server, quantity)) is not None
        ]
        for server in figures.servers()
    }
