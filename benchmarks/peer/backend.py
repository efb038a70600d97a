"""The lab's backend, with what transfers of many megabytes need: large pieces, and a place to send a body to.

/bulk/N   N bytes with Content-Length
/sink     takes the request's body; answers how many bytes it had
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from aiohttp import web

from proxy.lab.backend import make_app
from proxy.lab.serving import read_listen, run_server

if TYPE_CHECKING:
    from proxy.settings.values import ListenAddress

PIECE = bytes(range(256)) * 4096
"""1 MiB: so large that the server under test, not this one, says how much it reads at once."""


async def bulk(request: web.Request) -> web.StreamResponse:
    count = int(request.match_info["count"])
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = count
    await response.prepare(request)
    while count > 0:
        await response.write(PIECE[:count])
        count -= len(PIECE)
    await response.write_eof()
    return response


async def sink(request: web.Request) -> web.Response:
    count = 0
    async for piece in request.content.iter_any():
        count += len(piece)
    return web.Response(text=f"{count}\n")


@click.command()
@click.option("--listen", callback=read_listen, default="127.0.0.1:0", show_default=True, help="Port 0: any free one.")
@click.option("--exit-with-stdin", is_flag=True, help="End when standard input does.")
def main(listen: ListenAddress, exit_with_stdin: bool) -> None:
    """Serve until told to stop."""
    app = make_app()
    app.router.add_get(r"/bulk/{count:\d{1,10}}", bulk)
    app.router.add_post("/sink", sink)
    run_server(app, listen, name="backend", exit_with_stdin=exit_with_stdin)


if __name__ == "__main__":
    main()
