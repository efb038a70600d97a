"""Several servers: who gets a request, what happens when one fails, TLS to them, and the checks of their health."""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from datetime import UTC, datetime

import pytest
from upstream_world import Owner, in_world

from proxy.backends import _context
from proxy.errors import UpstreamError
from proxy.http.dial import BackendTls
from proxy.http.group import GroupPlan
from proxy.http.health import HealthCheck, ask
from proxy.http.pool import UpstreamPool
from proxy.lab.ca import LabCA
from proxy.settings.upstreams import UpstreamServer


@in_world
async def test_one_server_is_a_plain_pool(world):
    """There is nothing to choose, and nothing is paid for it."""
    assert isinstance(world.group(await world.server()), UpstreamPool)


@in_world
async def test_requests_go_round_by_weight(world):
    """On idle connections as on new ones."""
    a, b = await world.server(), await world.server()
    group = world.group(plan=GroupPlan((UpstreamServer(a, 3), UpstreamServer(b))))
    for _ in range(12):
        assert await world.ask(group) is None
    assert Counter(world.asked) == {a.port: 9, b.port: 3}
    assert [pool._count for pool in group.pools] == [1, 1]


@in_world
async def test_the_least_busy_server_is_next(world):
    """What counts is requests under way."""
    a, b = await world.server(), await world.server()
    group = world.group(plan=GroupPlan((UpstreamServer(a), UpstreamServer(b)), "least-connections"))
    busy = await world.connect(group)
    for _ in range(5):
        await world.ask(group)
    assert world.asked == [b.port] * 5
    await Owner(busy).is_over.wait()


@in_world
async def test_who_cannot_be_reached_is_passed_over_then_left_out(world, caplog):
    """The client sees nothing of it; the log has a line for each of the two."""
    gone, good = await world.nobody(), await world.server()
    group = world.group(gone, good, upstream_max_fails=2)
    with caplog.at_level(logging.WARNING, "stapleproxy.upstream"):
        for _ in range(10):
            assert await world.ask(group) is None
    assert world.asked == [good.port] * 10
    assert group.pools[0].standing.fails == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"upstream {gone} fails: the backend cannot be reached (Connection refused); logged once until it works again",
        f"upstream {gone} is left out for 5 s after 2 failures in a row, then longer if it goes on failing",
    ]


@in_world
async def test_a_server_that_comes_back_is_used_again(world):
    """On trial, and then as before."""
    gone, good = await world.nobody(), await world.server()
    group = world.group(gone, good, upstream_max_fails=1, upstream_retry_min_s=0.01)
    await world.ask(group)
    await world.server(port=gone.port)
    back = group.pools[0]
    while back.standing.fails:
        assert await world.ask(group) is None
    assert back.standing.is_trusted(0)


@in_world
async def test_how_many_are_tried_is_a_setting(world):
    """Two of five."""
    group = world.group(*[await world.nobody() for _ in range(5)], upstream_max_fails=0, upstream_max_tries=2)
    assert (await world.ask(group)).status == 502
    assert sum(pool.standing.fails for pool in group.pools) == 2


@in_world
async def test_tries_are_bounded_and_the_last_error_is_told(world):
    """Each server is asked once, and three at most."""
    group = world.group(*[await world.nobody() for _ in range(5)], upstream_max_fails=0)
    assert (await world.ask(group)).status == 502
    assert sorted(pool.standing.fails for pool in group.pools) == [0, 0, 1, 1, 1]


@in_world
async def test_all_are_tried_when_all_are_left_out(world):
    """Health alone refuses nobody."""
    a, b = await world.nobody(), await world.nobody()
    group = world.group(a, b, upstream_max_fails=1)
    await world.ask(group)
    assert not any(pool.standing.is_trusted(world.loop.time()) for pool in group.pools)
    await world.server(port=b.port)
    assert await world.ask(group) is None


@in_world
async def test_a_server_without_a_free_connection_is_passed_over(world):
    """And where none has one, the last to be asked says 503."""
    a, b = await world.server(), await world.server()
    group = world.group(a, b, upstream_max_connections=1, upstream_max_waiting=0)
    busy = [await world.connect(group) for _ in range(2)]
    assert {connection._pool.address for connection in busy} == {a, b}
    result = await world.connect(group)
    assert isinstance(result, UpstreamError)
    assert result.status == 503
    assert [pool.standing.fails for pool in group.pools] == [0, 0]


@in_world
async def test_broken_answers_leave_a_server_out(world):
    """A request that was sent is not sent again; but the next ones go elsewhere."""
    bad, good = await world.server(b"garbage\r\n\r\n"), await world.server()
    group = world.group(bad, good, upstream_max_fails=2)
    errors = [await world.ask(group) for _ in range(10)]
    assert sum(error is not None for error in errors) == 2
    assert errors[4:] == [None] * 6


@in_world
async def test_a_trial_is_passed_when_an_answer_begins(world):
    """A server of endless streams would else get one request in each pause."""
    gone, other = await world.nobody(), await world.server()
    group = world.group(gone, other, upstream_max_fails=1, upstream_retry_min_s=0.01)
    await world.ask(group)
    await world.server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", port=gone.port)
    back = group.pools[0]
    while back.standing.fails:
        connection = await world.connect(group)
        owner = Owner(connection)
        if connection._pool is back:
            await world.until(lambda: not back.standing.fails)
        else:
            await owner.is_over.wait()
    assert back.load == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA, its root as a file, and server contexts."""
    folder = tmp_path_factory.mktemp("ca")
    ca = LabCA.create(datetime.now(UTC))

    def server(*names: str) -> ssl.SSLContext:
        issued = ca.issue(names)
        ca.write(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / f"{issued.stem}.pem", folder / f"{issued.stem}.key")
        return context

    server.root = folder / "root.pem"
    server.intermediate = folder / "intermediate.pem"
    server("x.test")
    return server


@in_world
async def test_a_backend_is_verified_and_then_used_like_any(world, authority):
    """By the address in its URL; the connection is kept."""
    pool = world.pool(
        await world.server(tls=authority("127.0.0.1")), tls=BackendTls(_context(authority.root, "upstream_ca"))
    )
    for _ in range(3):
        assert await world.ask(pool) is None
    assert pool._count == 1


@in_world
async def test_the_name_may_be_another_than_the_host(world, authority):
    """`upstream_name`; and an intermediate in the file is trusted as it is."""
    tls = BackendTls(_context(authority.intermediate, "upstream_ca"), "app.internal")
    assert await world.ask(world.pool(await world.server(tls=authority("app.internal")), tls=tls)) is None


@pytest.mark.parametrize(
    ("names", "trusted", "why"),
    [
        ("other.test", True, "the backend's certificate is refused (IP address mismatch)"),
        ("127.0.0.1", False, "the backend's certificate is refused (unable to get local issuer certificate)"),
    ],
)
@in_world
async def test_a_backend_that_cannot_be_verified_is_502(world, authority, names, trusted, why):
    """In one sentence, which does not tell clients what name was looked for."""
    context = _context(authority.root if trusted else None, "upstream_ca")
    pool = world.pool(await world.server(tls=authority(names)), tls=BackendTls(context))
    error = await world.ask(pool)
    assert (error.status, error.detail) == (502, why)
    assert (pool.standing.fails, pool._count) == (1, 0)


@in_world
async def test_a_backend_that_speaks_no_tls_is_502(world, authority):
    """As when the port of http:// was written after https://."""
    address = (await world.server(b"HTTP/1.1 400 Bad Request\r\n\r\n"))._replace(is_tls=True)
    pool = world.pool(address, tls=BackendTls(_context(authority.root, "upstream_ca")), upstream_connect_timeout_s=0.2)
    error = await world.ask(pool)
    assert error.status in {502, 504}


def check(**more) -> HealthCheck:
    return HealthCheck(**{"path": "/up", "host": "x.test", "interval_s": 0.01, "timeout_s": 0.2, "healthy_after": 2,
                          "unhealthy_after": 2, **more})  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "why_not"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.0 302 Found\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "the answer begins with 'HTTP/1.1 503 Service Unavailable'"),
        (b"200 OK\r\n", "the answer begins with '200 OK'"),
        (b"\n", "the answer begins with ''"),
        (b"x" * 100_000, "the connection ended without an answer"),
        (b"", "no answer within 0.2 s"),
        (None, "the connection ended without an answer"),
    ],
)
@in_world
async def test_what_a_check_finds(world, answer, why_not):
    """Only the status line counts."""
    assert await ask(world.pool(await world.server(answer)), check()) == why_not


@in_world
async def test_a_check_of_nobody(world):
    """In the same words as for a request."""
    assert await ask(world.pool(await world.nobody()), check()) == "the backend cannot be reached (Connection refused)"


@in_world
async def test_checks_leave_a_server_out_and_bring_it_back(world, caplog):
    """Without a request that would have failed, and with a line in the log each time."""
    bad, good = await world.server(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), await world.server()
    caplog.set_level(logging.WARNING, "stapleproxy.upstream")
    group = world.group(plan=GroupPlan((UpstreamServer(bad), UpstreamServer(good)), health=check()))
    await world.until(lambda: group.pools[0].standing.is_down)
    for _ in range(4):
        assert (await world.connect(group))._pool.address == good
    world.servers.pop(0).close()
    await world.server(port=bad.port)
    await world.until(lambda: not group.pools[0].standing.is_down)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"upstream {bad} is left out, it fails its health checks: the answer begins with 'HTTP/1.1 500 No'",
        f"upstream {bad} passes its health checks again",
    ]
