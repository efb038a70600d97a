"""One server's connections: how many there are, who waits for one, and what is said when it fails."""

from __future__ import annotations

import asyncio
import random

import pytest
from upstream_world import Owner, in_world

from proxy.errors import UpstreamError


def detail(result) -> str:
    assert isinstance(result, UpstreamError), result
    return f"{result.status} {result.detail}"


async def _waiting(world, pool, count: int):
    """So many who wait for a connection."""
    given = [world.loop.create_future() for _ in range(count)]
    tasks = [pool.connect(each.set_result) for each in given]
    await world.until(lambda: len(pool._waiting) == count)
    return given, tasks


@in_world
async def test_a_connection_is_used_again(world):
    """And only one is made."""
    pool = world.pool(await world.server())
    for _ in range(3):
        assert await world.ask(pool) is None
    assert (pool._count, len(pool._idle), pool.load) == (1, 1, 0)


@in_world
async def test_who_tries_again_gets_a_new_connection(world):
    """When one idle connection turns out to have ended, the other idle ones may have too, and it is tried but once."""
    pool = world.pool(await world.server(), upstream_max_connections=2)
    await world.ask(pool)
    given = world.loop.create_future()
    pool.connect(given.set_result)
    second = await given
    assert not second.is_reused
    given = world.loop.create_future()
    pool.connect(given.set_result)
    assert (await given).is_reused  # there may be no third


@in_world
async def test_beyond_the_limit_requests_wait_and_get_in_order_what_becomes_free(world):
    """The same connection goes from hand to hand."""
    pool = world.pool(await world.server(), upstream_max_connections=1)
    first = await world.connect(pool)
    given, _ = await _waiting(world, pool, 3)
    assert pool.is_full
    assert pool.load == 4
    for each in given:
        await Owner(first).is_over.wait()
        assert await each is first
    await Owner(first).is_over.wait()
    assert (pool._count, pool.load) == (1, 0)


@in_world
async def test_who_waits_gets_the_place_of_a_connection_that_ended(world):
    """A backend that closes after each answer serves them all the same."""
    pool = world.pool(
        await world.server(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        upstream_max_connections=2,
    )
    results = await asyncio.gather(*(world.ask(pool) for _ in range(20)))
    assert results == [None] * 20
    await world.until(lambda: pool._count == 0)


@in_world
async def test_a_full_queue_is_503(world):
    """At once, and it is not held against the server."""
    pool = world.pool(await world.server(), upstream_max_connections=1, upstream_max_waiting=2)
    first = await world.connect(pool)
    _, tasks = await _waiting(world, pool, 2)
    assert detail(await world.connect(pool)) == "503 too many requests wait for the backend"
    assert pool.standing.fails == 0
    for task in tasks:
        task.cancel()
    await world.until(lambda: not pool._waiting)
    first.close()
    await world.until(lambda: pool._count == 0)


@in_world
async def test_nobody_waits_for_ever(world):
    """The time for a connection is the time to wait for one, too."""
    pool = world.pool(await world.server(), upstream_max_connections=1, upstream_connect_timeout_s=0.05)
    first = await world.connect(pool)
    assert detail(await world.connect(pool)) == "503 no connection to the backend became free in time"
    assert len(pool._waiting) == 0
    first.close()


@pytest.mark.parametrize("ends", [False, True])
@in_world
async def test_no_place_is_lost_when_who_waits_gives_up(world, ends):
    """Whenever that is: before, in, or after the moment of getting a connection, or the place of one."""
    pool = world.pool(await world.server(), upstream_max_connections=1)
    for turns in range(12):
        first = await world.connect(pool)
        given: list = []
        task = pool.connect(given.append)
        await world.until(lambda: len(pool._waiting) == 1)
        if ends:
            first.close()
        else:
            owner = Owner(first)
            await owner.is_over.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        for connection in given:
            connection.close()
        await world.until(lambda: pool.load == 0)
        assert pool._count == len(pool._idle) <= 1
    assert await world.ask(pool) is None


@in_world
async def test_whatever_happens_the_count_is_right(world):
    """Requests, give-ups and lost connections, mixed by chance, with a fixed seed."""
    chance = random.Random(5)
    pool = world.pool(await world.server(), upstream_max_connections=3, upstream_max_waiting=4, upstream_max_idle=2)

    async def visit() -> None:
        try:
            async with asyncio.timeout(chance.choice([0.001, 0.01, 5])):
                result = await world.connect(pool)
                if isinstance(result, UpstreamError):
                    return
                owner = Owner(result)
                if chance.random() < 0.3:
                    result.close()
                else:
                    await owner.is_over.wait()
        except TimeoutError:
            pass

    for _ in range(40):
        await asyncio.gather(*(visit() for _ in range(chance.randrange(1, 12))))
        assert pool._count <= 3
    pool.close()
    for connection in list(world.deadlines):
        connection.close()
    await world.until(lambda: pool._count == 0 and not pool._waiting)


@in_world
async def test_a_server_that_is_not_there_is_502_and_a_failure(world):
    """In the words of the operating system."""
    pool = world.pool(await world.nobody())
    assert detail(await world.ask(pool)) == "502 the backend cannot be reached (Connection refused)"
    assert (pool.standing.fails, pool._count) == (1, 0)


@in_world
async def test_a_broken_answer_is_a_failure_and_a_good_one_ends_the_row(world):
    """What is counted is failures in a row."""
    address = await world.server(b"garbage\r\n\r\n")
    pool = world.pool(address)
    for _ in range(2):
        assert (await world.ask(pool)).status == 502
    assert pool.standing.fails == 2
    world.servers.pop().close()
    await world.server(port=address.port)
    assert await world.ask(pool) is None
    assert pool.standing.fails == 0


@in_world
async def test_an_idle_connection_that_ended_is_no_failure(world):
    """A backend may close what is idle, even in the moment when it is taken."""
    pool = world.pool(await world.server())
    await world.ask(pool)
    connection = pool.take()
    owner = Owner(connection)
    connection.eof_received()
    await owner.is_over.wait()
    assert owner.error.status == 502
    assert pool.standing.fails == 0


@in_world
async def test_its_state_is_told(world):
    """For who debugs."""
    pool = world.pool(await world.server())
    await world.ask(pool)
    assert repr(pool) == f"<UpstreamPool {pool.address} idle=1 of=1 waiting=0 {pool.standing!r}>"
