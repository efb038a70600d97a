"""A plot of one profile over time, as inline SVG: above what its clients were served, below how long they waited. Pure.

Colours and their dark twins are the page's (`compare_page`): here are classes and patterns. What an outcome is can be
told without colour too: each has a pattern of its own, and its word stands in the band where there is room for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from proxy.lab.compare_outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy.lab.compare_outcomes import Handshake
    from proxy.lab.compare_plan import Phase

WIDTH, HEIGHT = 960, 262
_LEFT, _RIGHT = 64, 946
_PHASES_TOP, _BAND_TOP, _BAND_BOTTOM = 18, 26, 86
_WAITS_TOP, _WAITS_BOTTOM = 102, 226
_DOT_RADIUS = 2.2
_MAX_COLUMNS = 300
"""Narrower columns would be less than three units wide."""
_CHARACTER = 7.0
"""Width of a letter at the size of 12, rather too much than too little."""
_LEAST_WAIT_S, _MOST_WAIT_S = 0.001, 20.0
_WAITS = ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"))
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_MAX_TICKS = 12

_STROKES = {
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


@dataclass(frozen=True, slots=True)
class Axis:
    """From seconds to the place on the page."""

    seconds: float

    def x(self, at_s: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * at_s / self.seconds


def css_class(outcome: Outcome) -> str:
    return f"o-{outcome.lower()}"


def patterns() -> str:
    """Write the patterns, once for a page; the plots and the legend use them."""
    found = [
        f'<pattern id="p-{outcome.lower()}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" class="{css_class(outcome)}"/><path d="{strokes}" class="stroke"/></pattern>'
        for outcome, strokes in _STROKES.items()
    ]
    # Not display: none, which would take the patterns away as well.
    return f'<svg width="0" height="0" class="defs" aria-hidden="true"><defs>{"".join(found)}</defs></svg>'


def swatch(outcome: Outcome) -> str:
    """Show what the band looks like for an outcome."""
    return (
        '<svg class="swatch" width="24" height="14" aria-hidden="true">'
        f'<rect width="24" height="14" fill="url(#p-{outcome.lower()})"/></svg>'
    )


def plot(profile: str, handshakes: Sequence[Handshake], phases: Sequence[Phase], seconds: float) -> str:
    """Draw one profile's clients, which are in order of time."""
    axis = Axis(seconds)
    label = f"{profile}: what clients were served and how long they waited, over {seconds:g} seconds"
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">',
        *_phases(phases, axis),
        *_time_axis(axis),
        *_wait_axis(),
        *_band(handshakes, axis),
        *_dots(handshakes, axis),
        "</svg>",
    ]
    return "\n".join(parts)


def _phases(phases: Sequence[Phase], axis: Axis) -> Iterator[str]:
    for phase in phases:
        left, right = axis.x(phase.begin_s), axis.x(phase.end_s)
        if phase.fault is not None:
            width, height = right - left, _WAITS_BOTTOM - _PHASES_TOP
            yield f'<rect class="trouble" x="{left:.1f}" y="{_PHASES_TOP}" width="{width:.1f}" height="{height}"/>'
            yield _line("edge", left, _PHASES_TOP, left, _WAITS_BOTTOM)
            yield _line("edge", right, _PHASES_TOP, right, _WAITS_BOTTOM)
        words = ("responder healthy", "healthy") if phase.fault is None else (f"trouble: {phase.fault.name}", "trouble")
        if word := _fitting(words, right - left):
            yield _text("middle", (left + right) / 2, _PHASES_TOP - 5, word)


def _time_axis(axis: Axis) -> Iterator[str]:
    step_s = next(
        (each for each in _TICKS_S if axis.seconds / each <= _MAX_TICKS), math.ceil(axis.seconds / _MAX_TICKS)
    )
    yield _line("axis", _LEFT, _WAITS_BOTTOM, _RIGHT, _WAITS_BOTTOM)
    for number in range(int(axis.seconds / step_s) + 1):
        x = axis.x(number * step_s)
        yield _line("axis", x, _WAITS_BOTTOM, x, _WAITS_BOTTOM + 4)
        yield _text("middle", x, _WAITS_BOTTOM + 18, f"{number * step_s} s")
    yield _text("middle", (_LEFT + _RIGHT) / 2, HEIGHT - 2, "seconds since the start")
    yield _text("end", _LEFT - 8, (_BAND_TOP + _BAND_BOTTOM) / 2 + 4, "served")


def _wait_axis() -> Iterator[str]:
    for wait_s, words in _WAITS:
        yield _line("grid", _LEFT, _y(wait_s), _RIGHT, _y(wait_s))
        yield _text("end", _LEFT - 8, _y(wait_s) + 4, words)


def _band(handshakes: Sequence[Handshake], axis: Axis) -> Iterator[str]:
    """Cut time into columns, stack in each the shares of the outcomes, and draw equal neighbours as one."""
    count = min(_MAX_COLUMNS, len({each.due_s for each in handshakes}))
    columns = [
        (index, _shares([each.outcome for each in column]))
        # Divided last: quarters of a second are exact, and none falls short of the column that it begins.
        for index, column in groupby(handshakes, key=lambda each: int(each.due_s * count / axis.seconds))
    ]
    height = _BAND_BOTTOM - _BAND_TOP
    for shares, group in groupby(columns, key=lambda each: each[1]):
        indexes = [index for index, _ in group]
        left = axis.x(indexes[0] / count * axis.seconds)
        right = axis.x((indexes[-1] + 1) / count * axis.seconds)
        bottom = float(_BAND_BOTTOM)
        for outcome, share in shares:
            top = bottom - height * share
            # Rectangles touch, and a little overlap leaves no hairline between them.
            yield (
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left + 0.3:.1f}" height="{bottom - top:.1f}" '
                f'fill="url(#p-{outcome.lower()})"/>'
            )
            bottom = top
        only, share = shares[0]
        if share == 1 and (word := _fitting((str(only),), right - left)):
            middle, wide = (left + right) / 2, len(word) * _CHARACTER + 10
            y = (_BAND_TOP + _BAND_BOTTOM) / 2
            yield f'<rect class="tag" x="{middle - wide / 2:.1f}" y="{y - 10}" width="{wide:.1f}" height="20" rx="3"/>'
            yield _text("middle", middle, y + 4, word)


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


def _fitting(words: Sequence[str], width: float) -> str | None:
    return next((each for each in words if len(each) * _CHARACTER + 12 <= width), None)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(anchor: str, x: float, y: float, words: str) -> str:
    return f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
