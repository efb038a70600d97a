"""What the keeper tells, and does when told: HTTP on a Unix socket that only its user may open.

``/healthz``: it runs. ``/readyz``: 200, or 503 with the reasons. ``/metrics``: Prometheus. ``/api/staples``: JSON, one
object for each certificate; ``/api/staples/KEY`` one of them; ``POST /api/staples/KEY/refresh``: ask for it now.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from proxy.identity import CacheKey

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterable, Sequence

    from proxy.keeper.metrics import Metrics
    from proxy.keeper.watched import Watched

MAX_REQUEST_BYTES = 4096
MAX_CONNECTIONS = 32
"""Each takes a descriptor, and the keeper needs those for the responders. When one more comes, the oldest is closed."""
_KEPT_ALIVE_S = 30.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Keeping(Protocol):
    """Who keeps the staples."""

    def watched(self) -> Iterable[Watched]: ...
    def refresh(self, key: CacheKey) -> bool: ...


class Admin:
    """The pages."""

    def __init__(self, refresher: Keeping, metrics: Metrics, never_ready: Sequence[str] = ()) -> None:
        """`never_ready`: reasons that no time will end."""
        self._refresher = refresher
        self._metrics = metrics
        self._never_ready = never_ready
        self._turn = asyncio.Lock()
        """Of 10,000 certificates a page takes a second: in a thread, one at a time, so that refreshing goes on."""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        app.router.add_get("/api/staples", self._staples)
        app.router.add_get("/api/staples/{key}", self._staple)
        app.router.add_post("/api/staples/{key}/refresh", self._refresh)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = [*self._never_ready, *not_ready(self._refresher.watched(), datetime.now(UTC))]
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics_text(self, _: web.Request) -> web.Response:
        async with self._turn:
            text = await asyncio.to_thread(self._metrics.text)
        return web.Response(text=text, headers={"Content-Type": _METRICS_TYPE})

    async def _staples(self, _: web.Request) -> web.Response:
        async with self._turn:
            return await asyncio.to_thread(self._all_described)

    def _all_described(self) -> web.Response:
        now = datetime.now(UTC)
        return _json({"staples": [described(each, now) for each in self._refresher.watched()]})

    async def _staple(self, request: web.Request) -> web.Response:
        return _json(described(self._found(request), datetime.now(UTC)))

    async def _refresh(self, request: web.Request) -> web.Response:
        watched = self._found(request)
        if not self._refresher.refresh(watched.identity.cache_key):
            return _json({"error": "it is being asked for already, or no responder is known for it"}, 409)
        return _json({"refreshing": watched.identity.label}, 202)

    def _found(self, request: web.Request) -> Watched:
        try:
            key = CacheKey(bytes.fromhex(request.match_info["key"]))
        except ValueError:
            key = CacheKey(b"")
        for watched in self._refresher.watched():
            if watched.identity.cache_key == key:
                return watched
        what = json.dumps({"error": "no certificate has this key: /api/staples lists them"})
        raise web.HTTPNotFound(text=what, content_type="application/json")


@asynccontextmanager
async def serving(admin: Admin, sock: socket.socket | None) -> AsyncIterator[None]:
    """Serve the pages on a socket that listens; None: nowhere."""
    if sock is None:
        yield
        return
    runner = web.AppRunner(admin.app(), access_log=None, shutdown_timeout=1.0, keepalive_timeout=_KEPT_ALIVE_S)
    await runner.setup()
    http = runner.server
    assert http is not None  # it was set up

    def answering() -> asyncio.Protocol:
        for oldest in http.connections[: -(MAX_CONNECTIONS - 1)]:
            oldest.force_close()
        return http()

    # The backlog bounds how many are taken in one turn of the loop.
    listening = await asyncio.get_running_loop().create_server(answering, sock=sock, backlog=MAX_CONNECTIONS)
    try:
        yield
    finally:
        listening.close()
        await runner.cleanup()


def not_ready(watched: Iterable[Watched], now: datetime) -> list[str]:
    """List why this front is not ready: certificates that say must-staple and have nothing to staple."""
    return [
        f"{each.identity.label}: it says must-staple, and there is no response to staple"
        for each in watched
        if each.identity.must_staple and each.held(now) is None
    ]


def described(watched: Watched, now: datetime) -> dict[str, object]:
    """Say how it stands with one certificate; times in RFC 3339, null: none."""
    newest, held = watched.newest, watched.held(now)
    return {
        "key": watched.identity.cache_key.hex(),
        "certificate": watched.identity.label,
        "names": list(watched.certificate.names),
        "serial": f"{watched.identity.leaf.serial_number:x}",
        "must_staple": watched.identity.must_staple,
        "responders": list(watched.certificate.responder_urls),
        "status": str(newest.status) if newest else None,
        "this_update": _time(newest.this_update if newest else None),
        "next_update": _time(newest.next_update if newest else None),
        "stapled_until": _time(held.serve_until if held else None),
        "next_attempt": _time(None if watched.due_s is None else datetime.fromtimestamp(watched.due_s, UTC)),
        "successes": watched.successes,
        "failures": watched.failures,
        "troubles": [trouble._asdict() for trouble in watched.troubles],
    }


def _time(moment: datetime | None) -> str | None:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else None


def _json(document: object, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, dumps=lambda value: json.dumps(value, indent=2) + "\n")
