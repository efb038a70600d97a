"""A frontend, its exchanges and the pool in one event loop, on plain sockets: what only shows from inside.

Deadlines are tried by sweeping with a later time, never by waiting for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import Self

import pytest
import uvloop

from proxy.deadlines import NEVER, Deadlines
from proxy.http import chunked, codec, exchange, frontend, messages, pool, routes, upstream
from proxy.settings.http import HttpSettings
from proxy.settings.values import UpstreamAddress

WITHIN_S = 10
CLIENT_TIMEOUT_S = 600
UPSTREAM_TIMEOUT_S = 60
IDLE_TIMEOUT_S = 75
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 64 << 20

KINDS = (
    frontend.Frontend, exchange.Exchange, upstream.UpstreamConnection, codec.RequestDecoder, codec.ResponseDecoder,
    messages.RequestHead, chunked.ChunkedReader,
)  # fmt: skip


class PlainTransport(asyncio.Protocol):
    """What TlsTransport is to a frontend, without TLS."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.peer_host = "192.0.2.1"
        self.deadline_at = NEVER
        self.is_closing = False

    def connection_made(self, raw):
        self.raw = raw
        self.app = frontend.Frontend(routes.Routes((), self.rig.pool), self.rig.settings, "default.test")
        self.rig.deadlines.add(self)
        self.app.connection_made(self)

    def data_received(self, data):
        if not self.is_closing:
            self.app.data_received(data)

    def eof_received(self):
        if not self.is_closing:
            self.app.eof_received()
        return True

    def connection_lost(self, exc):
        self.rig.deadlines.discard(self)
        app, self.app = self.app, None
        app.connection_lost(exc)

    def pause_writing(self):
        self.app.pause_writing()

    def resume_writing(self):
        self.app.resume_writing()

    def on_deadline(self):
        self.app.on_deadline()

    def write(self, data):
        assert not self.is_closing, "written after the close"
        self.raw.write(data)

    def close(self):
        self.is_closing = True
        self.raw.close()

    def abort(self):
        self.is_closing = True
        self.raw.abort()

    reset = abort

    def pause_reading(self):
        self.raw.pause_reading()

    def resume_reading(self):
        self.raw.resume_reading()

    def unsent_bytes(self):
        return self.raw.get_write_buffer_size()

    def now(self):
        return asyncio.get_running_loop().time()


class Rig:
    """A front server and a backend whose connections the test plays itself."""

    settings = HttpSettings(
        client_timeout_s=CLIENT_TIMEOUT_S,
        client_idle_timeout_s=IDLE_TIMEOUT_S,
        client_min_bytes_per_second=1,
        upstream_timeout_s=UPSTREAM_TIMEOUT_S,
    )

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.deadlines = Deadlines()
        address = UpstreamAddress(*self.listener.getsockname())
        self.pool = pool.UpstreamPool(address, self.settings, self.deadlines, loop)
        self.transports: list[PlainTransport] = []
        self.server = await loop.create_server(self._accept, "127.0.0.1", 0)
        self.visits: list[asyncio.StreamWriter] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pool.close()
        self.server.close()
        self.listener.close()
        for writer in self.visits:
            writer.transport.abort()
        await self.until(lambda: len(self.deadlines) == 0)

    def _accept(self) -> PlainTransport:
        transport = PlainTransport(self)
        self.transports.append(transport)
        return transport

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.server.sockets[0].getsockname(), limit=LARGE)
        self.visits.append(writer)
        return reader, writer

    async def visit(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The next connection at the backend."""
        async with asyncio.timeout(WITHIN_S):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        reader, writer = await asyncio.open_connection(sock=sock)
        self.visits.append(writer)
        return reader, writer

    def later(self, seconds: float) -> None:
        """Sweep as if so much time had passed."""
        self.deadlines.sweep(asyncio.get_running_loop().time() + seconds)

    async def until(self, condition) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():  # noqa: ASYNC110  # nothing tells of it, and it is a matter of a few turns
                await asyncio.sleep(0)


def in_loop(test):
    """Run an async test on uvloop, as the worker does."""

    def run(*arguments, **named):
        async def with_rig():
            async with asyncio.timeout(2 * WITHIN_S), Rig() as rig:
                await test(rig, *arguments, **named)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(with_rig())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def head_of(reader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


@in_loop
async def test_a_slow_upload_is_not_the_backends_fault(rig):
    """After 100 Continue it is the client who is waited for, however long, as long as it sends."""
    reader, writer = await rig.client()
    writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await head_of(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
    for byte in (b"a", b"b", b"c", b"d"):
        rig.later(UPSTREAM_TIMEOUT_S * 2)
        writer.write(byte)
        assert await backend_reader.readexactly(1) == byte
    backend_writer.write(OK)
    assert (await head_of(reader)).startswith(b"HTTP/1.1 200 ")


@in_loop
async def test_a_backend_that_took_a_large_upload_still_has_to_answer(rig):
    """The limit runs from when the last of it could be written, and is not forgotten when the buffers empty."""
    reader, writer = await rig.client()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
    backend_reader, _ = await rig.visit()
    await head_of(backend_reader)
    left = LARGE
    while left:
        left -= len(await backend_reader.read(1 << 20))
    transport = rig.transports[0]
    await rig.until(lambda: transport.deadline_at == NEVER)  # the request is whole: the client has done its part
    rig.later(UPSTREAM_TIMEOUT_S + 1)
    assert (await head_of(reader)).startswith(b"HTTP/1.1 504 ")


@in_loop
async def test_a_backend_that_takes_nothing_is_504(rig):
    """And never 408: the client would send if it could."""
    reader, writer = await rig.client()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
    await rig.visit()
    transport = rig.transports[0]
    await rig.until(lambda: transport.app._exchange.is_blocked and transport.app._queue)
    assert transport.deadline_at == NEVER
    rig.later(UPSTREAM_TIMEOUT_S + 1)
    assert (await head_of(reader)).startswith(b"HTTP/1.1 504 ")


@in_loop
async def test_the_time_for_a_head_is_not_prolonged_by_each_byte(rig):
    """Else a few bytes an hour would hold a connection for years."""
    _, writer = await rig.client()
    writer.write(b"GET ")
    await rig.until(lambda: rig.transports and not rig.transports[0].app._decoder.is_idle)
    deadline_at = rig.transports[0].deadline_at
    for byte in GET[4:-1]:
        seen = len(rig.transports[0].app._decoder._partial)
        writer.write(bytes([byte]))
        await rig.until(lambda seen=seen: len(rig.transports[0].app._decoder._partial) > seen)
    assert rig.transports[0].deadline_at == deadline_at


@in_loop
async def test_an_idle_limit_runs_after_an_answer_and_none_while_the_backend_works(rig):
    """Each wait has one side to blame."""
    reader, writer = await rig.client()
    for _ in range(2):
        writer.write(GET)
        if not rig.pool._idle:
            backend_reader, backend_writer = await rig.visit()
        await head_of(backend_reader)
        assert rig.transports[0].deadline_at == NEVER
        backend_writer.write(OK)
        await head_of(reader)
        await reader.readexactly(2)
        left = rig.transports[0].deadline_at - asyncio.get_running_loop().time()
        assert 0 < left <= IDLE_TIMEOUT_S
    rig.later(IDLE_TIMEOUT_S + 1)
    assert await reader.read() == b""


@in_loop
async def test_a_closing_connection_is_not_taken_from_the_pool(rig):
    """Between our closing it and its end nobody may get it, a POST least of all."""
    reader, writer = await rig.client()
    writer.write(GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(OK)
    await head_of(reader)
    await reader.readexactly(2)
    (connection,) = rig.pool._idle
    connection.on_deadline()
    assert rig.pool.take() is None


@in_loop
async def test_a_connection_that_nobody_wants_any_more_is_not_left_open(rig):
    """Whenever the interest ends: before it is made, in that very moment, or after."""
    for turns in range(10):
        given: list[upstream.UpstreamConnection] = []
        task = rig.pool.connect(given.append)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        for connection in given:
            connection.close()
        await rig.until(lambda: len(rig.deadlines) == 0)


@in_loop
async def test_nothing_is_begun_after_the_last_answer(rig):
    """A pipelined POST behind a connection's last request must not be carried out unanswered."""
    reader, writer = await rig.client()
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    writer.write(GET + post)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    app = rig.transports[0].app
    app.drain()
    backend_writer.write(OK)
    await head_of(reader)
    app.resume_writing()  # as the transport calls it when the last bytes have left
    assert await reader.read() == b"ok"
    rig.pool.close()
    assert await backend_reader.read() == b""


@in_loop
async def test_who_retires_has_one_request_more(rig):
    """It may be on its way to us, so nothing is closed; the answer says that it was the last."""
    reader, writer = await rig.client()
    writer.write(GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(OK)
    assert b"close" not in await head_of(reader)
    await reader.readexactly(2)
    rig.transports[0].app.retire()
    writer.write(GET)
    await head_of(backend_reader)
    backend_writer.write(OK)
    assert b"Connection: close" in await head_of(reader)
    assert await reader.read() == b"ok"
    rig.pool.close()


@in_loop
async def test_who_retires_answers_what_is_here_already(rig):
    """Two requests in one piece, the first of them at the backend: the second answer is the one that says it."""
    reader, writer = await rig.client()
    writer.write(GET + GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    rig.transports[0].app.retire()
    backend_writer.write(OK)
    assert b"close" not in await head_of(reader)
    await reader.readexactly(2)
    await head_of(backend_reader)
    backend_writer.write(OK)
    assert b"Connection: close" in await head_of(reader)
    assert await reader.read() == b"ok"
    rig.pool.close()


@in_loop
async def test_the_answer_under_way_says_that_it_is_the_last(rig):
    """Asked for before the end was told, begun after."""
    for end in ("retire", "drain"):
        reader, writer = await rig.client()
        writer.write(GET)
        backend_reader, backend_writer = await rig.visit()
        await head_of(backend_reader)
        getattr(rig.transports[-1].app, end)()
        backend_writer.write(OK)
        assert b"Connection: close" in await head_of(reader)
        assert await reader.read() == b"ok"
        rig.pool.close()


async def _whole(rig, reader, writer):
    writer.write(GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(b"HTTP/1.1 103 Hints\r\n\r\n" + OK)
    await reader.readuntil(b"ok")


async def _relayed(rig, reader, writer):
    writer.write(UPGRADE)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(SWITCHING + b"there")
    await reader.readuntil(b"there")


async def _half_a_chunk(rig, reader, writer):
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
    backend_reader, _ = await rig.visit()
    await backend_reader.readuntil(b"he")


async def _malformed(rig, reader, writer):
    writer.write(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    await reader.read()


async def _unknown_version(rig, reader, writer):
    writer.write(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n")
    await reader.read()


async def _refused(rig, reader, writer):
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.read()


async def _upgrade(rig, reader, writer):
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\nx")
    backend_reader, backend_writer = await rig.visit()
    await backend_reader.readuntil(b"\r\n\r\nx")
    backend_writer.write(OK)
    await reader.readuntil(b"ok")


async def _half_a_request(rig, reader, writer):
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    backend_reader, _ = await rig.visit()
    await backend_reader.readuntil(b"hello")


async def _half_an_answer(rig, reader, writer):
    writer.write(GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await reader.readuntil(b"hello")
    backend_writer.close()
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def _garbage_from_the_backend(rig, reader, writer):
    writer.write(GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(b"garbage\r\n")
    await reader.readuntil(
        b"\n",
    )


async def _wrong_status_from_the_backend(rig, reader, writer):
    writer.write(GET)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(b"HTTP/1.1 099 x\r\n\r\n")
    await reader.readuntil(b"\n")


async def _backend_away(rig, reader, writer):
    rig.listener.close()
    writer.write(GET)
    await reader.readuntil(b"\n")


@pytest.mark.parametrize(
    "course",
    [
        _whole, _malformed, _unknown_version, _refused, _upgrade, _half_a_request, _half_an_answer,
        _garbage_from_the_backend, _wrong_status_from_the_backend, _backend_away, _relayed, _half_a_chunk,
    ],
)  # fmt: skip
def test_an_ended_connection_is_freed_without_the_collector(course):
    """However it ended: a worker's memory must not depend on when the collector runs next."""
    gc.collect()
    before = [item for item in gc.get_objects() if isinstance(item, KINDS)]
    gc.disable()
    try:

        @in_loop
        async def run(rig):
            reader, writer = await rig.client()
            await course(rig, reader, writer)
            writer.transport.abort()
            for visit in rig.visits:
                visit.transport.abort()
            await rig.until(lambda: len(rig.deadlines) == 0)
            rig.transports.clear()
            left = [item for item in gc.get_objects() if isinstance(item, KINDS) and not any(item is b for b in before)]
            assert left == []

        run()
    finally:
        gc.enable()


@in_loop
async def test_a_slow_client_may_take_its_time_and_a_stuck_one_may_not(rig):
    """What counts is whether it took enough since we last looked, not whether the buffer ever ran empty."""
    loop = asyncio.get_running_loop()
    # Small buffers, so that a little taken is a little less unsent, and not all of it.
    rig.server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as client:  # a stream of asyncio's would read ahead
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, rig.server.sockets[0].getsockname())
        await loop.sock_sendall(client, GET)
        backend_reader, backend_writer = await rig.visit()
        await head_of(backend_reader)
        backend_writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
        transport = rig.transports[0]
        await rig.until(lambda: transport.unsent_bytes() > 0 and transport.deadline_at != NEVER)
        for _ in range(2):
            before = transport.unsent_bytes()
            while transport.unsent_bytes() >= before:
                assert await loop.sock_recv(client, 4096)
            rig.later(CLIENT_TIMEOUT_S + 1)
            assert not transport.is_closing
        rig.later(CLIENT_TIMEOUT_S + 1)
        assert transport.is_closing


@in_loop
async def test_a_relay_lives_as_long_as_either_side_speaks(rig):
    """The limits of requests and answers do not run in it; silence of both ends it, in order."""
    reader, writer = await rig.client()
    writer.write(UPGRADE + b"first")
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(SWITCHING)
    assert await head_of(reader) == SWITCHING
    assert await backend_reader.readexactly(5) == b"first"
    for _ in range(3):
        rig.later(rig.settings.upgraded_idle_timeout_s - 1)
        backend_writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
        rig.later(rig.settings.upgraded_idle_timeout_s - 1)
        writer.write(b"a")
        assert await backend_reader.readexactly(1) == b"a"
    rig.later(rig.settings.upgraded_idle_timeout_s + 1)
    assert await reader.read() == b""


@in_loop
async def test_a_stuck_relay_stops_both_sides_from_sending(rig):
    """What is relayed is bounded by the same pauses as bodies."""
    reader, writer = await rig.client()
    writer.write(UPGRADE)
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(SWITCHING)
    await head_of(reader)
    writer.write(b"x" * LARGE)
    transport = rig.transports[0]
    await rig.until(lambda: transport.app._exchange.is_blocked and transport.app._queue)
    assert not transport.app._is_reading
    rig.later(UPSTREAM_TIMEOUT_S + 1)
    await rig.until(lambda: transport.is_closing)


@in_loop
async def test_what_comes_before_an_upgrade_is_decided_is_bounded(rig):
    """It is neither read as HTTP nor given to the backend, so it waits, and the client with it."""
    _, writer = await rig.client()
    writer.write(UPGRADE + b"x" * LARGE)
    backend_reader, _ = await rig.visit()
    await head_of(backend_reader)
    app = rig.transports[0].app
    await rig.until(lambda: not app._is_reading)
    assert app._decoder.held_bytes < 1 << 20
    assert backend_reader._buffer == b""


@in_loop
async def test_a_body_over_the_limit_is_413(rig):
    """Before the backend hears of it where the length is told; in the middle where it is not."""
    reader, writer = await rig.client()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (rig.settings.max_body_bytes + 1))
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert not rig.visits[1:]


@in_loop
async def test_a_chunked_body_over_the_limit_is_413_and_the_request_is_ended(rig):
    """The backend does not see the end of the body, so it cannot take the part for the whole."""
    rig.settings = rig.settings.model_copy(update={"max_body_bytes": 10})
    reader, writer = await rig.client()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    backend_reader, _ = await rig.visit()
    await head_of(backend_reader)
    assert await backend_reader.readexactly(10) == b"5\r\nhello\r\n"
    writer.write(b"6\r\nworld!\r\n0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
    assert await backend_reader.read() == b""


@in_loop
async def test_the_last_request_of_a_connection_is_told_so(rig):
    """After as many as one connection may have the answer says close, and it is closed."""
    reader, writer = await rig.client()
    await rig.until(lambda: rig.transports)
    rig.transports[0].app._requests_left = 2
    writer.write(GET * 3)
    backend_reader, backend_writer = await rig.visit()
    for expected in (False, True):
        await head_of(backend_reader)
        backend_writer.write(OK)
        assert (b"Connection: close" in await head_of(reader)) is expected
        assert await reader.readexactly(2) == b"ok"
    assert await reader.read() == b""


@in_loop
async def test_a_pipelined_upgrade_is_decided_by_its_own_answer(rig):
    """Not by that of the request before it: what comes behind it may be another protocol."""
    reader, writer = await rig.client()
    writer.write(GET + UPGRADE + b"no HTTP")
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    backend_writer.write(OK)
    await reader.readuntil(b"ok")
    await head_of(backend_reader)
    backend_writer.write(SWITCHING)
    assert (await head_of(reader)).startswith(b"HTTP/1.1 101 ")
    assert await backend_reader.readexactly(7) == b"no HTTP"


@in_loop
async def test_a_client_that_takes_nothing_is_cut_whatever_it_sends(rig):
    """A byte of a body now and then is no sign that it takes its answer."""
    _, writer = await rig.client()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
    backend_reader, backend_writer = await rig.visit()
    await head_of(backend_reader)
    writer.transport.pause_reading()
    backend_writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
    transport = rig.transports[0]
    await rig.until(lambda: transport.app._is_write_paused)
    deadline_at = transport.deadline_at
    writer.write(b"y")
    assert await backend_reader.readexactly(1) == b"y"
    transport.app.eof_received()  # as each byte behind close_notify makes the transport call it
    assert transport.deadline_at == deadline_at


@in_loop
async def test_the_body_of_a_request_that_waits_is_not_gathered(rig):
    """While an earlier one is unanswered: requests are read on, to see who leaves, but not megabytes."""
    _, writer = await rig.client()
    writer.write(GET)
    backend_reader, _ = await rig.visit()
    await head_of(backend_reader)
    transport = rig.transports[0]
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
    await rig.until(lambda: not transport.app._is_reading)
    assert sum(len(each) for each in transport.app._queue if isinstance(each, bytes)) < 1 << 19
