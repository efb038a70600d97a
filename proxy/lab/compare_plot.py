"""A plot of one profile over time, as inline SVG: above what its clients were served, below how long they waited. Pure.

What it is made of, and what it has in common with other plots, is in `proxy.svg`.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

from proxy.lab.compare_outcomes import Outcome
from proxy.svg import LEFT, RIGHT, Axis, band, drawing, fitting, line, text, time_axis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy.lab.compare_outcomes import Handshake
    from proxy.lab.compare_plan import Phase

HEIGHT = 262
_PHASES_TOP, _BAND_TOP, _BAND_BOTTOM = 18, 26, 86
_WAITS_TOP, _WAITS_BOTTOM = 102, 226
_DOT_RADIUS = 2.2
_MAX_COLUMNS = 300
"""Narrower columns would be less than three units wide."""
_LEAST_WAIT_S, _MOST_WAIT_S = 0.001, 20.0
_WAITS = ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"))

STROKES = {
    # What is drawn over a square of 8 in the outcome's colour; good is plain.
    Outcome.GOOD: "",
    Outcome.OLD: "M-2 10L10 -2",
    Outcome.EXPIRED: "M-2 10L10 -2M-2 -2L10 10",
    Outcome.BAD: "M0 2H8M0 6H8",
    Outcome.TRY_LATER: "M2 0V8M6 0V8",
    Outcome.NONE: "M4 3.2V4.8M0 -0.8V0.8M8 -0.8V0.8M0 7.2V8.8M8 7.2V8.8",
    Outcome.ALERT: "M-2 -2L10 10M2 -2L10 6M-2 2L6 10",
    Outcome.LATE: "M4 0V8M0 4H8",
}


def plot(profile: str, handshakes: Sequence[Handshake], phases: Sequence[Phase], seconds: float) -> str:
    """Draw one profile's clients, which are in order of time."""
    axis = Axis(seconds)
    label = f"{profile}: what clients were served and how long they waited, over {seconds:g} seconds"
    parts = [
        *_phases(phases, axis),
        *time_axis(axis, _WAITS_BOTTOM),
        text("end", LEFT - 8, (_BAND_TOP + _BAND_BOTTOM) / 2 + 4, "served"),
        *_wait_axis(),
        *_band(handshakes, axis),
        *_dots(handshakes, axis),
    ]
    return drawing(label, HEIGHT, parts)


def _phases(phases: Sequence[Phase], axis: Axis) -> Iterator[str]:
    for phase in phases:
        left, right = axis.x(phase.begin_s), axis.x(phase.end_s)
        if phase.fault is not None:
            width, height = right - left, _WAITS_BOTTOM - _PHASES_TOP
            yield f'<rect class="trouble" x="{left:.1f}" y="{_PHASES_TOP}" width="{width:.1f}" height="{height}"/>'
            yield line("edge", left, _PHASES_TOP, left, _WAITS_BOTTOM)
            yield line("edge", right, _PHASES_TOP, right, _WAITS_BOTTOM)
        words = ("responder healthy", "healthy") if phase.fault is None else (f"trouble: {phase.fault.name}", "trouble")
        if word := fitting(words, right - left):
            yield text("middle", (left + right) / 2, _PHASES_TOP - 5, word)


def _wait_axis() -> Iterator[str]:
    for wait_s, words in _WAITS:
        yield line("grid", LEFT, _y(wait_s), RIGHT, _y(wait_s))
        yield text("end", LEFT - 8, _y(wait_s) + 4, words)


def _band(handshakes: Sequence[Handshake], axis: Axis) -> Iterator[str]:
    """Cut time into columns, stack in each the shares of the outcomes, and draw equal neighbours as one."""
    count = min(_MAX_COLUMNS, len({each.due_s for each in handshakes}))
    columns = [
        (index, _shares([each.outcome for each in column]))
        # Divided last: quarters of a second are exact, and none falls short of the column that it begins.
        for index, column in groupby(handshakes, key=lambda each: int(each.due_s * count / axis.seconds))
    ]
    yield from band(columns, count, axis, _BAND_TOP, _BAND_BOTTOM)


def _shares(outcomes: Sequence[Outcome]) -> tuple[tuple[Outcome, float], ...]:
    """Give the part of each outcome that came, in the order of the table."""
    return tuple((each, outcomes.count(each) / len(outcomes)) for each in Outcome if each in outcomes)


def _dots(handshakes: Sequence[Handshake], axis: Axis) -> Iterator[str]:
    # One path: zero-length strokes with round ends are dots, and a tenth of as many circles' bytes.
    points = "".join(f"M{axis.x(each.due_s):.1f} {_y(each.wait_s):.1f}h0" for each in handshakes)
    yield f'<path class="dots" d="{points}" stroke-width="{2 * _DOT_RADIUS}"/>'


def _y(wait_s: float) -> float:
    """Give the height of a wait; logarithmic, for a handshake takes milliseconds and a timeout seconds."""
    bounded_s = min(max(wait_s, _LEAST_WAIT_S), _MOST_WAIT_S)
    part = math.log(bounded_s / _LEAST_WAIT_S) / math.log(_MOST_WAIT_S / _LEAST_WAIT_S)
    return _WAITS_BOTTOM - (_WAITS_BOTTOM - _WAITS_TOP) * part
