"""The backend's side of mode tcp: whose turn it is, and the connection to it."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, cast

from proxy.deadlines import NEVER, Deadlines
from proxy.log import about

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings.values import UpstreamAddress
    from proxy.tunnel import Relay

_log = logging.getLogger("stapleproxy.upstream")

HIGH_WATER_BYTES = 65_536
_FLUSH_S = 30.0


class Backends:
    """The servers of one site, each its turn; of one worker, which counts by `deadlines` what is open."""

    def __init__(
        self, addresses: Sequence[UpstreamAddress], deadlines: Deadlines, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._addresses = tuple(addresses)
        self._deadlines = deadlines
        self._turns = count()
        self._loop = loop

    def connect(self, relay: Relay) -> asyncio.Task[None]:
        """Connect to one of them, and tell `relay` when it is done, or that there is none."""
        first = next(self._turns) % len(self._addresses)
        return self._loop.create_task(self._connect(relay, self._addresses[first:] + self._addresses[:first]))

    async def _connect(self, relay: Relay, addresses: Sequence[UpstreamAddress]) -> None:
        for address in addresses:
            make = partial(BackendConnection, relay, str(address), self._deadlines)
            try:
                async with asyncio.timeout(relay.settings.connect_timeout_s):
                    if address.path:
                        await self._loop.create_unix_connection(make, address.path)
                    else:
                        await self._loop.create_connection(make, address.host, address.port)
                return
            except OSError as error:  # TimeoutError is one, and says nothing
                why = error or "it did not answer in time"
                extra = about(upstream=str(address))
                _log.warning("cannot connect to the backend %s: %s", address, why, extra=extra)
        relay.on_no_backend()

    def end(self, backend: asyncio.Transport) -> None:
        """Close a connection whose client has gone, when the backend has taken what is left for it, or not."""
        backend.close()
        self._loop.call_later(_FLUSH_S, backend.abort)


class BackendConnection(asyncio.Protocol):
    """The other end of a relay, whose client's deadline is for both."""

    __slots__ = ("_address", "_deadlines", "_raw", "_relay", "deadline_at")

    def __init__(self, relay: Relay, address: str, deadlines: Deadlines) -> None:
        self._relay = relay
        self._address = address
        self._deadlines = deadlines
        self._raw = cast("asyncio.Transport", None)  # set by the first thing that ever happens, connection_made
        self.deadline_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._deadlines.add(self)
        self._relay.on_connected(self._raw, self._address)

    def data_received(self, data: bytes) -> None:
        self._relay.on_backend_data(data)

    def eof_received(self) -> bool:
        self._relay.on_backend_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.discard(self)
        self._relay.on_backend_lost(exc)

    def on_deadline(self) -> None:
        """There is none."""

    def abort(self) -> None:
        self._raw.abort()

    def pause_writing(self) -> None:
        self._relay.pause_client()

    def resume_writing(self) -> None:
        self._relay.resume_client()
