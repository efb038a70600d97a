"""Mode tcp where the order of small steps counts; what it does as a whole is in integration/test_modes.py."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import uvloop

from proxy.deadlines import Deadlines
from proxy.proxyprotocol import Endpoint
from proxy.settings.modes import TcpSettings
from proxy.settings.values import UpstreamAddress
from proxy.tunnel import Relay
from proxy.tunnel_backend import Backends

PATIENCE_S = 20.0
MUCH = bytes(8_388_608)
"""More than a socket takes while nobody reads at its other end."""


@dataclass
class ClientEnd:
    """A client's connection that only notes whether it is to be read."""

    loop: asyncio.AbstractEventLoop
    is_read: asyncio.Event
    deadline_at: float = 0.0

    def pause_reading(self) -> None:
        self.is_read.clear()

    def resume_reading(self) -> None:
        self.is_read.set()

    def unsent_bytes(self) -> int:
        return 0

    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        return Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2)

    def now(self) -> float:
        return self.loop.time()

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


def test_who_sent_much_with_the_handshake_waits_until_the_backend_has_taken_it(tmp_path):
    """The backend's socket may be full at the first write: a client that is read on then would fill the memory."""

    async def scenario(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        client = ClientEnd(loop, asyncio.Event())
        backends = Backends([UpstreamAddress("", 0, listener.getsockname())], Deadlines(), loop)
        relay = Relay(backends, TcpSettings(), "none", None)
        relay.connection_made(client)
        relay.data_received(MUCH)
        connected = relay._connecting
        assert connected is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                await connected
                assert not client.is_read.is_set()
                backend, _ = await loop.sock_accept(listener)
                with backend:
                    left_bytes = len(MUCH)
                    while left_bytes:
                        left_bytes -= len(await loop.sock_recv(backend, 1 << 20))
                    await client.is_read.wait()
        finally:
            relay.connection_lost(None)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(str(tmp_path / "app.sock"))
        listener.listen()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scenario(listener))
