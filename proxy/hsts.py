"""Strict-Transport-Security (RFC 6797): a site's own header stands in place of what its backend says.

Of several a browser takes the first (section 8.1), and the operator of the front is who knows whether TLS will stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.settings.modes import SiteModes

NAME = "Strict-Transport-Security"


def value(site: SiteModes) -> str:
    """Write the header's value for all answers of a site; empty: it has none, and a backend's own is left alone."""
    if site.hsts_max_age_s is None:
        return ""
    directives = [f"max-age={site.hsts_max_age_s}"]
    if site.hsts_include_subdomains:
        directives.append("includeSubDomains")
    if site.hsts_preload:
        directives.append("preload")
    return "; ".join(directives)
