"""A sample Python backend: what a web framework's application looks like from the proxy.

As a process: ``python -m proxy.lab.backend --listen 127.0.0.1:0``.

    /            JSON: method, path, headers as received, address of the peer
    /bytes/N     N bytes with Content-Length
    /chunked/N   N bytes, chunked
    /echo        the request's body, streamed back as it comes
    /status/CODE an answer with that status
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from aiohttp import web

from proxy.lab.serving import read_listen, run_server

if TYPE_CHECKING:
    from proxy.settings.values import ListenAddress

PIECE = b"0123456789abcdef" * 1024
SMALL = PIECE[:1024]
"""What load tests ask for: made once."""
MAX_BYTES = 1 << 30


async def hello(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers],
            "peer": request.remote,
        }
    )


async def sized(request: web.Request) -> web.StreamResponse:
    count = _count(request)
    if count == len(SMALL):
        return web.Response(body=SMALL)
    if count <= len(PIECE):
        return web.Response(body=PIECE[:count])
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = count
    return await _stream(request, response, count)


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.enable_chunked_encoding()
    return await _stream(request, response, _count(request))


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": request.content_type})
    if request.content_length is not None:
        response.content_length = request.content_length
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    await response.write_eof()
    return response


async def status(request: web.Request) -> web.Response:
    code = int(request.match_info["code"])
    if not 200 <= code <= 599:
        raise web.HTTPNotFound(text="a status from 200 to 599\n")
    return web.Response(status=code, text=None if code in {204, 304} else f"{code}\n")


def _count(request: web.Request) -> int:
    count = int(request.match_info["count"])
    if count > MAX_BYTES:
        raise web.HTTPNotFound(text=f"at most {MAX_BYTES} bytes\n")
    return count


async def _stream(request: web.Request, response: web.StreamResponse, count: int) -> web.StreamResponse:
    await response.prepare(request)
    if request.method != "HEAD":
        while count > 0:
            await response.write(PIECE[:count])
            count -= len(PIECE)
    await response.write_eof()
    return response


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get(r"/bytes/{count:\d{1,10}}", sized)
    app.router.add_get(r"/chunked/{count:\d{1,10}}", chunked)
    app.router.add_route("*", "/echo", echo)
    app.router.add_route("*", r"/status/{code:\d{3}}", status)
    app.router.add_route("*", "/", hello)
    return app


@click.command()
@click.option("--listen", callback=read_listen, default="127.0.0.1:0", show_default=True, help="Port 0: any free one.")
@click.option("--exit-with-stdin", is_flag=True, help="End when standard input does.")
def main(listen: ListenAddress, exit_with_stdin: bool) -> None:
    """Serve a few answers of every kind."""
    run_server(make_app(), listen, name="backend", exit_with_stdin=exit_with_stdin)


if __name__ == "__main__":
    main()
