"""One server that the fleet shares, by redis-py: operations with a deadline each, and what goes wrong as FleetTrouble.

Nothing is tried twice here: who asks has a way to go on without the server, and `Link` looks when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

from proxy.keeper.fleet import scripts
from proxy.keeper.fleet.clients import MAX_OPERATIONS, client, single
from proxy.keeper.fleet.trouble import FleetReason, FleetTrouble, trouble_of
from proxy.keeper.fleet.value import MAX_HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from redis.asyncio.client import PubSub

    from proxy.keeper.fleet.clients import Address, Closing
    from proxy.redisdoor import RedisDoor

T = TypeVar("T")

SILENT_S = 5.0
"""A subscription on which nothing came for so long is asked whether it lives; after twice that it does not."""
_PROBE_LIFE_MS = 1_000
_CLOSED_WITHIN_S = 1.0
_HELD_UP_S = 0.05
"""Who notices a deadline later than that was held up: by writing a list of 10,000 certificates, which takes up to a
second, or with the whole machine."""


class Subscription(Protocol):
    """Where announcements come."""

    async def next(self, within_s: float) -> bytes | None:
        """The next announcement; None: none came. FleetTrouble: the connection is lost."""


@dataclass(frozen=True, slots=True)
class Names:
    """The keys of one certificate. The braces put both on one node of a cluster."""

    value: str
    lock: str

    @classmethod
    def of(cls, prefix: str, key: bytes) -> Names:
        return cls(f"{prefix}{{{key.hex()}}}:staple", f"{prefix}{{{key.hex()}}}:lock")


class Server:
    """What is behind one address of the setting: a server, or what Sentinels watch, or a cluster."""

    def __init__(self, door: RedisDoor, addresses: Sequence[Address]) -> None:
        self._door = door
        self._prefix = door.key_prefix
        self._timeout_s = door.timeout_s
        self._room = asyncio.Semaphore(MAX_OPERATIONS)
        self._client, self._close = client(door, addresses)

    @property
    def channel(self) -> str:
        """Where new responses are announced."""
        return f"{self._prefix}new"

    async def run(self, script: str, read: Callable[[object], T], key: bytes, *arguments: str | bytes | int) -> T:
        """Run a script on the two keys of a certificate, and read what it says."""
        names = Names.of(self._prefix, key)
        keys = (2, names.value, names.lock)

        async def once() -> T:
            try:
                said = await self._client.execute_command("EVALSHA", scripts.digest(script), *keys, *arguments)
            except NoScriptError:  # a server that was started anew; this makes it known there, too
                said = await self._client.execute_command("EVAL", script, *keys, *arguments)
            return read(said)

        return await self._within(once)

    async def head(self, key: bytes) -> bytes:
        """Give the first bytes of a value; none: there is no value."""
        command = ("GETRANGE", Names.of(self._prefix, key).value, 0, MAX_HEAD_BYTES - 1)

        async def once() -> bytes:
            try:
                said = await self._client.execute_command(*command)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return b""  # no string: it is overwritten by the first who has a response
            if not isinstance(said, bytes):
                raise InvalidResponse("GETRANGE says nothing like this")
            return said

        return await self._within(once)

    @contextlib.asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Subscription]:
        """Listen to announcements; FleetTrouble when that is not possible, or nothing could be written there."""
        async with contextlib.AsyncExitStack() as stack:
            subscription = await self._within(lambda: self._subscribe(stack))
            probe = ("SET", f"{self._prefix}probe", "1", "PX", _PROBE_LIFE_MS)
            await self._within(lambda: self._client.execute_command(*probe))
            yield subscription

    async def _subscribe(self, stack: contextlib.AsyncExitStack) -> Subscription:
        alone = self._client
        if isinstance(alone, RedisCluster):  # any node hears of all announcements
            await alone.initialize()
            node = alone.get_random_node()
            alone = single(self._door, str(node.host), int(node.port))
            stack.push_async_callback(self._closed, alone.aclose)
        pubsub = alone.pubsub(ignore_subscribe_messages=True)
        stack.push_async_callback(self._closed, pubsub.aclose)
        await pubsub.subscribe(self.channel)
        return _Listening(pubsub, self._timeout_s, self._door.secrets)

    async def _within(self, operation: Callable[[], Awaitable[T]]) -> T:
        async def in_turn() -> T:
            async with self._room:
                return await operation()

        return await _apart(in_turn(), self._timeout_s, self._door.secrets)

    async def close(self) -> None:
        """Close all connections."""
        await self._closed(self._close)

    async def _closed(self, close: Closing) -> None:
        with contextlib.suppress(FleetTrouble):
            await _apart(close(), min(self._timeout_s, _CLOSED_WITHIN_S), self._door.secrets)


async def _apart(operation: Coroutine[Any, Any, T], timeout_s: float, secrets: Sequence[str]) -> T:
    """Wait for an operation for so long; FleetTrouble says what went wrong.

    It is a task of its own: redis-py loses cancellations (8.1 did one of six, at certain moments), and with them the
    deadline, or the end of whoever waits. Where the deadline is noticed late, this process was held up, and the answer
    may be there unread: it is waited for once more.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(operation)
    begun_s = loop.time()
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if loop.time() - begun_s > timeout_s + _HELD_UP_S:
            await asyncio.wait({task}, timeout=timeout_s)
        if task.done() and not task.cancelled():
            return task.result()
    except Exception as error:  # the edge of a task: over what is no Redis, redis-py stumbles in many ways
        raise trouble_of(error, secrets) from error
    finally:
        if not task.done():
            _LEFT_BEHIND.add(task)
            task.add_done_callback(_left_behind)
            task.cancel()
    if task.cancelled():  # within, by nobody here: passed on, it would look like the end of whoever waits
        raise FleetTrouble(FleetReason.UNREACHABLE, "the operation was given up")
    raise FleetTrouble(FleetReason.TIMEOUT, f"no answer within {timeout_s:g} s")


_LEFT_BEHIND: set[asyncio.Task[Any]] = set()
"""So that they are not collected before they end."""


def _left_behind(task: asyncio.Task[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: nobody is waiting for it any more


class _Listening:
    def __init__(self, pubsub: PubSub, timeout_s: float, secrets: Sequence[str]) -> None:
        self._pubsub = pubsub
        self._timeout_s = timeout_s
        self._secrets = secrets
        self._heard_at = asyncio.get_running_loop().time()
        self._is_asked = False

    async def next(self, within_s: float) -> bytes | None:
        loop = asyncio.get_running_loop()
        message = await _apart(self._pubsub.get_message(timeout=within_s), within_s + self._timeout_s, self._secrets)
        silent_s = loop.time() - self._heard_at
        if message is None and silent_s > SILENT_S and not self._is_asked:
            self._is_asked = True
            await _apart(_ping(self._pubsub), self._timeout_s, self._secrets)
        if message is None:
            if silent_s > 2 * SILENT_S:
                raise FleetTrouble(FleetReason.TIMEOUT, "the subscription is silent")
            return None
        self._heard_at, self._is_asked = loop.time(), False
        data = message.get("data")
        return data if message.get("type") == "message" and isinstance(data, bytes) else None


async def _ping(pubsub: PubSub) -> None:
    await pubsub.ping()
