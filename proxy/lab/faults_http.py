"""Faults of whole HTTP answers: statuses, types, redirects."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from proxy.errors import FetchReason, Reason
from proxy.lab.fault import Fault
from proxy.lab.plays import CONTENT_TYPE, Performs, Place, Redirects, Replies, Send, whole

if TYPE_CHECKING:
    from proxy.lab.plays import Play


def _row(name: str, what: str, reason: FetchReason | Reason | None, play: Play) -> Fault:
    return Fault(name, "http", what, reason, play)


_PAGE = "<!DOCTYPE html><title>It works!</title><p>It works!"


def _status(code: int, what: str, *headers: tuple[str, str], name: str = "") -> Fault:
    play = Replies(code, headers, "text/html", _PAGE)
    return _row(name or f"status-{code}", what, FetchReason.HTTP_STATUS, play)


HTTP = (
    _status(400, "Bad request, as some responders say to whatever they cannot serve."),
    _status(401, "A password is wanted.", ("WWW-Authenticate", 'Basic realm="lab"')),
    _status(403, "Forbidden, as a firewall between says it."),
    _status(404, "The responder has moved, and nobody was told."),
    _status(405, "No method is allowed."),
    _status(429, "Too many requests: come again in two minutes.", ("Retry-After", "120")),
    _status(500, "The web server has an internal error."),
    _status(502, "The gateway before the responder has no answer."),
    _status(503, "The service is down."),
    _status(503, "The service is down for a minute.", ("Retry-After", "60"), name="retry-after"),
    _status(503, "The service is down for a year.", ("Retry-After", "31536000"), name="retry-after-year"),
    _status(504, "The gateway before the responder waited in vain."),
    _row(
        "status-204",
        "The answer has no content, and says so.",
        FetchReason.HTTP_STATUS,
        Replies(204, body="", content_type="text/html"),
    ),
    _row(
        "status-304",
        "Not modified, although nothing was there to be compared.",
        FetchReason.PROTOCOL,
        Replies(304, body="", content_type="text/html"),
    ),
    _row(
        "html",
        "An HTML page comes with status 200, as from a captive portal.",
        FetchReason.CONTENT_TYPE,
        Replies(content_type="text/html", body=_PAGE),
    ),
    _row(
        "content-type-wrong",
        "The answer is right, but calls itself application/octet-stream.",
        FetchReason.CONTENT_TYPE,
        Replies(content_type="application/octet-stream"),
    ),
    _row(
        "content-type-missing",
        "The answer has no type.",
        FetchReason.CONTENT_TYPE,
        Performs(lambda right: (Send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(right), right)),)),
    ),
    _row(
        "content-type-parameter",
        "The type has a parameter, which changes nothing.",
        None,
        Replies(content_type=f"{CONTENT_TYPE}; charset=utf-8"),
    ),
    _row(
        "gzip",
        "The body is compressed, which was not asked for.",
        Reason.UNPARSABLE,
        Performs(lambda right: (Send(whole(gzip.compress(right), "Content-Encoding: gzip")),)),
    ),
    _row("empty", "The body is empty.", Reason.UNPARSABLE, Replies(body="")),
    _row(
        "get-refused",
        "GET is answered with 405; POST is served.",
        None,
        Replies(405, (("Allow", "POST"),), "text/html", _PAGE, to="GET"),
    ),
    _row("redirect", "The answer lies elsewhere, and is good.", None, Redirects(Place.RIGHT_ANSWER)),
    _row("redirect-loop", "Redirects lead in a circle.", FetchReason.REDIRECT, Redirects(Place.HERE)),
    _row("redirect-to-file", "A redirect leads to file:///.", FetchReason.REDIRECT, Redirects(Place.FILE)),
    _row(
        "redirect-nowhere",
        "A redirect does not say where to.",
        FetchReason.REDIRECT,
        Replies(302, body="", content_type="text/html"),
    ),
    _row(
        "cache-for-a-year",
        "Caches may keep the answer for a year, longer than it is valid.",
        None,
        Replies(headers=(("Cache-Control", "max-age=31536000"),)),
    ),
    _row("cache-never", "No cache may keep the answer.", None, Replies(headers=(("Cache-Control", "no-store"),))),
)
