"""Numbers and times as Apache reads them. PURE."""

from __future__ import annotations

import re
from ipaddress import ip_network

_LONG_MAX = 2**63 - 1
_INT_BITS = 32
_INTERVAL = re.compile(r"(\d{1,18})(ms|mi|min|mn|s|h|m)?", re.IGNORECASE | re.ASCII)
_UNITS_S = {"ms": 0.001, "s": 1, "mi": 60, "min": 60, "mn": 60, "h": 3600}
_MD_DURATION = re.compile(r"(\d{1,18})(d|h|mi|m|s|ms)?", re.ASCII)
_MD_UNITS_S = {"d": 86_400, "h": 3600, "mi": 60, "m": 60, "s": 1, "ms": 0.001}


def atoi(text: str) -> int:
    """Read as C's atoi: what is no number is 0, what follows one is passed over, and too large ones wrap."""
    found = re.match(r"[ \t\n\v\f\r]*([+-]?)(\d+)", text, re.ASCII)
    if found is None:
        return 0
    # strtol saturates, and the conversion to int keeps the low bits; int() itself refuses thousands of digits.
    magnitude = min(int(found[2].lstrip("0")[:20] or "0"), _LONG_MAX + (found[1] == "-"))
    value: int = (-magnitude if found[1] == "-" else magnitude) & (2**_INT_BITS - 1)
    return value - 2**_INT_BITS if value >> (_INT_BITS - 1) else value


def interval_s(text: str) -> float | None:
    """Read a time with an optional unit (`ap_timeout_parameter_parse`), seconds without one; None: it is none."""
    found = _INTERVAL.fullmatch(text)
    if found is None or (found[2] and found[2].lower() not in _UNITS_S):
        return None
    return int(found[1]) * _UNITS_S[(found[2] or "s").lower()]


def md_duration_s(text: str, default_unit: str) -> float | None:
    """Read a time as mod_md does; None: it is none."""
    found = _MD_DURATION.fullmatch(text)
    return None if found is None else int(found[1]) * _MD_UNITS_S[found[2] or default_unit]


def network(text: str) -> str | None:
    """Write an address or a network without the bits beyond its prefix; None: it is a name, or wrong."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return None
