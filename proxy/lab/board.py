"""What a responder is told to do, and by whom: HTTP on the responder's own port, from this machine only.

    GET    /-/faults                 what is set, as JSON
    PUT    /-/faults                 body: a fault's name; for everything that is asked
    PUT    /-/faults/PREFIX          the same for certificates whose OCSP URL is http://HOST:PORT/PREFIX
    DELETE /-/faults, /-/faults/PREFIX
    PUT    /-/validity?s=SECONDS     from thisUpdate to nextUpdate; /-/validity/PREFIX and DELETE likewise
    GET    /-/requests               how often it was asked, by method, serial number and prefix

What is set for a prefix goes before what is set for everything.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.lab.faults import BY_NAME, no_such_fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.lab.faults import Fault

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVERYTHING = ""
MAX_NAMES = 100_000
"""So many serial numbers and so many prefixes are counted apart; a stranger's more go under ``others``."""
MAX_VALIDITY_S = 315_360_000
"""Ten years, as the lab's CA."""
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(slots=True)
class Board:
    """What is set, and what was asked."""

    validity: timedelta | None
    """From thisUpdate to nextUpdate; None: no nextUpdate."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """By prefix, or for `EVERYTHING`."""
    validities: dict[str, timedelta] = field(default_factory=dict)
    by_method: Counter[str] = field(default_factory=Counter)
    by_serial: Counter[str] = field(default_factory=Counter)
    by_prefix: Counter[str] = field(default_factory=Counter)

    def fault_for(self, prefix: str) -> Fault | None:
        return self.faults.get(prefix) or self.faults.get(EVERYTHING)

    def validity_for(self, prefix: str) -> timedelta | None:
        return self.validities.get(prefix) or self.validities.get(EVERYTHING) or self.validity

    def count(self, method: str, serial: str, prefix: str) -> int:
        """Count one question; gives its number."""
        self.by_method[method] += 1
        for counter, name in ((self.by_serial, serial), (self.by_prefix, prefix)):
            if name:
                counter[name if name in counter or len(counter) < MAX_NAMES else "others"] += 1
        return self.by_method.total()

    def routes(self) -> list[web.RouteDef]:
        routes = [
            web.get("/-/requests", _from_here(self._tell_requests)),
            web.get("/-/faults", _from_here(self._tell_faults)),
        ]
        for path in ("", "/{prefix}"):
            routes += [
                web.put(f"/-/faults{path}", _from_here(self._set_fault)),
                web.delete(f"/-/faults{path}", _from_here(self._clear_fault)),
                web.put(f"/-/validity{path}", _from_here(self._set_validity)),
                web.delete(f"/-/validity{path}", _from_here(self._clear_validity)),
            ]
        return routes

    async def _tell_requests(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "total": self.by_method.total(),
                "methods": dict(self.by_method),
                "serials": dict(self.by_serial),
                "prefixes": dict(self.by_prefix),
            }
        )

    async def _tell_faults(self, _: web.Request) -> web.Response:
        names = {prefix: fault.name for prefix, fault in self.faults.items()}
        return web.json_response({"everything": names.pop(EVERYTHING, None), "prefixes": names})

    async def _set_fault(self, request: web.Request) -> web.Response:
        prefix = _prefix_of(request)
        name = (await request.text()).strip()
        fault = BY_NAME.get(name)
        if fault is None:
            raise web.HTTPNotFound(text=no_such_fault(name) + "\n")
        self.faults[prefix] = fault
        return _done(f"{fault.name} for {_named(prefix)}: {fault.what}")

    async def _clear_fault(self, request: web.Request) -> web.Response:
        prefix = _prefix_of(request)
        self.faults.pop(prefix, None)
        return _done(f"no fault for {_named(prefix)}")

    async def _set_validity(self, request: web.Request) -> web.Response:
        prefix = _prefix_of(request)
        text = request.query.get("s", "")
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_VALIDITY_S):
            raise web.HTTPBadRequest(text=f"s must be whole seconds from 1 to {MAX_VALIDITY_S}: /-/validity?s=60\n")
        self.validities[prefix] = timedelta(seconds=int(text))
        return _done(f"answers are valid for {int(text)} s for {_named(prefix)}")

    async def _clear_validity(self, request: web.Request) -> web.Response:
        prefix = _prefix_of(request)
        self.validities.pop(prefix, None)
        return _done(f"answers are valid as at the start for {_named(prefix)}")


def split_prefix(path: str) -> tuple[str, str]:
    """Give the prefix that a raw path begins with, or nothing, and what follows it.

    No base64 of a request is mistaken for one: it begins with the letter M, since DER does with a SEQUENCE.
    """
    first, _, rest = path.removeprefix("/").partition("/")
    return (first, rest) if _PREFIX.fullmatch(first) else ("", path.removeprefix("/"))


def _prefix_of(request: web.Request) -> str:
    prefix = request.match_info.get("prefix", EVERYTHING)
    if prefix != EVERYTHING and not _PREFIX.fullmatch(prefix):
        raise web.HTTPBadRequest(text="a prefix has only a to z, 0 to 9 and -, and at most 63 of them\n")
    return prefix


def _named(prefix: str) -> str:
    return f"/{prefix}" if prefix else "everything"


def _done(sentence: str) -> web.Response:
    return web.Response(text=sentence + "\n")


def _from_here(handler: Handler) -> Handler:
    """Whoever can reach the responder may ask it; only this machine tells it what to do."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if request.remote is None or not ip_address(request.remote).is_loopback:
            raise web.HTTPForbidden(text="only from the machine that the responder runs on\n")
        return await handler(request)

    return guarded
