"""How the lab's small HTTP servers run as processes of their own: one line when ready, a clean end when told."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import click
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from proxy.settings.values import Listen, ListenAddress

DRAIN_S = 1.0
"""How long requests under way may take once the end was asked for."""


def read_listen(_ctx: click.Context, _param: click.Parameter, value: str) -> ListenAddress:
    """Read the option --listen as in a configuration: HOST:PORT, port 0 for any free one."""
    try:
        return TypeAdapter(Listen).validate_python(value)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"]) from error


def run_server(app: web.Application, listen: ListenAddress, *, name: str, exit_with_stdin: bool) -> None:
    """Serve until SIGTERM or SIGINT, and with `exit_with_stdin` until standard input ends: the starter died."""
    asyncio.run(_serve(app, listen, name, exit_with_stdin))


async def _serve(app: web.Application, listen: ListenAddress, name: str, exit_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_stdin:
        threading.Thread(target=_when_stdin_ends, args=(loop, stop), daemon=True).start()
    # handler_cancellation: nobody goes on answering a client that has gone.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_S, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host or None, listen.port)
        await site.start()
        port = runner.addresses[0][1]
        print(f"{name} listening on http://{listen._replace(port=port)}", flush=True)  # noqa: T201 (what the starter waits for)
        await stop.wait()
    finally:
        await runner.cleanup()


def _when_stdin_ends(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read, not sys.stdin: a daemon thread inside a buffered read aborts the interpreter's end.
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)
