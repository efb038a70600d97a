"""Plots over time as inline SVG: what all of them are made of. PURE.

Colours and their dark twins are the page's (`page`): here are classes and patterns. What a band shows can be told
without colour too: each kind has strokes of its own, and its word stands in the band where there is room for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Word = TypeVar("Word", bound=str)
"""A kind of thing that is drawn; often of an enum."""

WIDTH = 960
LEFT, RIGHT = 64, 946
CHARACTER = 7.0
"""Width of a letter at the size of 12, rather too much than too little."""
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_MAX_TICKS = 12


@dataclass(frozen=True, slots=True)
class Axis:
    """From seconds to the place on the page."""

    seconds: float

    def x(self, at_s: float) -> float:
        return LEFT + (RIGHT - LEFT) * at_s / self.seconds


def css_class(word: str) -> str:
    return f"o-{word.lower()}"


def patterns(strokes: Mapping[Word, str]) -> str:
    """Write the patterns, once for a page: what is drawn over a square of 8 in the colour of each word."""
    found = [
        f'<pattern id="p-{word.lower()}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" class="{css_class(word)}"/><path d="{path}" class="stroke"/></pattern>'
        for word, path in strokes.items()
    ]
    # Not display: none, which would take the patterns away as well.
    return f'<svg width="0" height="0" class="defs" aria-hidden="true"><defs>{"".join(found)}</defs></svg>'


def swatch(word: str) -> str:
    """Show what the band looks like for a word."""
    return (
        '<svg class="swatch" width="24" height="14" aria-hidden="true">'
        f'<rect width="24" height="14" fill="url(#p-{word.lower()})"/></svg>'
    )


def drawing(label: str, height: int, parts: Iterable[str]) -> str:
    """One plot; `label` is read out where it cannot be seen."""
    begin = f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return "\n".join([begin, *parts, "</svg>"])


def time_axis(axis: Axis, y: float) -> Iterator[str]:
    """The line at the bottom, with ticks at round seconds."""
    step_s = next(
        (each for each in _TICKS_S if axis.seconds / each <= _MAX_TICKS), math.ceil(axis.seconds / _MAX_TICKS)
    )
    yield line("axis", LEFT, y, RIGHT, y)
    for number in range(int(axis.seconds / step_s) + 1):
        x = axis.x(number * step_s)
        yield line("axis", x, y, x, y + 4)
        yield text("middle", x, y + 18, f"{number * step_s} s")
    yield text("middle", (LEFT + RIGHT) / 2, y + 34, "seconds since the start")


def band(
    columns: Iterable[tuple[int, Sequence[tuple[str, float]]]], count: int, axis: Axis, top: float, bottom: float
) -> Iterator[str]:
    """Stack in each of `count` columns the shares of what came in it, and draw equal neighbours as one."""
    height = bottom - top
    for shares, group in groupby(columns, key=lambda each: each[1]):
        indexes = [index for index, _ in group]
        left = axis.x(indexes[0] / count * axis.seconds)
        right = axis.x((indexes[-1] + 1) / count * axis.seconds)
        lower = float(bottom)
        for word, share in shares:
            upper = lower - height * share
            # Rectangles touch, and a little overlap leaves no hairline between them.
            yield (
                f'<rect x="{left:.1f}" y="{upper:.1f}" width="{right - left + 0.3:.1f}" height="{lower - upper:.1f}" '
                f'fill="url(#p-{word.lower()})"/>'
            )
            lower = upper
        only, share = shares[0]
        if share == 1 and (fits := fitting((only,), right - left)):
            middle, wide = (left + right) / 2, len(fits) * CHARACTER + 10
            y = (top + bottom) / 2
            yield f'<rect class="tag" x="{middle - wide / 2:.1f}" y="{y - 10}" width="{wide:.1f}" height="20" rx="3"/>'
            yield text("middle", middle, y + 4, fits)


def fitting(words: Sequence[str], width: float) -> str | None:
    """The first of these that has room."""
    return next((each for each in words if len(each) * CHARACTER + 12 <= width), None)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(anchor: str, x: float, y: float, words: str) -> str:
    return f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
