"""One server that the fleet shares, by redis-py: operations with a deadline each, and what goes wrong as FleetTrouble.

Nothing is tried twice here: who asks has a way to go on without the server, and `Link` looks when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.errors import StapleproxyError
from proxy.keeper.fleet import scripts
from proxy.keeper.fleet.value import MAX_HEAD_BYTES
from proxy.keeper.trouble import one_line
from proxy.settings.caching import REDIS_PORT, SENTINEL_PORT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from redis.asyncio.client import PubSub

    from proxy.redisdoor import RedisDoor

T = TypeVar("T")

MAX_OPERATIONS = 16
"""Under way at a time, each on a connection of its own; more wait, within their deadline."""
SILENT_S = 5.0
"""A subscription on which nothing came for so long is asked whether it lives; after twice that it does not."""
_PROBE_LIFE_MS = 1_000


class FleetReason(StrEnum):
    """Why the server is of no help: one word, the same in the log, in the metrics and in the status."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    NOT_ALLOWED = "not-allowed"
    READ_ONLY = "read-only"
    OUT_OF_MEMORY = "out-of-memory"
    LOADING = "loading"
    NO_MASTER = "no-master"
    CLUSTER_DOWN = "cluster-down"
    REFUSED = "refused"


class FleetTrouble(StapleproxyError):
    """The server did not do what it was asked."""

    def __init__(self, reason: FleetReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


# In this order: the first class that fits gives the word.
_REASONS: tuple[tuple[type[Exception], FleetReason], ...] = (
    (MasterNotFoundError, FleetReason.NO_MASTER),
    (AuthenticationError, FleetReason.NOT_ALLOWED),
    (AuthorizationError, FleetReason.NOT_ALLOWED),
    (NoPermissionError, FleetReason.NOT_ALLOWED),
    (BusyLoadingError, FleetReason.LOADING),
    (ReadOnlyError, FleetReason.READ_ONLY),
    (OutOfMemoryError, FleetReason.OUT_OF_MEMORY),
    (ClusterDownError, FleetReason.CLUSTER_DOWN),
    (RedisClusterException, FleetReason.CLUSTER_DOWN),
    (RedisTimeoutError, FleetReason.TIMEOUT),
    (TimeoutError, FleetReason.TIMEOUT),
    (RedisConnectionError, FleetReason.UNREACHABLE),
    (OSError, FleetReason.UNREACHABLE),
    (RedisError, FleetReason.REFUSED),
)
_FOREIGN = tuple(known for known, _ in _REASONS)
# What redis-py has no class for, or an older server says of what went wrong within a script.
_WORDS = {
    "NOAUTH": FleetReason.NOT_ALLOWED,
    "NOPERM": FleetReason.NOT_ALLOWED,
    "READONLY": FleetReason.READ_ONLY,
    "OOM": FleetReason.OUT_OF_MEMORY,
    "LOADING": FleetReason.LOADING,
    "CLUSTERDOWN": FleetReason.CLUSTER_DOWN,
}


def trouble_of(error: Exception) -> FleetTrouble:
    """Translate one of `_FOREIGN`."""
    if tls := _of_tls(error):  # which redis-py tells as one of many failures to connect
        return FleetTrouble(FleetReason.TLS, one_line(getattr(tls, "verify_message", "") or tls.reason or str(tls)))
    reason = next(reason for known, reason in _REASONS if isinstance(error, known))
    text = one_line(str(error)) or type(error).__name__
    if isinstance(error, ResponseError) and reason is FleetReason.REFUSED:
        reason = next((each for word, each in _WORDS.items() if word in text.replace("-", " ").split()), reason)
    return FleetTrouble(reason, "no answer in time" if reason is FleetReason.TIMEOUT else text)


def _of_tls(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


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

    def __init__(self, door: RedisDoor, addresses: Sequence[tuple[str, int | None]]) -> None:
        self._door = door
        self._prefix = door.key_prefix
        self._timeout_s = door.timeout_s
        self._room = asyncio.Semaphore(MAX_OPERATIONS)
        self._client, self._close = _client(door, addresses)

    @property
    def channel(self) -> str:
        """Where new responses are announced."""
        return f"{self._prefix}new"

    async def run(self, script: str, names: Names, *arguments: str | bytes | int) -> object:
        """Run a script on the two keys of a certificate."""
        keys = (2, names.value, names.lock)

        async def once() -> object:
            try:
                return await self._client.execute_command("EVALSHA", scripts.digest(script), *keys, *arguments)
            except NoScriptError:  # a server that was started anew; this makes it known there, too
                return await self._client.execute_command("EVAL", script, *keys, *arguments)

        return await self._within(once())

    async def head(self, names: Names) -> bytes:
        """Give the first bytes of a value; none: there is no value."""

        async def once() -> object:
            try:
                return await self._client.execute_command("GETRANGE", names.value, 0, MAX_HEAD_BYTES - 1)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return b""  # no string: it is overwritten by the first who has a response

        said = await self._within(once())
        assert isinstance(said, bytes)
        return said

    @contextlib.asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Subscription]:
        """Listen to announcements; FleetTrouble when that is not possible, or nothing could be written there."""
        async with contextlib.AsyncExitStack() as stack:
            subscription = await self._within(self._subscribe(stack))
            assert isinstance(subscription, _Listening)
            probe = ("SET", f"{self._prefix}probe", "1", "PX", _PROBE_LIFE_MS)
            await self._within(self._client.execute_command(*probe))
            yield subscription

    async def _subscribe(self, stack: contextlib.AsyncExitStack) -> Subscription:
        client = self._client
        if isinstance(client, RedisCluster):  # any node hears of all announcements
            await client.initialize()
            node = client.get_random_node()
            client = Redis(host=str(node.host), port=int(node.port), **_options(self._door))
            stack.push_async_callback(client.aclose)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        stack.push_async_callback(pubsub.aclose)
        await pubsub.subscribe(self.channel)
        return _Listening(pubsub, self._timeout_s)

    async def _within(self, operation: Coroutine[Any, Any, T]) -> T:
        async def in_turn() -> T:
            async with self._room:
                return await operation

        return await _apart(in_turn(), self._timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(FleetTrouble):
            await _apart(self._close(), self._timeout_s)


async def _apart(operation: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Wait for an operation for so long; FleetTrouble says what went wrong.

    It is a task of its own: redis-py loses cancellations (8.1 did one of six, at certain moments), and with them the
    deadline, or the end of whoever waits.
    """
    task = asyncio.create_task(operation)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise FleetTrouble(FleetReason.TIMEOUT, f"no answer within {timeout_s:g} s")
        return task.result()
    except _FOREIGN as error:
        raise trouble_of(error) from error
    finally:
        if not task.done():
            _LEFT_BEHIND.add(task)
            task.add_done_callback(_left_behind)
            task.cancel()


_LEFT_BEHIND: set[asyncio.Task[Any]] = set()
"""So that they are not collected before they end."""


def _left_behind(task: asyncio.Task[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: nobody is waiting for it any more


class _Listening:
    def __init__(self, pubsub: PubSub, timeout_s: float) -> None:
        self._pubsub = pubsub
        self._timeout_s = timeout_s
        self._heard_at = asyncio.get_running_loop().time()
        self._is_asked = False

    async def next(self, within_s: float) -> bytes | None:
        loop = asyncio.get_running_loop()
        message = await _apart(self._pubsub.get_message(timeout=within_s), within_s + self._timeout_s)
        silent_s = loop.time() - self._heard_at
        if message is None and silent_s > SILENT_S and not self._is_asked:
            self._is_asked = True
            await _apart(_ping(self._pubsub), self._timeout_s)
        if message is None:
            if silent_s > 2 * SILENT_S:
                raise FleetTrouble(FleetReason.TIMEOUT, "the subscription is silent")
            return None
        self._heard_at, self._is_asked = loop.time(), False
        data = message.get("data")
        return data if message.get("type") == "message" and isinstance(data, bytes) else None


async def _ping(pubsub: PubSub) -> None:
    await pubsub.ping()


def _client(
    door: RedisDoor, addresses: Sequence[tuple[str, int | None]]
) -> tuple[Redis | RedisCluster, Callable[[], Coroutine[Any, Any, None]]]:
    options = _options(door)
    if door.is_cluster:
        nodes = [ClusterNode(host, port or REDIS_PORT) for host, port in addresses]
        options.pop("db")
        cluster = RedisCluster(startup_nodes=nodes, max_connections=MAX_OPERATIONS, **options)
        return cluster, cluster.aclose
    if door.sentinel_master:
        secrets = {"username", "password", "db"}  # of the servers; a Sentinel has its own, and none as a rule
        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no types there
            [(host, port or SENTINEL_PORT) for host, port in addresses],
            sentinel_kwargs={name: value for name, value in options.items() if name not in secrets},
            **options,
        )
        master = sentinel.master_for(door.sentinel_master)

        async def close() -> None:
            await master.aclose()
            for each in sentinel.sentinels:
                await each.aclose()

        return master, close
    ((host, port),) = addresses
    client = Redis(host=host, port=port or REDIS_PORT, **options)
    return client, client.aclose


def _options(door: RedisDoor) -> dict[str, Any]:  # as many types as redis-py has arguments
    options: dict[str, Any] = {
        "db": door.servers.database,
        "username": door.username,
        "password": door.password,
        "socket_timeout": door.timeout_s,
        "socket_connect_timeout": door.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "stapleproxy",
    }
    if door.servers.is_tls:
        # Named, though they are the default: it was another in early versions of redis-py.
        options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_data": door.ca_pem}
    return options
