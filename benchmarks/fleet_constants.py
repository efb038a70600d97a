"""What one operation of a fleet costs, measured: bytes and CPU time of a real redis-server, and of a keeper."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet_redis import Subscribers, redis_process
from fleet_take import take_s

from proxy.cache.layout import geometry
from proxy.cache.room import TYPICAL_RESPONSE_BYTES, size_for_all
from proxy.identity import CacheKey
from proxy.keeper.fleet import scripts
from proxy.keeper.fleet.clients import MAX_OPERATIONS
from proxy.keeper.fleet.server import Names, Server
from proxy.keeper.fleet.value import Head, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fleet_redis import RedisProcess

HEAD, LOOK, FOUND, LOCK, PUT, GIVE_UP = "head", "look", "look, found", "lock", "put", "give up"
_TOKEN = "0" * 32
_LOCK_LIFE_MS = 60_000
_DER = bytes(TYPICAL_RESPONSE_BYTES)
_THIS_S, _LONGEST = 1_800_000_000, 65_600
_PIPELINED = 20
SEGMENT_FOR = 100_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one operation."""

    bytes_in: float
    """That the server reads."""
    bytes_out: float
    server_s: float
    """Of CPU time of the server's one thread."""
    client_s: float
    """Of CPU time of the keeper that asks."""


@dataclass(frozen=True, slots=True)
class Published:
    """An announcement to so many subscribers, the put that brings it included."""

    subscribers: int
    alone_s: float
    """CPU time of the server."""
    pipelined_s: float
    """The same where `_PIPELINED` come at once: one write to a subscriber takes several along."""
    heard_s: float
    """From the put to when the last one has it, on a clock; one process reads for all, one after the other."""


@dataclass(frozen=True, slots=True)
class Constants:
    response_bytes: int
    value_bytes: int
    push_bytes: float
    """Of one announcement to one subscriber."""
    operations: dict[str, Cost]
    many_connections: dict[str, tuple[float, float]]
    """With 1,000 connections: operations in a second on a clock, CPU time of the server for one."""
    published: tuple[Published, ...]
    take_s: float
    """CPU time of a keeper for one announcement: read, verified (ECDSA P-256, by the issuer), put in a cache, told."""
    memory_bytes: float
    """Of the server, for each certificate."""
    segment_bytes: int
    """Of the local cache for `SEGMENT_FOR` responses of this length."""
    connections: int
    """That one machine keeps after it has had as many operations under way as it may, and its subscription."""
    most_connections: int
    """That the server takes unless it is told otherwise."""

    def server_s(self, operation: str) -> float:
        """CPU time of the server: with very many connections where that was measured."""
        many = self.many_connections.get(operation)
        return many[1] if many else self.operations[operation].server_s

    @property
    def push_alone_s(self) -> float:
        return self._push_s(*((each.subscribers, each.alone_s) for each in self.published))

    @property
    def push_pipelined_s(self) -> float:
        return self._push_s(*((each.subscribers, each.pipelined_s) for each in self.published))

    def _push_s(self, *points: tuple[int, float]) -> float:
        most, spent_s = max(points)
        return max(spent_s - self.operations[PUT].server_s, 0.0) / most

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Constants:
        operations = {name: Cost(**each) for name, each in told["operations"].items()}
        many = {name: (each[0], each[1]) for name, each in told["many_connections"].items()}
        published = tuple(Published(**each) for each in told["published"])
        return cls(**told | {"operations": operations, "many_connections": many, "published": published})


def measure(operations: int, subscribers: Sequence[int], announcements: int, taken: int) -> tuple[Constants, str]:
    """Measure all of them; the version of redis-server comes with them."""
    with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as name, redis_process(Path(name)) as server:
        empty = server.work()
        costs, connections = asyncio.run(_operations(server, operations))
        memory_bytes = server.work().since(empty).memory_bytes / operations
        many = _many_connections(server, operations)
        published, push_bytes = [], 0.0
        for number in subscribers:
            told, push_bytes = _publish(server, number, announcements)
            published.append(told)
        taken_s = asyncio.run(take_s(server, taken))
        keys = [CacheKey(sha1(b"%d" % number, usedforsecurity=False).digest()) for number in range(SEGMENT_FOR)]
        size = size_for_all(dict.fromkeys(keys, TYPICAL_RESPONSE_BYTES), "lru", 1 << 20)
        assert size is not None
        value_bytes = len(encode(Head(_THIS_S, _THIS_S * 1000), _DER))
        segment_bytes = geometry(size).segment_bytes
        told_all = (costs, many, tuple(published), taken_s, memory_bytes, segment_bytes)
        limits = connections, server.most_connections()
        return Constants(len(_DER), value_bytes, push_bytes, *told_all, *limits), server.version


# --- one operation at a time for each of the connections that a keeper has


async def _operations(server: RedisProcess, count: int) -> tuple[dict[str, Cost], int]:
    end = int(time.time() + 3_600) * 1_000
    client = Server(server.door(), (("127.0.0.1", server.port),))
    keys = [sha1(b"%d" % number, usedforsecurity=False).digest() for number in range(count)]

    def turn(this_s: int, life_ms: int) -> Callable[[bytes], Awaitable[object]]:
        arguments = (_LONGEST, this_s, 0, "", _TOKEN if life_ms else "", life_ms, 0)
        return lambda key: client.run(scripts.TURN, scripts.read_turn, key, *arguments)

    def put(key: bytes) -> Awaitable[object]:
        arguments = (_THIS_S, 0, "-", end, "", _TOKEN, "", key.hex(), _DER)
        return client.run(scripts.PUT, scripts.read_put, key, *arguments)

    kinds: dict[str, Callable[[bytes], Awaitable[object]]] = {
        LOCK: turn(_THIS_S, _LOCK_LIFE_MS),
        PUT: put,
        HEAD: client.head,
        LOOK: turn(_THIS_S + 1, 0),
        FOUND: turn(0, 0),
        GIVE_UP: lambda key: client.run(scripts.RELEASE, scripts.read_done, key, _TOKEN, 0),
    }
    try:
        for each in kinds.values():  # scripts are known then, and connections made
            await asyncio.gather(*(each(bytes([number] * 20)) for number in range(MAX_OPERATIONS)))
        server.client.flushall()
        costs = {name: await _cost(server, keys, each) for name, each in kinds.items()}
        # The one that is asked here goes, the subscription comes.
        return costs, server.connections() - 1 + 1
    finally:
        await client.close()


async def _cost(server: RedisProcess, keys: Sequence[bytes], operation: Callable[[bytes], Awaitable[object]]) -> Cost:
    blank = server.work()
    before = server.work()
    begun_s = time.process_time()
    for first in range(0, len(keys), MAX_OPERATIONS):
        await asyncio.gather(*(operation(each) for each in keys[first : first + MAX_OPERATIONS]))
    client_s = time.process_time() - begun_s
    asked = before.since(blank)  # what asking the server about itself costs
    done = server.work().since(before)
    return Cost(
        (done.bytes_in - asked.bytes_in) / len(keys),
        (done.bytes_out - asked.bytes_out) / len(keys),
        (done.cpu_s - asked.cpu_s) / len(keys),
        client_s / len(keys),
    )


# --- very many connections


def _many_connections(server: RedisProcess, count: int) -> dict[str, tuple[float, float]]:
    names = Names.of("stapleproxy:", sha1(b"0", usedforsecurity=False).digest())
    turn = ("EVALSHA", scripts.digest(scripts.TURN), 2, names.value, names.lock, _LONGEST, _THIS_S + 1, 0, "", "", 0, 0)
    found = {}
    for name, command in ((HEAD, ("GETRANGE", names.value, 0, 63)), (LOOK, turn)):
        before, begun_s = server.work(), time.monotonic()
        load = ["redis-benchmark", "-p", str(server.port), "-c", "1000", "-n", str(count * 20), "-q"]
        subprocess.run([*load, *map(str, command)], check=True, capture_output=True)
        spent_s = time.monotonic() - begun_s
        found[name] = (count * 20 / spent_s, server.work().since(before).cpu_s / (count * 20))
    return found


# --- announcements


def _publish(server: RedisProcess, number: int, count: int) -> tuple[Published, float]:
    channel, key = f"of-{number}", "0" * 40
    names = Names.of("stapleproxy:", b"\0" * 20)
    end = int(time.time() + 3_600) * 1_000
    subscribers = Subscribers(server.port, channel, number)
    digest = scripts.digest(scripts.PUT)

    def put(to: Any, this_s: int) -> None:  # a client or a pipeline of redis-py, which share no type
        to.evalsha(digest, 2, names.value, names.lock, this_s, 0, "-", end, "", _TOKEN, channel, key, _DER)

    try:
        size = len(key) + 1 + len(encode(Head(_THIS_S, _THIS_S * 1000), _DER))
        size += len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n\r\n" % (len(channel), channel.encode(), size))
        return _timed(server, subscribers, put, number, count, size), size
    finally:
        subscribers.close()


def _timed(
    server: RedisProcess, subscribers: Subscribers, put: Callable[[Any, int], None], number: int, count: int, size: int
) -> Published:
    server.client.flushdb()
    heard_s = []
    before = server.work()
    for turn in range(count):
        begun_s = time.perf_counter()
        put(server.client, _THIS_S + turn)
        subscribers.wait_for(size)
        heard_s.append(time.perf_counter() - begun_s)
    between = server.work()
    for first in range(count, 2 * count, _PIPELINED):
        pipeline = server.client.pipeline(transaction=False)
        for turn in range(first, first + _PIPELINED):
            put(pipeline, _THIS_S + turn)
        pipeline.execute()
        subscribers.wait_for(size * _PIPELINED)
    pipelined = -(-count // _PIPELINED) * _PIPELINED
    alone_s, pipelined_s = between.since(before).cpu_s / count, server.work().since(between).cpu_s / pipelined
    return Published(number, alone_s, pipelined_s, statistics.median(heard_s))
