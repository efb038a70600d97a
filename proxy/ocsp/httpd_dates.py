"""The dates of a response as OpenSSL's OCSP_check_validity compares them, which mod_ssl goes by."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_WRITTEN = re.compile(
    rb"(\d{4})(\d\d)(\d\d)([01]\d|2[0-3])([0-5]\d)(?:([0-5]\d)(?:\.\d+)?)?(?:Z|[+-](?:0\d|1[0-2])[0-5]\d)", re.DOTALL
)
_PLAIN = re.compile(rb"\d{14}Z")


def is_valid(this_update: bytes, next_update: bytes | None, now_s: int, skew_s: int, max_age_s: int | None) -> bool:
    """Whether a response is one for now; `next_update` None: it is for ever, `max_age_s` None: it is never too old."""
    if not _is_time(this_update) or (next_update is not None and not _is_time(next_update)):
        return False
    start_s = _seconds(this_update)
    # A time that OpenSSL can read but not compare, as one with a fraction, is neither too early nor too late for it.
    # Else equal counts as earlier (X509_cmp_time), which is why the signs differ.
    if start_s is not None and (start_s > now_s + skew_s or (max_age_s is not None and start_s <= now_s - max_age_s)):
        return False
    if next_update is None:
        return True
    end_s = _seconds(next_update)
    if end_s is not None and end_s <= now_s - skew_s:
        return False
    # As ASN1_STRING_cmp has it: the shorter is the lesser.
    return (len(next_update), next_update) >= (len(this_update), this_update)


def _is_time(text: bytes) -> bool:
    found = _WRITTEN.fullmatch(text)
    if not found:
        return False
    year, month, day = map(int, found.groups()[:3])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return 1 <= month <= 12 and 1 <= day <= days[month - 1]


def _seconds(text: bytes) -> int | None:
    """Unix time of a time in RFC 5280's form; None for any other form."""
    if not _PLAIN.fullmatch(text):
        return None
    year, month, day, hour, minute, second = (int(text[at:end]) for at, end in _PLACES)
    if year == 0:  # before what datetime knows, and before all else
        return -(2**62)
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


_PLACES = ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14))
