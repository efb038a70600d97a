"""Handshakes that wait for what they staple: begun again with the same bytes, and the client notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from certs import make_chain
from OpenSSL import SSL

from proxy.deadlines import NEVER, Deadlines
from proxy.identity import load_identity
from proxy.names import NameTable
from proxy.settings.model import TlsSettings
from proxy.tls.binding import lib
from proxy.tls.context import SiteTls, build_contexts
from proxy.tls.inline import MAX_REPLAYED_BYTES, Preset, StapleWantedError
from proxy.tls.transport import TlsTransport

if TYPE_CHECKING:
    from proxy.tls.session import Session

TRY_LATER = bytes.fromhex("30030a0103")
INTERNAL_ERROR = "tlsv1 alert internal error"


@dataclass
class World:
    """A server of one site, what its handshakes have asked for, and what they were told."""

    folder: object
    decisions: list[bytes | None] = field(default_factory=list)
    """What the callback decides, one after another; None, and when there is no more: a fetch is wanted."""
    asked: list[tuple[StapleWantedError, bytes]] = field(default_factory=list)
    then: list = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    transports: list[TlsTransport] = field(default_factory=list)

    def decide(self, key, _now_s):
        found = self.decisions.pop(0) if self.decisions else None
        if found is None:
            raise StapleWantedError(0, key)
        return found

    def context(self):
        identity = load_identity(make_chain(self.folder).files, where="site[0]")
        tls = TlsSettings(groups="P-256")
        site = SiteTls("site[0]", (identity,), tls, True, 0, inline=self.decide)
        (context,) = build_contexts([site], lambda _key, _now: None)
        return context

    @contextlib.asynccontextmanager
    async def serving(self):
        loop = asyncio.get_running_loop()
        contexts = NameTable([], self.context())
        deadlines = Deadlines()

        def accept() -> TlsTransport:
            transport = TlsTransport(
                contexts,
                self.made,
                deadlines,
                10,
                lambda why, _who: self.failures.append(why),
                loop,
                ask_staple=lambda wanted, hello, then: (self.asked.append((wanted, hello)), self.then.append(then)),
            )
            self.transports.append(transport)
            return transport

        server = await loop.create_server(accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for transport in self.transports:
                transport.abort()
            await asyncio.sleep(0)

    def made(self, _site, session: Session):
        self.sessions.append(session)
        return Greeter()

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  of objects that know no events
                await asyncio.sleep(0.002)


class Greeter:
    """An app that says hello, and nothing more."""

    def connection_made(self, transport) -> None:
        transport.write(b"hello")

    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc) -> None: ...
    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def on_deadline(self) -> None: ...
    def drain(self) -> None: ...


class Client:
    """OpenSSL's client, which asks for a staple."""

    def __init__(self, version: int, groups: bytes = b"P-256") -> None:
        self.staples: list[bytes] = []
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        lib.SSL_CTX_set1_curves_list(context._context, groups)
        context.set_ocsp_client_callback(self._keep)
        self.tls = SSL.Connection(context)
        self.tls.set_connect_state()
        self.tls.request_ocsp()

    def _keep(self, _connection, staple: bytes, _data) -> bool:
        self.staples.append(staple)
        return True

    async def open(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self._step()

    def _step(self) -> bool:
        """Take part in the handshake as far as it goes; whether it is done."""
        try:
            self.tls.do_handshake()
            is_done = True
        except SSL.WantReadError:
            is_done = False
        finally:
            with contextlib.suppress(SSL.WantReadError):
                self.writer.write(self.tls.bio_read(1 << 20))
        return is_done

    async def greeting(self) -> bytes:
        """The handshake, and what the app says. Raises SSL.Error for an alert."""
        async with asyncio.timeout(20):
            while not self._step():
                await self._take()
            while True:
                with contextlib.suppress(SSL.WantReadError):
                    return self.tls.recv(100)
                await self._take()

    async def _take(self) -> None:
        data = await self.reader.read(1 << 16)
        if not data:
            raise EOFError
        self.tls.bio_write(data)


KINDS = [
    pytest.param(SSL.TLS1_2_VERSION, b"P-256", 1, id="TLS 1.2"),
    pytest.param(SSL.TLS1_3_VERSION, b"P-256", 1, id="TLS 1.3"),
    pytest.param(SSL.TLS1_3_VERSION, b"P-521:P-256", 2, id="TLS 1.3 with HelloRetryRequest"),
]


@pytest.mark.parametrize(("version", "groups", "times"), KINDS)
@pytest.mark.parametrize("staple", [TRY_LATER, b""], ids=["a staple", "none"])
def test_a_handshake_goes_on_with_the_answer(tmp_path, version, groups, times, staple):
    """OpenSSL asks once, or twice with a HelloRetryRequest, the second time when bytes have left already."""
    world = World(tmp_path)

    async def run():
        async with world.serving() as port:
            client = Client(version, groups)
            await client.open(port)
            greeting = asyncio.create_task(client.greeting())
            for number in range(times):
                await world.until(lambda n=number: len(world.then) == n + 1)
                assert world.transports[0].deadline_at == NEVER, "no deadline runs while it waits"
                world.then[number](Preset(staple))
                assert world.transports[0].deadline_at != NEVER
            assert await greeting == b"hello"
            assert client.staples == [staple]
            assert world.sessions[0].staple == staple
            assert len(world.asked) == times
            assert world.failures == []
            client.writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("decisions", "asked"),
    [([TRY_LATER, TRY_LATER], 0), ([TRY_LATER, None], 1), ([None, TRY_LATER], 1)],
    ids=["no fetch", "a fetch after the HelloRetryRequest", "a fetch before it"],
)
def test_what_was_decided_is_not_decided_again(tmp_path, decisions, asked):
    """Each of OpenSSL's two questions is answered once, however often the handshake is begun."""
    world = World(tmp_path, list(decisions))

    async def run():
        async with world.serving() as port:
            client = Client(SSL.TLS1_3_VERSION, b"P-521:P-256")
            await client.open(port)
            greeting = asyncio.create_task(client.greeting())
            if asked:
                await world.until(lambda: world.then)
                world.then[0](Preset(TRY_LATER))
            assert await greeting == b"hello"
            assert client.staples == [TRY_LATER]
            assert (len(world.asked), world.decisions) == (asked, [])
            client.writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(("version", "groups", "times"), KINDS)
def test_a_fatal_answer_is_an_alert(tmp_path, version, groups, times):
    """internal_error (80), as in Apache; at the second question too."""
    world = World(tmp_path)

    async def run():
        async with world.serving() as port:
            client = Client(version, groups)
            await client.open(port)
            greeting = asyncio.create_task(client.greeting())
            for number in range(times):
                await world.until(lambda n=number: len(world.then) == n + 1)
                world.then[number](Preset(b"", is_fatal=number == times - 1))
            with pytest.raises(SSL.Error, match=INTERNAL_ERROR):
                await greeting
            assert len(world.failures) == 1
            client.writer.close()

    asyncio.run(run())


def test_a_client_that_leaves_is_forgotten(tmp_path):
    """The answer that comes for it later finds nobody."""
    world = World(tmp_path)

    async def run():
        async with world.serving() as port:
            client = Client(SSL.TLS1_3_VERSION)
            await client.open(port)
            await world.until(lambda: world.then)
            client.writer.close()
            await world.until(lambda: world.failures)
            assert world.failures == ["the client left during the handshake"]
            world.then[0](Preset(TRY_LATER))
            assert world.sessions == []
            await world.until(lambda: world.transports[0].state.name == "CLOSED")
            assert world.transports[0]._replay is None, "what it has sent is not kept until the answer comes"
            world.then[0](Preset(TRY_LATER))

    asyncio.run(run())


def test_a_client_that_sends_meanwhile_without_end_is_cut_off(tmp_path):
    """At once: it may not hold a connection, and what it has sent, until a responder has answered."""
    world = World(tmp_path)

    async def run():
        async with world.serving() as port:
            client = Client(SSL.TLS1_2_VERSION)
            await client.open(port)
            await world.until(lambda: world.then)
            client.writer.write(bytes(MAX_REPLAYED_BYTES))
            await world.until(lambda: world.transports[0].state.name == "CLOSED")
            assert world.failures == ["the client sent too much while it waited for its staple"]
            world.then[0](Preset(TRY_LATER))
            assert world.sessions == []
            client.writer.transport.abort()

    asyncio.run(run())


def test_what_a_client_sends_meanwhile_is_an_error_afterwards(tmp_path):
    """As it would have been without the waiting."""
    world = World(tmp_path)

    async def run():
        async with world.serving() as port:
            client = Client(SSL.TLS1_2_VERSION)
            await client.open(port)
            await world.until(lambda: world.then)
            received = len(world.transports[0]._replay.received)
            client.writer.write(bytes(1000))
            await world.until(lambda: len(world.transports[0]._replay.received) > received)
            world.then[0](Preset(TRY_LATER))
            await world.until(lambda: world.failures)
            assert world.sessions == []
            client.writer.transport.abort()

    asyncio.run(run())
