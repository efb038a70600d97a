"""What the keeper tells when it is asked over HTTP, and does when told: a handler for each page of `admin_routes`."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from proxy.errors import Reason, StapleRejected
from proxy.identity import CacheKey
from proxy.keeper.admin_access import Right
from proxy.keeper.admin_answers import Health, Mistake, Ordered, Readiness, Refreshing, Refused, Staples, to_json
from proxy.keeper.admin_openapi import description
from proxy.keeper.admin_query import WrongQueryError, read_query
from proxy.keeper.admin_routes import DER, HTML, JSON, METRICS
from proxy.keeper.status_page import PAGE_POLICY, page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from proxy.control import Control, Order
    from proxy.keeper.admin_access import Access
    from proxy.keeper.metrics import Metrics
    from proxy.keeper.onlooker import Onlooker
    from proxy.keeper.refresher import Refresher
    from proxy.keeper.status import Query
    from proxy.keeper.watched import Watched

T = TypeVar("T")

_BODY_WITHIN_S = 10.0
_AS_IN_APACHE = "responses are fetched when clients ask, as in Apache: none can be ordered or set (stapling.profile)"

_log = logging.getLogger("stapleproxy.keeper")


class Admin:
    """The handlers. `refresher` None: nothing is fetched ahead; `control` None: nobody takes orders."""

    def __init__(
        self,
        status: Onlooker,
        metrics: Metrics,
        refresher: Refresher | None = None,
        control: Control | None = None,
        max_response_bytes: int = 65_536,
    ) -> None:
        self.max_response_bytes = max_response_bytes
        self.status = status
        self._metrics = metrics
        self._refresher = refresher
        self._control = control
        self._turn = asyncio.Lock()
        """Of 10,000 certificates a page takes a second: in a thread, one at a time, so that refreshing goes on."""

    def handlers(self, access: Access) -> Mapping[str, Callable[[web.Request], Awaitable[web.Response]]]:
        """Give them by the names of the routes, for one door."""

        async def status_page(request: web.Request) -> web.Response:
            return await self._page(request, access)

        return {
            "page": status_page,
            "healthz": self._healthz,
            "readyz": self._readyz,
            "metrics": self._metrics_text,
            "status": self._all,
            "staples": self._staples,
            "staple": self._staple,
            "response": self._response,
            "refresh": self._refresh,
            "put": self._put,
            "generation": self._generation,
            "reload": self._reload,
            "stop": self._stop,
            "openapi": self._openapi,
        }

    async def _in_turn(self, request: web.Request, work: Callable[[], T]) -> T:
        async with self._turn:
            # Whoever asks again and again without waiting must not have all others wait for answers to nobody.
            if request.transport is None:
                raise RefusedError(_mistake(503, "the client has gone"))
            return await asyncio.to_thread(work)

    # --- to look at

    async def _page(self, request: web.Request, access: Access) -> web.Response:
        query = _query(request)
        text = await self._in_turn(
            request, lambda: page(self.status.status(query), query, may_order=access.may(Right.ORDER))
        )
        return web.Response(
            text=text, content_type=HTML, charset="utf-8", headers={"Content-Security-Policy": PAGE_POLICY}
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return answer(Health())

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = tuple(self.status.reasons())
        return answer(Readiness(not reasons, reasons), 503 if reasons else 200)

    async def _metrics_text(self, request: web.Request) -> web.Response:
        text = await self._in_turn(request, self._metrics.text)
        return web.Response(text=text, headers={"Content-Type": METRICS})

    async def _all(self, request: web.Request) -> web.Response:
        query = _query(request)
        return await self._in_turn(request, lambda: answer(self.status.status(query)))

    async def _staples(self, request: web.Request) -> web.Response:
        return await self._in_turn(request, lambda: answer(Staples(tuple(self.status.certificates()))))

    async def _staple(self, request: web.Request) -> web.Response:
        found = self.status.certificate(_key(request))
        return answer(found) if found else _no_key()

    async def _response(self, request: web.Request) -> web.Response:
        key = _key(request)
        der = self.status.response(key)
        if der is None:
            return _mistake(404, "nothing is stapled for it") if self.status.certificate(key) else _no_key()
        attachment = f'attachment; filename="{key.hex()}.der"'
        return web.Response(body=der, content_type=DER, headers={"Content-Disposition": attachment})

    async def _generation(self, _: web.Request) -> web.Response:
        found = self.status.generation()
        return answer(found) if found else _mistake(503, "the master says nothing")

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(description(), dumps=lambda document: json.dumps(document, indent=2) + "\n")

    # --- orders

    async def _refresh(self, request: web.Request) -> web.Response:
        refresher, watched = self._found(request)
        if not refresher.refresh(watched.identity.cache_key):
            return _mistake(409, "it is being asked for already, or no responder is known for it")
        return answer(Refreshing(watched.identity.label), 202)

    async def _put(self, request: web.Request) -> web.Response:
        refresher, watched = self._found(request)
        if watched.issuer is None:
            return _mistake(409, "the issuer's certificate has not been fetched yet, and nothing can be judged without")
        try:
            async with asyncio.timeout(_BODY_WITHIN_S):
                der = await request.read()
        except TimeoutError:
            return _mistake(408, f"the response did not come within {_BODY_WITHIN_S:g} s")
        except web.HTTPRequestEntityTooLarge:
            what = f"it is longer than stapling.max_response_bytes, {self.max_response_bytes}"
            return answer(Refused(what, Reason.TOO_LARGE), 413)
        try:
            staple = refresher.offer(watched, der, "the admin interface")
        except StapleRejected as refusal:
            return answer(Refused(refusal.detail, refusal.reason), 422)
        if watched.newest is not staple:
            return _mistake(409, "the cache does not take it: it is too small for a response of this length")
        found = self.status.certificate(watched.identity.cache_key)
        assert found is not None  # it is watched
        return answer(found)

    def _found(self, request: web.Request) -> tuple[Refresher, Watched]:
        key = _key(request)
        watched = self.status.watched(key)
        if self._refresher and watched:
            return self._refresher, watched
        if self.status.certificate(key):
            raise RefusedError(_mistake(409, _AS_IN_APACHE))
        raise RefusedError(_no_key())

    async def _reload(self, _: web.Request) -> web.Response:
        return self._order("reload")

    async def _stop(self, _: web.Request) -> web.Response:
        return self._order("stop")

    def _order(self, order: Order) -> web.Response:
        if self._control is None or not self._control.ask(order):
            return _mistake(503, "the master takes no orders now: try again")
        _log.info("%s ordered by the admin socket", order)
        return answer(Ordered(order), 202)


class RefusedError(Exception):
    """Ends a handler with this answer."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def answer(value: object, status: int = 200) -> web.Response:
    """Answer with JSON."""
    return web.Response(body=to_json(value), status=status, content_type=JSON)


def _mistake(status: int, what: str) -> web.Response:
    return answer(Mistake(what), status)


def _query(request: web.Request) -> Query:
    try:
        return read_query(request.query.items())
    except WrongQueryError as error:
        raise RefusedError(_mistake(400, str(error))) from None


def _no_key() -> web.Response:
    return _mistake(404, "no certificate that is stapled has this key: /api/staples lists them")


def _key(request: web.Request) -> CacheKey:
    """Read the key; one that cannot be is nobody's."""
    try:
        return CacheKey(bytes.fromhex(request.match_info["key"]))
    except ValueError:
        return CacheKey(b"")
