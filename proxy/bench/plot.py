"""Three plots of a run: how latencies are spread, how many handshakes came when, and what staples came when. PURE."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from proxy.bench.outcomes import StapleOutcome
from proxy.bench.report import duration_words
from proxy.bench.tally import Second
from proxy.svg import LEFT, RIGHT, Axis, band, drawing, line, text, time_axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from proxy.bench.histogram import Histogram
    from proxy.bench.tally import Tally

STROKES = {
    # What is drawn over a square of 8 in the outcome's colour; good is plain.
    StapleOutcome.GOOD: "",
    StapleOutcome.REVOKED: "M-2 -2L10 10M2 -2L10 6M-2 2L6 10",
    StapleOutcome.OTHER: "M2 0V8M6 0V8",
    StapleOutcome.INVALID: "M-2 10L10 -2M-2 -2L10 10",
    StapleOutcome.MISSING: "M4 3.2V4.8M0 -0.8V0.8M8 -0.8V0.8M0 7.2V8.8M8 7.2V8.8",
    StapleOutcome.RESUMED: "M-2 10L10 -2",
    StapleOutcome.NOT_ASKED: "M0 2H8M0 6H8",
}
CURVES = {"total": "curve-1", "handshake": "curve-2", "connect": "curve-3", "first_byte": "curve-4"}
"""Latencies that are drawn, and the class of each one's line; they differ in dashes too."""
_TOP, _BOTTOM = 20, 240
_BAND_TOP, _BAND_BOTTOM = 10, 80
_AXIS_ROOM = 38
_QUANTILES = (
    (0.0, "0"),
    (0.5, "p50"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
    (0.99999, "p99.999"),
)
_MAX_POINTS = 400
_MAX_COLUMNS = 300


def latency_plot(histograms: Mapping[str, Histogram]) -> str:
    """Every quantile of each latency; the further to the right, the rarer, ten times with each step."""
    shown = {name: each for name, each in histograms.items() if each.total}
    clients = max((each.total for each in shown.values()), default=1)
    # As far to the right as one client among all.
    last = max(math.log10(clients), 1.0)
    least = min((max(each.min, 1) for each in shown.values()), default=1)
    most = max((max(each.max, 10) for each in shown.values()), default=10)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    high = max(high, low + 1)

    def x(part: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(-math.log10(max(1 - part, 10**-last)) / last, 1)

    def y(nanoseconds: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (math.log10(max(nanoseconds, 10**low)) - low) / (high - low)

    parts = [line("axis", LEFT, _BOTTOM, RIGHT, _BOTTOM)]
    for decade in range(low, high + 1):
        parts += [line("grid", LEFT, y(10**decade), RIGHT, y(10**decade))]
        parts += [text("end", LEFT - 8, y(10**decade) + 4, duration_words(10**decade))]
    for part, words in _QUANTILES:
        if part == 0 or -math.log10(1 - part) <= last:
            parts += [
                line("axis", x(part), _BOTTOM, x(part), _BOTTOM + 4),
                text("middle", x(part), _BOTTOM + 18, words),
            ]
    parts += [text("middle", (LEFT + RIGHT) / 2, _BOTTOM + 34, "quantile")]
    for name, histogram in shown.items():
        points = _thinned([(x(part), y(value)) for part, value in _curve(histogram)])
        parts.append(_path(CURVES[name], points))
    return drawing("latency by quantile", _BOTTOM + _AXIS_ROOM, parts)


def rate_plot(tally: Tally) -> str:
    """Handshakes in each second, and failures below them."""
    seconds = _columns(tally)
    # The last second is seldom a whole one.
    length_s = max(tally.elapsed_s, 1.0)
    axis = Axis(length_s)
    rates = [
        (index, index + width, each.total.total / width, each.failures / width)
        for index, width, each in _spans(seconds, length_s)
    ]
    highest = _round_up(max((max(done, failed) for *_, done, failed in rates), default=1.0))

    def y(rate: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * min(rate / highest, 1)

    parts = [*time_axis(axis, _BOTTOM)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [line("grid", LEFT, y(highest * share), RIGHT, y(highest * share))]
        parts += [text("end", LEFT - 8, y(highest * share) + 4, f"{highest * share:g}")]
    for place, kind in ((2, "curve-1"), (3, "curve-fail")):
        if any(each[place] for each in rates):
            points = [(axis.x(at), y(each[place])) for each in rates for at in each[:2]]
            parts.append(_path(kind, points))
    return drawing("handshakes per second", _BOTTOM + _AXIS_ROOM, parts)


def staple_plot(tally: Tally) -> str:
    """What staples the clients of each second were given, by their shares."""
    seconds = _columns(tally)
    count = min(_MAX_COLUMNS, max(len(seconds), 1))
    axis = Axis(max(len(seconds), 1))
    columns = []
    for column in range(count):
        found = seconds[column * len(seconds) // count : (column + 1) * len(seconds) // count]
        sums = {each: sum(second.staples[each] for second in found) for each in StapleOutcome}
        total = sum(sums.values())
        if total:
            columns.append((column, tuple((str(each), of / total) for each, of in sums.items() if of)))
    parts = [
        *time_axis(axis, _BAND_BOTTOM + 6),
        text("end", LEFT - 8, (_BAND_TOP + _BAND_BOTTOM) / 2 + 4, "staples"),
        *_gaps(columns, count, axis),
    ]
    return drawing("outcomes of the staples over time", _BAND_BOTTOM + 6 + _AXIS_ROOM, parts)


def _gaps(columns: Sequence[tuple[int, tuple[tuple[str, float], ...]]], count: int, axis: Axis) -> Iterator[str]:
    """Draw the columns that follow each other as one band: a second in which no handshake ended is left blank."""
    begin = 0
    for place in range(1, len(columns) + 1):
        if place == len(columns) or columns[place][0] != columns[place - 1][0] + 1:
            yield from band(columns[begin:place], count, axis, _BAND_TOP, _BAND_BOTTOM)
            begin = place


def _curve(histogram: Histogram) -> Iterator[tuple[float, int]]:
    yield 0.0, histogram.min
    buckets = list(histogram.buckets())
    for (value, _), reached in zip(buckets, accumulate(count for _, count in buckets), strict=True):
        yield reached / histogram.total, value


def _columns(tally: Tally) -> list[Second]:
    return [tally.seconds.get(index) or Second() for index in range(max(tally.seconds, default=-1) + 1)]


def _spans(seconds: Sequence[Second], length_s: float) -> Iterator[tuple[int, float, Second]]:
    """Each second with its begin and how much of it there was; what is left of the last may be too little to draw."""
    for index, each in enumerate(seconds):
        width = min(1.0, length_s - index)
        if width >= 0.2:
            yield index, width, each


def _round_up(value: float) -> float:
    """The next number of the kind 1, 2 or 5 times a power of ten, four of which can be named."""
    power = 10.0 ** math.floor(math.log10(max(value, 1)))
    return next(factor * power for factor in (1, 2, 4, 5, 8, 10) if factor * power >= value)


def _thinned(points: list[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Leave out what lies on the same unit of the page; the last one stays."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) >= (RIGHT - LEFT) / _MAX_POINTS:
            kept.append(point)
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


def _path(kind: str, points: Iterable[tuple[float, float]]) -> str:
    drawn = "".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return f'<path class="curve {kind}" d="{drawn}"/>'
