"""What a connection to one site begins with.

Most of what a context of OpenSSL's holds is the same for all sites: ciphers, groups and signature algorithms, which it
works out anew for each context. That takes five times as long as to read a certificate and its key, and 15 kB. So where
many sites differ in nothing but these two they share a context, and each connection is given its site's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from OpenSSL import SSL

    from proxy.identity import CacheKey
    from proxy.tls.inline import InlineLookup


@dataclass(frozen=True, slots=True)
class Own:
    """What a site has of its own where it shares a context."""

    session_id: bytes
    """In each ticket: it resumes with this site only, whoever shares the context, and with it the tickets' keys."""
    certificate: object
    """OpenSSL's, as the key is."""
    key: object


@dataclass(frozen=True, slots=True, eq=False)
class SiteContext:
    """What a connection to one site begins with."""

    context: SSL.Context
    app: object
    """Handed back for each connection."""
    where: str
    own: Own | None
    """None: the context is this site's alone, and holds its certificates."""
    cache_key: CacheKey | None
    """Of its only certificate."""
    key_of: Callable[[SSL.Connection], CacheKey]
    """Tells which of several certificates OpenSSL has chosen."""
    is_staple_required: bool
    inline: InlineLookup | None
