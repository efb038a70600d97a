"""Applications for the servers that people use: `flask_app` (WSGI) and `asgi`."""

from __future__ import annotations

import asyncio
import json

from flask import Flask, Response, request

flask_app = Flask(__name__)


@flask_app.route("/seen", methods=["GET", "POST", "PUT", "HEAD"])
def seen():
    """The request as the application sees it."""
    return {
        "method": request.method,
        "url": request.url,
        "remote": request.remote_addr,
        "headers": [[name, value] for name, value in request.headers],
        "body": request.get_data(as_text=True),
    }


@flask_app.get("/pieces")
def pieces():
    return Response((b"piece %d\n" % number for number in range(1000)), mimetype="text/plain")


@flask_app.get("/cookies")
def cookies():
    response = Response("set")
    for name in ("a", "b", "c"):
        response.set_cookie(name, name * 3, secure=True, httponly=True)
    return response


@flask_app.get("/status/<int:code>")
def status(code):
    return Response(status=code, headers={"ETag": '"x"'})


async def asgi(scope, receive, send):
    """GET /gated: a second piece after POST /open; else as /seen of the Flask application."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["type"] == "http"
    body = b""
    while (event := await receive())["type"] == "http.request":
        body += event["body"]
        if not event["more_body"]:
            break
    match scope["path"]:
        case "/gated":
            await _start(send)
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await asyncio.wait_for(_gate().wait(), 10)
            await send({"type": "http.response.body", "body": b"second"})
        case "/open":
            _gate().set()
            await _start(send, 204)
            await send({"type": "http.response.body"})
        case "/pieces":
            await _start(send)
            for number in range(1000):
                await send({"type": "http.response.body", "body": b"piece %d\n" % number, "more_body": True})
            await send({"type": "http.response.body"})
        case path if path.startswith("/status/"):
            await _start(send, int(path[8:]))
            await send({"type": "http.response.body"})
        case "/cookies":
            await _start(send, 200, *((b"set-cookie", name * 3) for name in (b"a=", b"b=", b"c=")))
            await send({"type": "http.response.body", "body": b"set"})
        case _:
            told = {
                "method": scope["method"],
                "url": f"{scope['scheme']}://{dict(scope['headers'])[b'host'].decode()}{scope['path']}",
                "remote": scope["client"][0],
                "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
                "body": body.decode(),
            }
            await _start(send)
            await send({"type": "http.response.body", "body": json.dumps(told).encode()})


_gates: list[asyncio.Event] = []


def _gate() -> asyncio.Event:
    if not _gates:
        _gates.append(asyncio.Event())
    return _gates[0]


async def _start(send, status=200, *headers):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
