"""The backend's answers as an ASGI application, for servers that speak TLS themselves and need no proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

# ASGI's own types are dictionaries of anything.
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SMALL = (b"0123456789abcdef" * 64)[:1024]
PIECE = bytes(range(256)) * 4096


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer /bytes/1024, /bulk/N and /sink."""
    if scope["type"] != "http":
        raise NotImplementedError  # how ASGI says that an application has no "lifespan": servers then go on without
    _, kind, *rest = scope["path"].split("/")
    if kind == "sink":
        text = b"%d\n" % await _count_body(receive)
        await _start(send, len(text))
        await send({"type": "http.response.body", "body": text})
    elif kind == "bulk":
        count = int(rest[0])
        await _start(send, count)
        while count > 0:
            await send({"type": "http.response.body", "body": PIECE[:count], "more_body": count > len(PIECE)})
            count -= len(PIECE)
    else:
        await _start(send, len(SMALL))
        await send({"type": "http.response.body", "body": SMALL})


async def _start(send: Send, length: int) -> None:
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _count_body(receive: Receive) -> int:
    count = 0
    while True:
        message = await receive()
        count += len(message.get("body", b""))
        if not message.get("more_body", False):
            return count
