"""The applications once more, told by each server's own means to believe the proxy, and one for aiohttp."""

from __future__ import annotations

from aiohttp import web
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from hypercorn.middleware import ProxyFixMiddleware
from integration.apps import asgi

hypercorn_asgi = ProxyFixMiddleware(asgi)
granian_asgi = wrap_asgi_with_proxy_headers(asgi, trusted_hosts="*")


@web.middleware
async def _believe_the_proxy(request, handler):
    forwarded = request.headers
    return await handler(
        request.clone(
            scheme=forwarded["X-Forwarded-Proto"],
            host=forwarded["X-Forwarded-Host"],
            remote=forwarded["X-Forwarded-For"],
        )
    )


async def _seen(request):
    return web.json_response(
        {
            "method": request.method,
            "url": str(request.url),
            "remote": request.remote,
            "headers": list(request.headers.items()),
            "body": await request.text(),
        }
    )


async def _pieces(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(1000):
        await response.write(b"piece %d\n" % number)
    return response


async def _cookies(_request):
    response = web.Response(text="set")
    for name in ("a", "b", "c"):
        response.set_cookie(name, name * 3, secure=True, httponly=True)
    return response


async def _status(request):
    return web.Response(status=int(request.match_info["code"]), headers={"ETag": '"x"'})


def aiohttp_app(_argv):
    """For ``python -m aiohttp.web``."""
    app = web.Application(middlewares=[_believe_the_proxy])
    app.router.add_route("*", "/seen", _seen)
    app.router.add_get("/pieces", _pieces)
    app.router.add_get("/cookies", _cookies)
    app.router.add_get("/status/{code}", _status)
    return app
