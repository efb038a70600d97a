"""How the status page writes times, spans, sizes and shares, and escapes what came from outside. PURE."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_SPANS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
_MAX_CHARACTERS = 300
"""Of what a responder says: the log has all of it."""


NONE = "\N{EN DASH}"
NOTHING = '<span class="faint">nothing</span>'


def said(text: str, limit: int = _MAX_CHARACTERS) -> str:
    """Write what somebody else said: on one line, bounded, escaped."""
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return escape(plain if len(plain) <= limit else plain[: limit - 1] + "…")


def span(seconds: float) -> str:
    """Write how long something takes, with two units at most: ``2 d 3 h``, ``4 min``, ``9 s``."""
    whole = int(abs(seconds))
    for large_s, large, small_s, small in _SPANS:
        if whole >= large_s:
            rest = whole % large_s // small_s
            # Of ten and more of the large unit nobody needs the small one.
            return f"{whole // large_s} {large}" + (f" {rest} {small}" if rest and whole < 10 * large_s else "")
    return f"{whole} s"


def distance(moment: datetime, now: datetime) -> str:
    """Write how far away a moment is: ``in 2 h``, ``3 min ago``, ``now``."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def clock(moment: datetime) -> str:
    """Write a moment for people."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def short(begin: datetime, end: datetime) -> str:
    """Write a stretch of time; the days only where there are two."""
    if begin.date() == end.date():
        return f"{begin:%H:%M:%S} {NONE} {end:%H:%M:%S}"
    return f"{begin:%b} {begin.day}, {begin:%H:%M} {NONE} {end:%b} {end.day}, {end:%H:%M}"


def when(moment: datetime | None, now: datetime, never: str = NONE) -> str:
    """Write both: how far away, and when it is."""
    if moment is None:
        return f'<span class="faint">{escape(never)}</span>'
    return (
        f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{distance(moment, now)}'
        f"<small>{moment:%b} {moment.day}, {moment:%H:%M:%S}</small></time>"
    )


def size(count_bytes: float) -> str:
    """Write so many bytes: ``512 B``, ``64 KiB``, ``1.5 MiB``."""
    for unit in ("B", "KiB"):
        if count_bytes < 1024:
            return f"{count_bytes:.3g} {unit}" if count_bytes % 1 else f"{count_bytes:.0f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.4g} MiB"


def number(count: int) -> str:
    """Write a count, its thousands apart by a narrow space that does not break."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def share(part: float, whole: float) -> str:
    """Write a part of a whole in percent; nothing of nothing is a dash."""
    if not whole:
        return NONE
    percent = 100 * part / whole
    # What there is, or is lacking, is not rounded away.
    if 0 < percent < 0.1:
        return "&lt;0.1 %"
    if 99.9 < percent < 100:
        return "&gt;99.9 %"
    return f"{percent:.1f} %".replace(".0 %", " %")


def milliseconds(seconds: float) -> str:
    """Write how long an answer took."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
