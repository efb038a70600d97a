"""redis-py's clients, as they are used here: nothing tried twice, TLS by our own context, answers of bounded length.

Names are looked up in threads of our own. A few things are not to be had by arguments: the classes of connection and
parser. See where they are set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse

from proxy.keeper.resolver import Resolver
from proxy.settings.caching import REDIS_PORT, SENTINEL_PORT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from proxy.redisdoor import Credentials, RedisDoor

MAX_OPERATIONS = 16
"""Under way at a time, each on a connection of its own; more wait, within their deadline."""
_ABANDONED_S = 10.0
MAX_ANSWER_BYTES = 4_194_304
"""Of one answer or announcement: more than the longest response that settings allow, and than a cluster's plan."""
_LINE_BYTES = 64
"""What each line counts for at the least, since it becomes an object: a list of a million numbers is a long answer."""
_MAX_NUMBER_BYTES = 21
"""Of a number's line: the type, a sign, and the digits of 64 bits. Python would read thousands of digits."""
_NUMBERS = (b":", b"$", b"*")
"""The types whose line is a number: an integer, or a length."""

Address = tuple[str, int | None]
Client = Redis | RedisCluster
Closing = Callable[[], Coroutine[Any, Any, None]]


class BoundedParser(_AsyncRESP2Parser):
    """Takes no answer of any length: redis-py's would have all of it in memory, whoever sent it."""

    _taken_bytes = 0

    async def read_response(self, disable_decoding: bool = False) -> Any:  # of whatever type the answer has
        self._taken_bytes = 0
        try:
            return await super().read_response(disable_decoding)
        except (ValueError, RecursionError) as error:  # no number where one belongs, a line without end, lists in lists
            raise InvalidResponse("what it said is no Redis protocol") from error

    async def _read(self, length: int) -> bytes:
        self._take(length)
        return await super()._read(length)

    async def _readline(self) -> bytes:
        line = await super()._readline()
        self._take(max(len(line), _LINE_BYTES))
        if line[:1] in _NUMBERS and len(line) > _MAX_NUMBER_BYTES:
            raise InvalidResponse("a number of more than 64 bits")
        return line

    def _take(self, count: int) -> None:
        self._taken_bytes += count
        if count < 0 or self._taken_bytes > MAX_ANSWER_BYTES:
            raise InvalidResponse(f"an answer of more than {MAX_ANSWER_BYTES} bytes")


class _OwnLookup:
    """Looks names up as those of responders are; asyncio would in few threads, which others need, and an end waits for.

    One address after the other is tried, as asyncio does.
    """

    host: str
    _address = ""

    def __init__(self, *, resolver: Resolver, **options: Any) -> None:  # as many types as redis-py has arguments
        super().__init__(**options)
        self._resolver = resolver

    async def _connect(self) -> None:
        failure = None
        for address in await self._addresses():
            self._address = address
            try:
                await super()._connect()  # type: ignore[misc]  # of Connection, which stands behind
            except OSError as error:
                failure = error
            else:
                return
        raise failure or OSError(f"{self.host} has no address")

    async def _addresses(self) -> list[str]:
        try:
            ip_address(self.host)
        except ValueError:
            return [found["host"] for found in await self._resolver.resolve(self.host)]
        return [self.host]

    def _connection_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._connection_arguments()  # type: ignore[misc]  # likewise
        named = {"server_hostname": self.host} if "ssl" in arguments else {}
        return arguments | {"host": self._address} | named


class _Connection(_OwnLookup, Connection):
    pass


class _SentinelConnection(_OwnLookup, SentinelManagedConnection):
    pass


class _OwnTls(_OwnLookup):
    """Uses the context that it is given: redis-py would trust all CAs of the machine besides the one that is named."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:  # as many types as redis-py has arguments
        super().__init__(**options)
        self.ssl_context.context = tls  # type: ignore[attr-defined]  # of SSLConnection, which stands behind


class _TlsConnection(_OwnTls, SSLConnection):
    pass


class _SentinelTlsConnection(_OwnTls, SentinelManagedSSLConnection):
    pass


class _Sentinels(Sentinel):
    """Asks one that hangs last from then on: until our deadline is over redis-py would wait for the first, always."""

    async def discover_master(self, service_name: str) -> Any:  # as it says
        first = self.sentinels[0]
        try:
            return await super().discover_master(service_name)
        except asyncio.CancelledError:
            if self.sentinels[0] is first:  # else another connection has noticed
                self.sentinels.append(self.sentinels.pop(0))
            raise


def client(door: RedisDoor, addresses: Sequence[Address]) -> tuple[Client, Closing]:
    """Make one, with what closes it: for a server, for what Sentinels watch, or for a cluster."""
    if door.is_cluster:
        cluster = _cluster(door, addresses)
        return cluster, cluster.aclose
    if door.sentinel_master:
        return _behind_sentinels(door, door.sentinel_master, addresses)
    ((host, port),) = addresses
    alone = single(door, host, port or REDIS_PORT)
    return alone, alone.aclose


def single(door: RedisDoor, host: str, port: int) -> Redis:
    """Make one for this server alone."""
    return _single(host, port, _options(door, door.credentials) | {"db": door.servers.database}, door.tls)


def _single(host: str, port: int, options: dict[str, Any], tls: ssl.SSLContext | None) -> Redis:
    kind = _TlsConnection if tls else _Connection
    return Redis.from_pool(ConnectionPool(connection_class=kind, host=host, port=port, **options))


def _behind_sentinels(door: RedisDoor, name: str, addresses: Sequence[Address]) -> tuple[Client, Closing]:
    kind = _SentinelTlsConnection if door.tls else _SentinelConnection
    options = _options(door, door.credentials) | {"db": door.servers.database}
    sentinel = _Sentinels([], connection_class=kind, **options)  # type: ignore[no-untyped-call]  # it has no types
    # Made here and not by it, which would make them of its own classes.
    own = _options(door, door.sentinel_credentials)
    sentinel.sentinels = [_single(host, port or SENTINEL_PORT, own, door.tls) for host, port in addresses]
    master = sentinel.master_for(name)

    async def close() -> None:
        await master.aclose()
        for each in sentinel.sentinels:  # by itself it does so in newer versions only
            await each.aclose()

    return master, close


def _cluster(door: RedisDoor, addresses: Sequence[Address]) -> RedisCluster:
    options = _options(door, door.credentials)
    own: dict[str, Any] = {name: options.pop(name) for name in ("parser_class", "resolver", "tls") if name in options}
    own["connection_class"] = _TlsConnection if door.tls else _Connection
    nodes = [ClusterNode(host, port or REDIS_PORT) for host, port in addresses]
    cluster = RedisCluster(startup_nodes=nodes, max_connections=MAX_OPERATIONS, ssl=bool(door.tls), **options)
    # It takes no such arguments. This is what its nodes are made with, now and whenever it finds another one.
    cluster.nodes_manager.connection_kwargs.update(own)
    cluster.nodes_manager.startup_nodes = {
        name: ClusterNode(node.host, node.port, **cluster.nodes_manager.connection_kwargs)
        for name, node in cluster.nodes_manager.startup_nodes.items()
    }
    return cluster


def _options(door: RedisDoor, credentials: Credentials) -> dict[str, Any]:  # as many types as redis-py has arguments
    options: dict[str, Any] = {
        "username": credentials.username,
        "password": credentials.password,
        # Deadlines are `Server`'s. These end what has lost its cancellation, and are no judgement on the server.
        "socket_timeout": door.timeout_s + _ABANDONED_S,
        "socket_connect_timeout": door.timeout_s + _ABANDONED_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "stapleproxy",
        "parser_class": BoundedParser,
        "resolver": Resolver(),
    }
    return options | {"tls": door.tls} if door.tls else options
