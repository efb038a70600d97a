"""Strict-Transport-Security (RFC 6797): a site's own header goes before what its backend says, so that there is one.

Of several a browser takes the first (section 8.1), and the operator of the front is who knows whether TLS will stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.settings.modes import SiteModes

_NAME = b"strict-transport-security:"


def line(site: SiteModes) -> bytes:
    """Write the header line for all answers of a site; empty: it has none, and a backend's own is left alone."""
    if site.hsts_max_age_s is None:
        return b""
    directives = [f"max-age={site.hsts_max_age_s}"]
    if site.hsts_include_subdomains:
        directives.append("includeSubDomains")
    if site.hsts_preload:
        directives.append("preload")
    return f"Strict-Transport-Security: {'; '.join(directives)}".encode("ascii")


def put(answer: bytes, line: bytes) -> bytes:
    """Put it into a final head, instead of what is there of it; `line` empty: leave the head as it is."""
    if not line:
        return answer
    head, end, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    kept = [each for each in lines if not each.lower().startswith(_NAME)]
    return b"\r\n".join([status, line, *kept]) + end + body
