"""How everything stands, as one value: behind the status page, ``/api/status`` and ``stapleproxy status``. PURE.

As JSON it is what ``GET /api/status`` answers. Times are RFC 3339 in UTC, null: none or not known::

    version, now, profile                 of the program; the moment of this look; stapling.profile
    ready, reasons                        as /readyz
    generation                            see `Generation`; null: not known
    certificates                          how many there are: by state, every state of `State`, zeros too
    forecast                              until, site: until when all that is meant to be stapled is, though no
                                          responder answered from now (null: not all of it is now), and which site
                                          ends first
    sites_total, sites_matching           how many sites there are, and how many the query finds
    sites                                 the first `limit` of those, in the order of `sort`; of each:
      names                                 none: it answers to any name
      state, stapled_until                  the worst of its certificates; its forecast: until when all of it is stapled
                                            though no responder answered from now; null: not all of it is stapled
      certificates                          of each: key, certificate (the label), names, serial, not_after,
                                            must_staple, state, why (a sentence, or empty), responders,
                                            status (good, revoked, unknown), this_update, next_update, stapled_until,
                                            next_attempt (null: under way, or never), under_way, by_hand, successes,
                                            failures, troubles (of the last round: url, reason, detail)
    responders                            see `Responder`
    cache                                 see `Cache`
    traffic                               see `Traffic`; null: not counted
    fleet                                 see `Fleet`; null: nothing is shared with other machines

The query: ``?q=`` text in names, label, serial, key, reasons or responders; ``&state=`` one of `State`; ``&sort=``
attention (default), name, until, next; ``&limit=`` from 1 to 1000, 200 if not said.
"""

from __future__ import annotations

# pydantic reads the types below at run time, for JSON and its description: so what they name is imported then.
from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema

DEFAULT_LIMIT = 200
MAX_LIMIT = 1_000
MAX_QUERY_CHARACTERS = 200


class State(StrEnum):
    """How it stands with one certificate; the first needs somebody most."""

    REVOKED = "revoked"
    EXPIRED = "expired"
    MISSING = "missing"
    EXPIRING = "expiring"
    FAILING = "failing"
    WAITING = "waiting"
    STAPLED = "stapled"
    ON_DEMAND = "on-demand"
    NOT_STAPLED = "not-stapled"


URGENCY = {state: number for number, state in enumerate(State)}
MEANINGS: Mapping[State, str] = {
    State.REVOKED: "the issuer says that the certificate is revoked",
    State.EXPIRED: "the certificate itself has expired",
    State.MISSING: "there is no response to staple: clients go without, or are refused",
    State.EXPIRING: "stapled, but less than a quarter of the response's time is left, and no newer one has come",
    State.FAILING: "stapled, but no responder gave a newer one when asked last",
    State.WAITING: "nothing to staple yet: the responder is being asked",
    State.STAPLED: "stapled",
    State.ON_DEMAND: "nothing is held: it is fetched when a client asks",
    State.NOT_STAPLED: "nothing is meant to be stapled, or can be",
}
"""The sentence to each word."""


Moment = Annotated[
    datetime,
    PlainSerializer(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Sort(StrEnum):
    """Which sites come first."""

    ATTENTION = "attention"
    NAME = "name"
    UNTIL = "until"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Query:
    """Which sites are wanted."""

    text: str = ""
    state: State | None = None
    sort: Sort = Sort.ATTENTION
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why one responder did not help."""

    url: str
    reason: str
    """The code."""
    detail: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """How it stands with one certificate, for a site that is shown."""

    key: str
    certificate: str
    names: tuple[str, ...]
    serial: str
    not_after: Moment
    must_staple: bool
    state: State
    why: str
    """What there is to say about the state; empty: nothing."""
    responders: tuple[str, ...] = ()
    status: str | None = None
    this_update: Moment | None = None
    next_update: Moment | None = None
    stapled_until: Moment | None = None
    next_attempt: Moment | None = None
    under_way: bool = False
    """It is being asked for."""
    by_hand: bool = False
    """What is stapled was put there by the operator."""
    successes: int = 0
    failures: int = 0
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """How it stands with one site."""

    names: tuple[str, ...]
    state: State
    stapled_until: Moment | None
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Responder:
    """How one has been answering."""

    responder: str
    """HOST:PORT."""
    asked: int
    """Questions since the keeper started."""
    failed: int
    """Those of them that brought nothing to staple."""
    recent: int
    """Of how many questions, the last ones, the following tells."""
    recent_failed: int
    error_ratio: float
    reasons: Mapping[str, int]
    """The codes of what went wrong, and how often; the most frequent first."""
    p50_s: float
    """Half of the questions took no longer, in vain or not."""
    p90_s: float
    last_asked: Moment
    last_reason: str
    """What went wrong at the last question; empty: nothing did."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The stapling cache."""

    eviction: str
    size_bytes: int
    entries: int
    data_bytes: int
    """Of the responses held."""
    data_room_bytes: int
    entries_room: int
    hits: int
    """Look-ups in handshakes that found a response."""
    misses: int
    stores: int
    replaced: int
    evicted: int
    """Dropped before they were over, to make room."""
    expired: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the workers serve; `_per_s` is the mean of about the last minute."""

    workers: int
    """That have counted since the start."""
    connections_open: int
    connections_refused: int
    """Closed as soon as they came, by `limits`."""
    handshakes: int
    handshakes_per_s: float
    handshakes_by: Mapping[str, int]
    """By the staple: the words of the access log."""
    handshake_failures: Mapping[str, int]
    """Connections that came to no TLS session, by the reason; only those that there were."""
    requests: int
    requests_per_s: float
    requests_by: Mapping[str, int]
    """By the class of the answer's status: ``2xx`` and so on."""
    backend_failures: int
    """Requests that no backend has answered."""


@dataclass(frozen=True, slots=True)
class FleetServer:
    """How it stands with one server that machines share."""

    server: str
    is_up: bool
    since: Moment
    """It is there, or away, from then on."""
    reason: str
    """The code of why it is away; empty: it is up, or nothing is known yet."""
    detail: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What this machine shares with others; see `proxy.keeper.fleet`."""

    servers: tuple[FleetServer, ...]
    counts: Mapping[str, int]
    """What happened, by the word: those of `stapleproxy_fleet_events_total`."""
    refused: Mapping[str, int]
    """Responses of the server that were refused, by the reason."""
    operations: int
    failures: int
    """Operations and connections that failed."""
    locks_held: int
    """Certificates that this machine asks for now, for all."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an outage of all responders would do."""

    until: Moment | None
    """None: something is not stapled now."""
    site: str
    """The first name of the site that ends first; empty: nothing is meant to be stapled."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The last attempt to take in a new configuration."""

    at: str
    ok: bool
    mistakes: tuple[str, ...]
    """Why nothing changed."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What the master says of itself; see `proxy.control.News`."""

    generation: int
    """1 at the start, one more with each reload that was taken in."""
    started: str
    """When the master began."""
    reloads: int
    """How many were tried and have ended."""
    last_reload: Reload | None
    master_pid: int
    config: str
    """The file's name; empty: there is none."""


@dataclass(frozen=True, slots=True)
class Status:
    """All of it; see the top of this file."""

    version: str
    now: Moment
    profile: str
    ready: bool
    reasons: tuple[str, ...]
    generation: Generation | None
    certificates: Mapping[State, int]
    forecast: Forecast
    sites_total: int
    sites_matching: int
    sites: tuple[Site, ...]
    responders: tuple[Responder, ...]
    cache: Cache
    traffic: Traffic | None
    fleet: Fleet | None = None
