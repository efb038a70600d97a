"""What the head of an answer says of time, and by which mark it can be asked for again. Nothing is judged here.

`fields` are an answer's header fields by lower-case name, the lines of one name joined with commas (RFC 9110 5.3).
Ages and ends are told by the sender's own clock, its Date, so that a clock of ours that is off shortens nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ETAG_LENGTH = 256
"""It is kept for each certificate and sent back; those of the field are below 100."""
LONGEST_S = 2.0**31
"""RFC 9111 1.2.2: what a number too large to hold stands for."""

_DIRECTIVE = re.compile(r'([\w-]+)(?:\s*=\s*("[^"]*"|[^\s,]*))?', re.ASCII)  # a quoted value may hold commas
_ENTITY_TAG = re.compile(r'(?:W/)?"[!#-~]*"')


def max_age_s(fields: Mapping[str, str], now: datetime) -> float | None:
    """How much longer the answer is the newest one (RFC 9111 4.2); None: it does not say.

    `s-maxage` is for caches that many share. We keep for ourselves, what we keep is signed with its own dates, and so
    `no-store` and `no-cache` mean only that a newer one may be there at any time: 0.
    """
    directives: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(fields.get("cache-control", "")):
        directives.setdefault(match[1].lower(), (match[2] or "").strip('"'))  # RFC 9111 4.2.1: the first counts
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    if "max-age" in directives:
        lifetime_s = _seconds(directives["max-age"])
    elif "expires" in fields:
        lifetime_s = _seconds_until(fields["expires"], fields, now)
    else:
        return None
    if lifetime_s is None:  # RFC 9111 4.2.1 and 5.3: what cannot be read is over, "Expires: 0" above all
        return 0.0
    age_s = _seconds(fields.get("age", "").partition(",")[0].strip()) or 0.0
    return max(0.0, lifetime_s - age_s)


def retry_after_s(fields: Mapping[str, str], now: datetime) -> float | None:
    """How long we are asked to wait (RFC 9110 10.2.3: seconds, or a date); None: it does not say."""
    text = fields.get("retry-after", "").strip()
    seconds = _seconds(text)
    return _seconds_until(text, fields, now) if seconds is None else seconds


def entity_tag(fields: Mapping[str, str]) -> str | None:
    """The ETag (RFC 9110 8.8.3), weak or strong, as it is; None: there is none that could be sent back."""
    tag = fields.get("etag", "").strip()
    return tag if len(tag) <= MAX_ETAG_LENGTH and _ENTITY_TAG.fullmatch(tag) else None


def _seconds(text: str) -> float | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return LONGEST_S if len(text) > 10 else min(float(text), LONGEST_S)


def _seconds_until(text: str, fields: Mapping[str, str], now: datetime) -> float | None:
    """From the answer's Date; without one it counts as of now (RFC 9110 6.6.1)."""
    until = _date(text)
    return None if until is None else max(0.0, (until - (_date(fields.get("date", "")) or now)).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # what it raises for texts that are no dates
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)  # asctime's form names no zone (RFC 9110 5.6.7)
