"""Addresses of responders, looked up by the system's own resolver in threads of ours.

The loop's executor would not do: it has few threads, so a name server that is silent for some names would hold up all
others, and the interpreter waits for them when it ends. Here each name under way has a thread (aiohttp asks once for
all who wait for one name), a daemon, and more than `MAX_LOOKUPS` at a time wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Thread

from aiohttp.abc import AbstractResolver, ResolveResult

MAX_LOOKUPS = 64
"""A thread that waits costs some kilobytes; glibc gives a name up after half a minute at the most, by default."""


class Resolver(AbstractResolver):
    """What aiohttp asks for addresses."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look `host` up; OSError when it has no address."""
        async with self._turns:
            return await _in_a_thread(host, port, family)

    async def close(self) -> None:
        """Nothing to do: threads under way end with their lookup, and nobody waits for them."""


async def _in_a_thread(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[ResolveResult]] = loop.create_future()

    def tell(found: list[ResolveResult], error: OSError | None) -> None:
        if answer.done():  # cancelled: the fetcher was closed
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    def run() -> None:
        found, trouble = [], None
        try:
            found = _look_up(host, port, family)
        except OSError as error:
            trouble = error
        except UnicodeError:  # a label that is empty or too long: no such name can exist
            trouble = socket.gaierror(socket.EAI_NONAME, "no name that could be looked up")
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits
            loop.call_soon_threadsafe(tell, found, trouble)

    Thread(target=run, name=f"lookup of {host[:40]}", daemon=True).start()
    return await answer


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    # ADDRCONFIG: no IPv6 addresses for a machine that has none itself.
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            # Link-local: connecting needs the interface too, and only the address's text can carry it.
            host=f"{address[0]!s}%{address[3]}" if len(address) == 4 and address[3] else str(address[0]),
            port=port,
            family=each_family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST,
        )
        for each_family, _, protocol, _, address in found
    ]
