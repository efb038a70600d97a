"""What the keeper tells on its Unix socket, and does when told."""

from __future__ import annotations

import asyncio
import socket
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from keeper.responders import responder, until
from keeper.world import ONE, TWO, key, stapled
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import StartError
from proxy.keeper.admin import MAX_CONNECTIONS, Admin, serving
from proxy.keeper.metrics import Metrics
from proxy.listening import open_unix


@asynccontextmanager
async def admin(world, segment, folder, *certificates):
    """A refresher that was warmed up, and a client of its socket."""
    metrics = world.heard = Metrics(segment)
    path = folder / "admin.sock"
    async with world.refresher(*certificates) as refresher:
        metrics.tell_of(refresher.watched)
        await refresher.warm_up()
        work = asyncio.create_task(refresher.run())
        async with (
            serving(Admin(refresher, metrics), open_unix(path)),
            aiohttp.ClientSession("http://admin", connector=aiohttp.UnixConnector(str(path))) as session,
        ):
            yield session
        work.cancel()
        await asyncio.wait({work})


async def get(session, path):
    async with session.get(path) as answer:
        return answer.status, await answer.json()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def values(text):
    """Each sample of a page of metrics: (name, its labels' values by the labels' names) -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_it_tells_of_each_certificate(world, segment, tmp_path):
    """Last and next update, successes and failures, and why: what an operator needs first."""

    async def run():
        good = world.responder.good
        world.responder.say = lambda leaf: good(leaf) if leaf is ONE else web.Response(status=500)
        async with (
            responder(world.responder) as url,
            admin(world, segment, tmp_path, stapled(ONE, url), stapled(TWO, url)) as session,
        ):
            status, found = await get(session, "/api/staples")
            assert status == 200
            one, two = found["staples"]
            assert (one["status"], one["successes"], one["failures"], one["troubles"]) == ("good", 1, 0, [])
            assert one["next_update"] == "2030-06-17T12:00:00Z"
            assert one["next_attempt"] == "2030-06-16T12:00:00Z"
            assert (two["status"], two["successes"], two["failures"]) == (None, 0, 1)
            assert two["troubles"][0]["reason"] == "http-status"
            assert await get(session, f"/api/staples/{two['key']}") == (200, two)
            for wrong in ("00" * 20, "nonsense"):
                assert (await get(session, f"/api/staples/{wrong}"))[0] == 404

    asyncio.run(run())


def test_an_update_can_be_ordered(world, segment, tmp_path):
    async def run():
        async with (
            responder(world.responder) as url,
            admin(world, segment, tmp_path, stapled(ONE, url), stapled(TWO)) as session,
        ):
            async with session.post(f"/api/staples/{key(ONE).hex()}/refresh") as answer:
                assert answer.status == 202
            await until(lambda: world.responder.questions(ONE) == 2)
            async with session.post(f"/api/staples/{key(TWO).hex()}/refresh") as answer:
                assert answer.status == 409  # nobody to ask

    asyncio.run(run())


def test_not_ready_while_a_must_staple_certificate_has_nothing(world, segment, tmp_path):
    """Any other certificate without a staple is no reason."""

    async def run():
        world.responder.say = lambda _: web.Response(status=500)
        async with (
            responder(world.responder) as url,
            admin(world, segment, tmp_path, stapled(ONE, url, must_staple=True), stapled(TWO, url)) as session,
        ):
            assert await get(session, "/healthz") == (200, {"status": "ok"})
            status, found = await get(session, "/readyz")
            assert (status, found["ready"]) == (503, False)
            (reason,) = found["reasons"]
            assert reason.startswith("CN=one.example: it says must-staple")
            world.responder.say = None
            async with session.post(f"/api/staples/{key(ONE).hex()}/refresh") as answer:
                assert answer.status == 202
            while (await get(session, "/readyz"))[0] != 200:  # noqa: ASYNC110  nothing announces it; the test has a limit
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_whoever_holds_connections_open_leaves_the_keeper_its_descriptors(world, segment, tmp_path):
    """The oldest goes when one more comes, so that the next one is served too."""

    async def run():
        async with responder(world.responder) as url, admin(world, segment, tmp_path, stapled(ONE, url)) as session:
            before = descriptors()
            held = []
            for _ in range(3 * MAX_CONNECTIONS):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "admin.sock")
                writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
                held.append((reader, writer))
                await asyncio.sleep(0)
            assert await get(session, "/healthz") == (200, {"status": "ok"})
            assert await held[0][0].read() == b""
            ours = len(held)
            assert descriptors() - before - ours <= 2 * MAX_CONNECTIONS
            for _, writer in held:
                writer.close()

    asyncio.run(run())


def test_metrics(world, segment, tmp_path):
    """Counted by responder and outcome, in a format that Prometheus' own parser reads; the cache's figures too."""

    async def run():
        good = world.responder.good
        world.responder.say = lambda leaf: good(leaf) if leaf is ONE else b"garbage"
        async with (
            responder(world.responder) as url,
            admin(world, segment, tmp_path, stapled(ONE, url), stapled(TWO, url)) as session,
            session.get("/metrics") as answer,
        ):
            found = values(await answer.text())
            address = url.removeprefix("http://")
            assert found["stapleproxy_ocsp_exchanges_total", "fetched", address] == 1
            assert found["stapleproxy_ocsp_exchanges_total", "unparsable", address] == 1
            assert found["stapleproxy_ocsp_exchange_seconds_count", address] == 2
            assert found["stapleproxy_staple_events_total", "refused"] == 1
            assert found["stapleproxy_staple_failures", "CN=two.example", key(TWO).hex()] == 1
            next_update = found["stapleproxy_staple_until_timestamp_seconds", "CN=one.example", key(ONE).hex()]
            assert next_update == (world.moment.timestamp() + 2 * 86_400)
            assert ("stapleproxy_staple_until_timestamp_seconds", "CN=two.example", key(TWO).hex()) not in found
            assert found["stapleproxy_cache_stores_total",] == 1

    asyncio.run(run())


def test_only_the_owner_may_open_the_socket(tmp_path):
    with open_unix(tmp_path / "a.sock"):
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o600


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path):
    path = tmp_path / "a.sock"
    open_unix(path).close()
    with open_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_what_is_not_ours_is_left_alone(tmp_path):
    """A socket in use, a file, a folder that does not exist: one sentence each."""
    path = tmp_path / "a.sock"
    with open_unix(path), pytest.raises(StartError, match="another program listens there"):
        open_unix(path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StartError, match="cannot be made"):
        open_unix(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(StartError, match="cannot be made"):
        open_unix(tmp_path / "no" / "a.sock")
