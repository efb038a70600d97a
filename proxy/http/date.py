"""The time as HTTP writes it."""

from __future__ import annotations

from email.utils import formatdate


def http_date() -> bytes:
    """Now, as a Date field has it (RFC 9110 5.6.7)."""
    return formatdate(usegmt=True).encode("ascii")
