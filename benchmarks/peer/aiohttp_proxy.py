"""The reverse proxy that one writes in an afternoon: aiohttp's server and client, ``ssl``, uvloop; bodies streamed.

``python aiohttp_proxy.py PORT CHAIN KEY BACKEND_URL``
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


def make_app(backend_url: str) -> web.Application:
    app = web.Application()
    key = web.AppKey("session", ClientSession)

    async def session_of(app: web.Application) -> AsyncIterator[None]:
        connector = TCPConnector(limit=100)
        async with ClientSession(connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar()) as session:
            app[key] = session
            yield

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Proto"] = "https"
        headers["X-Forwarded-Host"] = request.host
        body = request.content if request.can_read_body else None
        url = backend_url + request.raw_path
        async with app[key].request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            response.headers.extend(kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app.cleanup_ctx.append(session_of)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


if __name__ == "__main__":
    _, port, chain, private_key, url = sys.argv
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain, private_key)
    loop = uvloop.new_event_loop()
    web.run_app(make_app(url), host="127.0.0.1", port=int(port), ssl_context=tls, access_log=None, loop=loop)
