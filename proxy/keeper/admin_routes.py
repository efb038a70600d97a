"""All pages of the admin interface: what each is, who may open it, what it answers. PURE.

The one table that they are registered by, described by (``/openapi.json``) and guarded by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.keeper.admin_access import Right
from proxy.keeper.status import DEFAULT_LIMIT, MAX_LIMIT, MAX_QUERY_CHARACTERS, Sort, State

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON, DER, HTML = "application/json", "application/ocsp-response", "text/html"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What may come back."""

    meaning: str
    schema: str = ""
    """A class of `admin_answers` or `status`; empty: no JSON."""
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something of the query."""

    name: str
    meaning: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """One page."""

    method: str
    path: str
    name: str
    """Of the handler, and in the description."""
    meaning: str
    right: Right
    answers: Mapping[int, Answer]
    query: tuple[Parameter, ...] = ()
    wanted_type: str = JSON
    """Which media type an order has."""
    body: str = ""
    """What is sent with it; empty: nothing."""


_NO_KEY = Answer("no certificate that is stapled has this key", "Mistake")
QUERY = (
    Parameter(
        "q",
        "what names, label, serial number, key, reasons or responders have in them",
        {"type": "string", "maxLength": MAX_QUERY_CHARACTERS},
    ),
    Parameter("state", "only sites with such a certificate", {"type": "string", "enum": [str(each) for each in State]}),
    Parameter(
        "sort",
        "what comes first",
        {"type": "string", "enum": [str(each) for each in Sort], "default": str(Sort.ATTENTION)},
    ),
    Parameter(
        "limit",
        "how many sites are told in full",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
)
ROUTES = (
    Route(
        "GET",
        "/",
        "page",
        "The status page, for people.",
        Right.SEE,
        {200: Answer("the page", media_type=HTML), 400: Answer("the query is wrong", "Mistake")},
        QUERY,
    ),
    Route("GET", "/healthz", "healthz", "Whether it runs.", Right.ALIVE, {200: Answer("it does", "Health")}),
    Route(
        "GET",
        "/readyz",
        "readyz",
        "Whether all is there that has to be: a response for each certificate that says must-staple.",
        Right.SEE,
        {200: Answer("it is", "Readiness"), 503: Answer("it is not, for these reasons", "Readiness")},
    ),
    Route(
        "GET",
        "/metrics",
        "metrics",
        "All figures, for Prometheus.",
        Right.SEE,
        {200: Answer("text format 0.0.4", media_type="text/plain")},
    ),
    Route(
        "GET",
        "/api/status",
        "status",
        "How everything stands.",
        Right.SEE,
        {200: Answer("sites, responders, cache, traffic", "Status"), 400: Answer("the query is wrong", "Mistake")},
        QUERY,
    ),
    Route(
        "GET",
        "/api/staples",
        "staples",
        "Each certificate that is stapled.",
        Right.SEE,
        {200: Answer("all of them", "Staples")},
    ),
    Route(
        "GET",
        "/api/staples/{key}",
        "staple",
        "One certificate.",
        Right.SEE,
        {200: Answer("how it stands with it", "Certificate"), 404: _NO_KEY},
    ),
    Route(
        "GET",
        "/api/staples/{key}/response",
        "response",
        "The OCSP response that clients are sent.",
        Right.SEE,
        {
            200: Answer("in DER", media_type=DER),
            404: Answer("nothing is stapled for it, or no certificate that is stapled has this key", "Mistake"),
        },
    ),
    Route(
        "POST",
        "/api/staples/{key}/refresh",
        "refresh",
        "Ask the responder now.",
        Right.ORDER,
        {
            202: Answer("it will be asked as soon as its turn comes", "Refreshing"),
            404: _NO_KEY,
            409: Answer("it is being asked already, or there is nobody to ask", "Mistake"),
        },
    ),
    Route(
        "PUT",
        "/api/staples/{key}",
        "put",
        "Staple this response from now on. It is verified like one from a responder, but one that says 'revoked' is "
        "stapled too: somebody chose it. The responders are asked for the next one as if it had come from them, and "
        "theirs takes its place unless it is older.",
        Right.ORDER,
        {
            200: Answer("it is stapled", "Certificate"),
            404: _NO_KEY,
            409: Answer("it cannot be judged or kept now", "Mistake"),
            413: Answer("it is longer than stapling.max_response_bytes", "Refused"),
            422: Answer("it is not stapled, for this reason", "Refused"),
        },
        wanted_type=DER,
        body="an OCSP response in DER",
    ),
    Route(
        "GET",
        "/api/reload",
        "generation",
        "What the master makes known: how the last reload ended.",
        Right.SEE,
        {200: Answer("the news", "Generation"), 503: Answer("the master says nothing", "Mistake")},
    ),
    Route(
        "POST",
        "/api/reload",
        "reload",
        "Take in the configuration anew, as SIGHUP does; GET tells how it ended.",
        Right.RULE,
        {202: Answer("the master was told", "Ordered"), 503: Answer("the master takes no orders now", "Mistake")},
    ),
    Route(
        "POST",
        "/api/stop",
        "stop",
        "Stop as with SIGTERM: open requests may end.",
        Right.RULE,
        {202: Answer("the master was told", "Ordered"), 503: Answer("the master takes no orders now", "Mistake")},
    ),
    Route(
        "GET",
        "/openapi.json",
        "openapi",
        "This description.",
        Right.SEE,
        {200: Answer("OpenAPI 3.1", "Description")},
    ),
)
