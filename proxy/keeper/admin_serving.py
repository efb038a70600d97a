"""The doors of the admin interface: HTTP on a Unix socket and, by choice, on TCP."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from proxy.keeper.admin import RefusedError, answer
from proxy.keeper.admin_access import HEADERS, Asking, Right
from proxy.keeper.admin_answers import Mistake
from proxy.keeper.admin_routes import ROUTES

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from proxy.keeper.admin import Admin
    from proxy.keeper.admin_access import Access
    from proxy.keeper.admin_routes import Route

MAX_CONNECTIONS = 32
"""At one door. Each takes a descriptor, and the keeper needs those for the responders. One more: the oldest goes, or
the oldest that `admin.allow` does not name."""
WRONG_TOKEN_PAUSE_S = 1.0
"""Before a wrong token is told. It only slows: what keeps guessers out is the secret's length."""
_KEPT_ALIVE_S = 30.0
_MAX_LINE_BYTES = 8_190
_MAX_HEADERS = 64


@dataclass(frozen=True, slots=True)
class Door:
    """A socket that listens, and who may do what there."""

    sock: socket.socket
    access: Access


@asynccontextmanager
async def serving(admin: Admin, doors: Sequence[Door]) -> AsyncIterator[None]:
    """Serve the pages at these doors; none: nothing is measured for them either."""
    async with AsyncExitStack() as stack:
        if doors:
            measuring = asyncio.create_task(admin.status.measure())
            stack.callback(measuring.cancel)
        for door in doors:
            await stack.enter_async_context(_at(admin, door))
        yield


@asynccontextmanager
async def _at(admin: Admin, door: Door) -> AsyncIterator[None]:
    runner = web.AppRunner(
        app(admin, door.access),
        access_log=None,
        auto_decompress=False,  # nobody sends enough for it, and a little can become very much
        keepalive_timeout=_KEPT_ALIVE_S,
        max_field_size=_MAX_LINE_BYTES,
        max_headers=_MAX_HEADERS,
        max_line_size=_MAX_LINE_BYTES,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    http = runner.server
    assert http is not None  # it was set up

    def answering() -> asyncio.Protocol:
        # Those first who get nothing but 403: they must not push out who is meant to be served.
        held = sorted(http.connections, key=lambda each: door.access.is_allowed(_host_of(each.peername)))
        for one in held[: max(0, len(held) + 1 - MAX_CONNECTIONS)]:
            one.force_close()
        return http()

    # The backlog bounds how many are taken in one turn of the loop.
    listening = await asyncio.get_running_loop().create_server(answering, sock=door.sock, backlog=MAX_CONNECTIONS)
    try:
        yield
    finally:
        listening.close()
        await runner.cleanup()


def _host_of(peername: object) -> str:
    return str(peername[0]) if isinstance(peername, tuple) else ""


def app(admin: Admin, access: Access) -> web.Application:
    """Make what answers at one door."""
    found = web.Application(client_max_size=admin.max_response_bytes + 1, middlewares=[_in_json])
    handlers = admin.handlers(access)
    for route in ROUTES:
        guarded = _guarded(route, handlers[route.name], access)
        for method in (route.method, *([hdrs.METH_HEAD] if route.method == hdrs.METH_GET else [])):
            found.router.add_route(method, route.path, guarded)
    found.on_response_prepare.append(_add_headers)
    return found


def _guarded(
    route: Route, handler: Callable[[web.Request], Awaitable[web.Response]], access: Access
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def guarded(request: web.Request) -> web.Response:
        refusal = access.judge(_asking(request, route.right, route.wanted_type))
        if refusal is None:
            return await handler(request)
        if refusal.was_guess:
            await asyncio.sleep(WRONG_TOKEN_PAUSE_S)
        response = answer(Mistake(refusal.what), refusal.status)
        for challenge in refusal.challenges:
            response.headers.add(hdrs.WWW_AUTHENTICATE, challenge)
        return response

    return guarded


def _asking(request: web.Request, right: Right, wanted_type: str) -> Asking:
    headers = request.headers
    return Asking(
        peer=request.remote or "",
        right=right,
        hosts=headers.getall(hdrs.HOST, []),
        origin=headers.get(hdrs.ORIGIN),
        authorization=headers.get(hdrs.AUTHORIZATION),
        media_type=request.content_type if hdrs.CONTENT_TYPE in headers else "",
        wanted_type=wanted_type,
    )


@web.middleware
async def _in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer in JSON also where aiohttp answers by itself: no such page, no such method."""
    try:
        return await handler(request)
    except RefusedError as refused:
        return refused.response
    except web.HTTPException as error:
        response = answer(Mistake(error.reason), error.status)
        with contextlib.suppress(KeyError):
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
