"""Where each count stands in the memory that one worker writes: its sheet. Pure.

    the worker's      connections, how they failed, bytes, seconds until a backend's answer
    requests          by exact status, 0 to 599; then those to the redirecting port, likewise
    sites             `SITE_WORDS` for each: handshakes by version and staple, those refused, requests by class

All are words of 8 bytes, so that one is read and written whole, without a lock. They only grow, but for OPEN.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from proxy.accesslog.record import Staple
from proxy.limits import Refusal
from proxy.tls.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD_BYTES = 8
MAX_COUNT = 2 ** (8 * WORD_BYTES) - 1

TLS_CONNECTIONS, REDIRECT_CONNECTIONS, OPEN, UPSTREAM_FAILURES, LOST_LINES = range(5)
"""OPEN is how many clients are connected now."""

FAILURE_AT = {failure: 8 + number for number, failure in enumerate(Failure)}
REFUSAL_AT = {refusal: 24 + number for number, refusal in enumerate(Refusal)}

RELAYED, NO_BACKEND, LEFT = "relayed", "no-backend", "client-left"
TUNNEL_AT = {outcome: 28 + number for number, outcome in enumerate((RELAYED, NO_BACKEND, LEFT))}
"""What came of connections in mode tcp."""

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the histogram's buckets; behind the last is one more, for what took longer."""
QUICK_AT, QUICK_END = 31, 48
"""What would cost a request too much to count in shared memory: see `WorkerCounts.quick`, by these indices there."""
RECEIVED_BYTES, SENT_BYTES, LATENCY_SUM_US = range(3)
"""Bytes are those inside of TLS."""
LATENCY_AT = 3

HANDSHAKES_AT = 50
"""The sums over all sites, in the order of a site's."""

REQUESTS_AT = 64
STATUSES = 600
REDIRECTS_AT = REQUESTS_AT + STATUSES
SITES_AT = REDIRECTS_AT + STATUSES

VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
"""OpenSSL's numbers."""
OUTCOMES = (Staple.FRESH, Staple.NONE, Staple.NOT_ASKED, Staple.RESUMED)
"""Of a handshake that was done."""
HANDSHAKE_AT = {pair: number for number, pair in enumerate(product(VERSIONS, OUTCOMES))}
"""In a site's words, by version's number and staple."""
REFUSED_AT = len(HANDSHAKE_AT)
CLASSES_AT = REFUSED_AT
"""A request of status 204 is at CLASSES_AT + 2: there is no status below 100, so that the first is REFUSED_AT."""
SITE_WORDS = 16


def site_label(names: Sequence[str]) -> str:
    """What a site is called by."""
    return names[0] if names else "any name"


def site_at(index: int) -> int:
    """Where the words of a site begin."""
    return SITES_AT + index * SITE_WORDS


def capacity_for(sites: int) -> int:
    """For how many sites a sheet is made: some more may come with a reload, and fit."""
    return max(16, 1 << (sites - 1).bit_length())


def sheet_bytes(capacity: int) -> int:
    """Of a sheet for so many sites."""
    return site_at(capacity) * WORD_BYTES


def unaccounted(words: Sequence[int]) -> int:
    """How many connections have come and are neither through the handshake nor known to have failed."""
    done = sum(words[HANDSHAKES_AT + at] for at in HANDSHAKE_AT.values())
    return words[TLS_CONNECTIONS] - done - sum(words[at] for at in FAILURE_AT.values())
