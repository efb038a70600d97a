"""The plots of the report as SVG files: bars side by side, and lines over a number. PURE."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH, LEFT, RIGHT, TOP = 860, 80, 20, 84
_PLOT_HEIGHT, _BOTTOM = 260, 62
COLOURS = ("#0b6e99", "#c2571a", "#557a2d", "#7b4fa3", "#8a6d00", "#666666", "#aa3355")
_CHARACTER = 6.6
_QUARTERS = 4


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Group -> server -> height: a bar for each server, and a group for each kind."""
    servers = list(dict.fromkeys(server for group in groups.values() for server in group))
    top = _round_up(max((value for group in groups.values() for value in group.values()), default=1))
    wide = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    bar = wide * 0.8 / max(len(servers), 1)
    parts = []
    for place, (name, group) in enumerate(groups.items()):
        for number, server in enumerate(servers):
            if server not in group:
                continue
            height = _PLOT_HEIGHT * group[server] / top
            x, y = LEFT + wide * (place + 0.1) + bar * number, TOP + _PLOT_HEIGHT - height
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar * 0.9:.1f}" height="{height:.1f}" fill="{_colour(number)}">'
                f"<title>{escape(f'{name}: {server}: {group[server]:,.4g}')}</title></rect>"
            )
        for line, text in enumerate(name.split(", ", 2)):
            parts.append(_text("middle", LEFT + wide * (place + 0.5), TOP + _PLOT_HEIGHT + 18 + 16 * line, text))
    return _drawing(title, unit, top, servers, parts)


def lines(
    title: str, unit: str, of: str, series: Mapping[str, Sequence[tuple[float, float]]], *, is_log: bool = False
) -> str:
    """Server -> points of (number, figure); `is_log`: the axis of the numbers is logarithmic."""
    points = [point for line in series.values() for point in line]
    places = sorted({number for number, _ in points})
    scale = math.log10 if is_log else float
    low, high = (scale(choose(places, default=1)) for choose in (min, max))
    top = _round_up(max((value for _, value in points), default=1))

    def x(number: float) -> float:
        return LEFT + 20 + (WIDTH - LEFT - RIGHT - 60) * (scale(number) - low) / ((high - low) or 1)

    def y(value: float) -> float:
        return TOP + _PLOT_HEIGHT * (1 - value / top)

    parts = [_text("middle", x(number), TOP + _PLOT_HEIGHT + 18, f"{number:,.0f}") for number in places]
    parts.append(_text("middle", (LEFT + WIDTH - RIGHT) / 2, TOP + _PLOT_HEIGHT + 40, of))
    for number, (server, line) in enumerate(series.items()):
        path = " ".join(f"{x(each):.1f},{y(value):.1f}" for each, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(number)}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(each):.1f}" cy="{y(value):.1f}" r="3.5" fill="{_colour(number)}">'
            f"<title>{escape(f'{server}: {value:,.4g}')}</title></circle>"
            for each, value in line
        ]
    return _drawing(title, unit, top, list(series), parts)


def over_time(
    title: str, unit: str, series: Mapping[str, Sequence[tuple[float, float]]], away: tuple[float, float]
) -> str:
    """Name -> points of (hour, figure); `away`: from when until when something is shaded as away."""
    last = math.ceil(max(hour for line in series.values() for hour, _ in line))
    top = _round_up(max(value for line in series.values() for _, value in line))

    def x(hour: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * hour / last

    def y(value: float) -> float:
        return TOP + _PLOT_HEIGHT * (1 - value / top)

    begin, end = away
    parts = [
        f'<rect x="{x(begin):.1f}" y="{TOP}" width="{x(end) - x(begin):.1f}" height="{_PLOT_HEIGHT}" fill="#0001"/>',
        _text("middle", x((begin + end) / 2), TOP - 12, "Redis away"),
        *(_text("middle", x(hour), TOP + _PLOT_HEIGHT + 18, f"{hour}") for hour in range(last + 1)),
        _text("middle", (LEFT + WIDTH - RIGHT) / 2, TOP + _PLOT_HEIGHT + 40, "hours"),
    ]
    for number, line in enumerate(series.values()):
        path = " ".join(f"{x(hour):.1f},{y(value):.1f}" for hour, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(number)}" stroke-width="1.6"/>')
    return _drawing(title, unit, top, list(series), parts)


def _drawing(title: str, unit: str, top: float, servers: Sequence[str], parts: Sequence[str]) -> str:
    height = TOP + _PLOT_HEIGHT + _BOTTOM
    namespace, style = "http://www.w3.org/2000/svg", 'font-family="sans-serif" font-size="12"'
    head = [
        f'<svg xmlns="{namespace}" viewBox="0 0 {WIDTH} {height}" {style}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
        _text("end", LEFT - 8, TOP - 12, unit),
    ]
    return "\n".join([*head, *_legend(servers), *_grid(top), *parts, "</svg>"]) + "\n"


def _legend(servers: Sequence[str]) -> Iterator[str]:
    x, y = float(LEFT), 36
    for number, server in enumerate(servers):
        wide = 34 + len(server) * _CHARACTER
        if x + wide > WIDTH:
            x, y = float(LEFT), y + 17
        yield f'<rect x="{x:.1f}" y="{y}" width="12" height="12" fill="{_colour(number)}"/>'
        yield _text("start", x + 17, y + 10, server)
        x += wide


def _grid(top: float) -> Iterator[str]:
    for step in range(_QUARTERS + 1):
        y = TOP + _PLOT_HEIGHT * (1 - step / _QUARTERS)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield _text("end", LEFT - 8, y + 4, f"{top * step / _QUARTERS:,.5g}")


def _text(anchor: str, x: float, y: float, words: str) -> str:
    return f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _round_up(value: float) -> float:
    """Give the next of 1, 1.2, 1.6, 2, 3, 4, 6, 8, 10 times a power of ten, so that its quarters are short."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * each for each in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if power * each >= value)
