"""Servers, pools and requests in one event loop, for the tests of what goes to backends."""

from __future__ import annotations

import asyncio
import inspect

import uvloop

from proxy.deadlines import Deadlines
from proxy.errors import UpstreamError
from proxy.http.group import GroupPlan, open_group
from proxy.http.messages import End
from proxy.http.pool import UpstreamPool
from proxy.http.upstream import UpstreamConnection
from proxy.settings.http import HttpSettings
from proxy.settings.upstreams import UpstreamServer
from proxy.settings.values import UpstreamAddress

WITHIN_S = 10
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Owner:
    """An exchange that asks for / and keeps what comes."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.error: UpstreamError | None = None
        self.is_over = asyncio.Event()
        connection.begin(self, b"GET")
        connection.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.end_request()

    def on_response(self, events) -> None:
        if any(isinstance(event, End) for event in events):
            self.connection.finish(request_is_complete=True)
            self.is_over.set()

    def on_upstream_error(self, error: UpstreamError) -> None:
        self.error = error
        self.connection.report(error)
        self.is_over.set()

    def pause_request(self) -> None: ...
    def resume_request(self) -> None: ...


class _Answering(asyncio.Protocol):
    """One connection of a server."""

    def __init__(self, world: World, answer: bytes | None) -> None:
        self.world = world
        self.answer = answer
        self.received = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.world.visits.append(transport)
        if self.answer is None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            _, _, self.received = self.received.partition(b"\r\n\r\n")
            self.world.asked.append(self.transport.get_extra_info("sockname")[1])
            self.transport.write(self.answer)


class World:
    """What a test has: servers that it opens, and pools or groups before them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines()
        self.servers: list[asyncio.Server] = []
        self.closing: list = []
        self.visits: list[asyncio.Transport] = []
        self.asked: list[int] = []
        """The port of each request that a server has got."""

    async def server(self, answer: bytes | None = OK, *, port: int = 0, tls=None) -> UpstreamAddress:
        """A server that answers each request so; None: it closes each connection, b"": it says nothing."""

        server = await self.loop.create_server(lambda: _Answering(self, answer), "127.0.0.1", port, ssl=tls)
        self.servers.append(server)
        return UpstreamAddress(*server.sockets[0].getsockname(), is_tls=tls is not None)

    async def nobody(self) -> UpstreamAddress:
        """Where nobody listens."""
        address = await self.server()
        self.servers.pop().close()
        return address

    def pool(self, address, *, tls=None, **settings) -> UpstreamPool:
        made = UpstreamPool(address, HttpSettings(**settings), self.deadlines, self.loop, tls=tls)
        self.closing.append(made)
        return made

    def group(self, *addresses, plan=None, **settings):
        plan = plan or GroupPlan(tuple(map(UpstreamServer, addresses)))
        made = open_group(plan, HttpSettings(**settings), self.deadlines, self.loop)
        self.closing.append(made)
        return made

    async def connect(self, upstream):
        """A connection as an exchange gets it, or an UpstreamError."""
        if (connection := upstream.take()) is not None:
            return connection
        given: list[UpstreamConnection | UpstreamError] = []
        task = upstream.connect(given.append)
        try:
            async with asyncio.timeout(WITHIN_S):
                await asyncio.wait([task])
        except asyncio.CancelledError:  # as an exchange does whose client left
            task.cancel()
            for each in given:
                if isinstance(each, UpstreamConnection):
                    each.close()
            raise
        return given[0]

    async def ask(self, upstream) -> UpstreamError | None:
        """One request; None when it was answered."""
        connection = await self.connect(upstream)
        if isinstance(connection, UpstreamError):
            return connection
        owner = Owner(connection)
        async with asyncio.timeout(WITHIN_S):
            await owner.is_over.wait()
        return owner.error

    async def until(self, condition) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():  # noqa: ASYNC110  # nothing tells of it, and it is a matter of a few turns
                await asyncio.sleep(0)


def in_world(test):
    """Run an async test on uvloop, as the worker does; at the end nothing may be left open."""

    def run(*arguments, **named):
        async def with_world():
            world = World()
            async with asyncio.timeout(2 * WITHIN_S):
                try:
                    await test(world, *arguments, **named)
                finally:
                    for each in world.closing:
                        each.close()
                    for each in (*world.deadlines, *world.servers):
                        each.close()
                    for visit in world.visits:
                        visit.abort()
                await world.until(lambda: len(world.deadlines) == 0)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(with_world())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # which pytest fills
    return run
