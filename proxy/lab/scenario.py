"""Faults over time: which one begins when, and ends when. Pure: reads data, and tells what is to be done at a time."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.lab.faults import BY_NAME, no_such_fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.lab.fault import Fault

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(s|m|h)", re.ASCII)
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_KEYS = {
    "at": 'when it begins, counted from the start, such as "30s"',
    "fault": "one of those that stapleproxy lab --list prints",
    "for": "how long it lasts",
}
_MAX_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One fault. Times count from the start of the scenario."""

    at_s: float
    fault: Fault
    for_s: float | None
    """None: until the next one, or for good."""

    @property
    def end_s(self) -> float | None:
        return None if self.for_s is None else self.at_s + self.for_s


@dataclass(frozen=True, slots=True)
class Change:
    """What happens at one moment: a fault begins, with its `step`, or one ends."""

    at_s: float
    fault: Fault
    step: Step | None
    """None: it ends, and answers are right again."""


def read_duration(text: str) -> float:
    """Read seconds out of ``30s``, ``5m`` or ``1.5h``; ValueError is a sentence."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError('must be a time with its unit, such as "30s", "5m" or "1h"')
    return float(found[1]) * _UNIT_S[found[2]]


def read_scenario(data: Mapping[str, object]) -> tuple[Step, ...]:
    """Read the tables ``[[step]]``, in any order; ConfigError has all mistakes, each at its key path."""
    problems = [Problem(key, "unknown key: a scenario has only [[step]]") for key in data if key != "step"]
    tables = data.get("step", [])
    if not isinstance(tables, list):
        raise ConfigError(*problems, Problem("step", "is a list of tables: write [[step]]"))
    if not tables:
        raise ConfigError(*problems, Problem("step", "is missing: add [[step]] with at and fault"))
    steps: list[tuple[int, Step]] = []
    for index, table in enumerate(tables):
        step, mistakes = _read_step(f"step[{index}]", table)
        problems += mistakes
        if step is not None:
            steps.append((index, step))
    steps.sort(key=lambda each: each[1].at_s)
    problems += _overlaps(steps)
    if problems:
        raise ConfigError(*problems)
    return tuple(step for _, step in steps)


def changes(steps: Sequence[Step]) -> tuple[Change, ...]:
    """List what happens, in order; `steps` are in order and do not overlap."""
    found: list[Change] = []
    for number, step in enumerate(steps, 1):
        found.append(Change(step.at_s, step.fault, step))
        end_s = step.end_s
        # Where the next begins at once, there is no moment without a fault between them.
        if end_s is not None and (number == len(steps) or end_s < steps[number].at_s):
            found.append(Change(end_s, step.fault, None))
    return tuple(found)


def _read_step(where: str, table: object) -> tuple[Step | None, list[Problem]]:
    if not isinstance(table, dict):
        return None, [Problem(where, "must be a table: [[step]]")]
    problems = [
        Problem(f"{where}.{key}", f"unknown key: a step has {', '.join(_KEYS)}") for key in table if key not in _KEYS
    ]
    problems += [Problem(f"{where}.{key}", f"is missing: {_KEYS[key]}") for key in ("at", "fault") if key not in table]
    times: dict[str, float] = {}
    for key in ("at", "for"):
        if key not in table:
            continue
        value = table[key]
        try:
            times[key] = read_duration(value if isinstance(value, str) else "")
            if key == "for" and times[key] == 0:
                raise ValueError("must be longer than nothing")
        except ValueError as error:
            problems.append(Problem(f"{where}.{key}", f"{error}, found {_shown(value)}"))
    name = table.get("fault", "")
    fault = BY_NAME.get(name) if isinstance(name, str) else None
    if fault is None and "fault" in table:
        what = no_such_fault(name) if isinstance(name, str) else f"must be text in quotes, found {_shown(name)}"
        problems.append(Problem(f"{where}.fault", what))
    if problems or fault is None:
        return None, problems
    return Step(times["at"], fault, times.get("for")), []


def _overlaps(steps: Sequence[tuple[int, Step]]) -> list[Problem]:
    """Find those that begin while the one before lasts: a responder has one fault at a time."""
    problems = []
    for (before_index, before), (index, step) in pairwise(steps):
        end_s = before.end_s
        if step.at_s < end_s if end_s is not None else step.at_s == before.at_s:
            lasts = f"begins at {before.at_s:g} s" + (f" and ends at {end_s:g} s" if end_s is not None else "")
            problems.append(
                Problem(f"step[{index}].at", f"{step.at_s:g} s is too soon after step[{before_index}], which {lasts}")
            )
    return problems


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=lambda _: "a date or a time")
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[:_MAX_SHOWN_CHARACTERS] + "…"
