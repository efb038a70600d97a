"""The backends of a site: how servers are written, and the tables about them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from proxy.settings.base import Model
from proxy.settings.values import NOT_REPEATED, Seconds, UpstreamAddress, Whole, parse_upstream

Balance = Literal["round-robin", "least-connections"]

_MAX_SERVERS = 64
_MAX_WEIGHT = 1000

# What pchar (RFC 3986 3.3) leaves when all is taken out that two readers could read differently: see http/routes.py.
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
_TARGET = re.compile(r"/[!\"$-~]{0,999}")  # no fragment: "#"


class UpstreamServer(NamedTuple):
    """One backend; it gets `weight` shares of the requests."""

    address: UpstreamAddress
    weight: int = 1

    def __str__(self) -> str:
        return str(self.address) if self.weight == 1 else f"{self.address} (weight {self.weight})"


def _parse_upstreams(value: object) -> tuple[UpstreamServer, ...]:
    if not isinstance(value, list | tuple) or isinstance(value, UpstreamAddress):
        return (UpstreamServer(parse_upstream(value)),)
    if len(value) > _MAX_SERVERS:
        raise _mistake(f"must have at most {_MAX_SERVERS} entries")
    servers = tuple(_parse_entry(entry, number) for number, entry in enumerate(value, 1))
    counts = Counter(server.address for server in servers)
    if twice := next((address for address, count in counts.items() if count > 1), None):
        raise _mistake(f"{twice} is there more than once: give it a weight")
    return servers


def _parse_entry(entry: object, number: int) -> UpstreamServer:
    if isinstance(entry, UpstreamServer):
        return entry
    url, weight = entry, 1
    if isinstance(entry, dict):
        if entry.keys() - {"url", "weight"}:
            raise _mistake(f"entry {number} takes url and weight and no other key")
        url, weight = entry.get("url"), entry.get("weight", 1)
    if type(weight) is not int or not 1 <= weight <= _MAX_WEIGHT:
        raise _mistake(f"the weight of entry {number} must be a whole number from 1 to {_MAX_WEIGHT}")
    try:
        return UpstreamServer(parse_upstream(url), weight)
    except ValueError as error:
        raise _mistake(f"entry {number}: {error}") from None


def _mistake(what: str) -> PydanticCustomError:
    return PydanticCustomError(NOT_REPEATED, "{what}", {"what": what})


def _check_prefix(text: str) -> str:
    if not text.startswith("/") or not _PREFIX.fullmatch(text):
        raise ValueError('must be a path such as "/api/", without "%", "//", "..", ";" and the like')
    return text


def _check_path(text: str) -> str:
    if not _TARGET.fullmatch(text):
        raise ValueError('must be a path such as "/health", with "/" first and without spaces')
    return text


Upstreams = Annotated[tuple[UpstreamServer, ...], PlainValidator(_parse_upstreams)]
Prefix = Annotated[str, AfterValidator(_check_prefix)]
CheckedPath = Annotated[str, AfterValidator(_check_path)]


class Route(Model):
    """What serves the paths below a prefix, instead of the site's own backend."""

    prefix: Prefix = Field(description="whole segments: /api/ is for /api and /api/x, not /apix; the longest wins")
    upstream: Upstreams = Field(description="as in [[site]]")
    balance: Balance | None = Field(None, description="as in [[site]]; unset: the site's")
    upstream_path: Prefix | None = Field(
        None, description="the backend gets this in place of the prefix; unset: paths go on as they are"
    )


def _check_routes(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    counts = Counter(route.prefix.rstrip("/") for route in routes)
    if twice := next((prefix for prefix, count in counts.items() if count > 1), None):
        raise _mistake(f'the prefix "{twice}/" is there more than once')
    return routes


Routes = Annotated[tuple[Route, ...], AfterValidator(_check_routes)]


class SiteHealth(Model):
    """Checks of the site's servers, by each worker, where there are several to choose from."""

    path: CheckedPath | None = Field(None, description="asked for with GET: 2xx and 3xx are good; unset: no checks")
    interval_s: Seconds = Field(10, description="from one check of a server to its next, give or take a tenth")
    timeout_s: Seconds = Field(2, description="a check that takes longer has failed")
    healthy_after: Whole = Field(2, ge=1, le=100, description="good checks in a row that bring a server back")
    unhealthy_after: Whole = Field(3, ge=1, le=100, description="failed checks in a row that leave a server out")
