"""What the keeper tells at its doors, and does when told."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import stat
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from keeper.responders import responder, until
from keeper.world import HOUR, NOW, ONE, TWO, key, sites_of, stapled
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

from proxy.control import Bulletin, Control
from proxy.errors import StartError
from proxy.keeper import admin_serving
from proxy.keeper.admin import Admin
from proxy.keeper.admin_access import Access
from proxy.keeper.admin_routes import ROUTES
from proxy.keeper.admin_serving import MAX_CONNECTIONS, Door, serving
from proxy.keeper.metrics import Metrics
from proxy.keeper.onlooker import Onlooker
from proxy.keeper.reporter import Observers
from proxy.keeper.responders import Responders
from proxy.listening import open_unix
from proxy.settings.admin import AdminSettings

NEWS = {"generation": 3, "started": "2026-01-02T03:04:05Z", "reloads": 2, "master_pid": 7, "config": "/etc/a.toml"}
NEWS |= {"last_reload": {"at": "2026-01-03T03:04:05Z", "ok": False, "mistakes": ["listen: is missing"]}}
TOKEN = "a-token-of-enough-characters"


def listening():
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def admin(world, segment, folder, *certificates, tcp=None, control=None):
    """A refresher that was warmed up, and a client of its Unix socket; `tcp`: the settings of a second door."""
    metrics, responders = Metrics(segment), Responders(world.clock)
    world.heard = Observers(metrics, responders)
    path = folder / "admin.sock"
    async with world.refresher(*certificates) as refresher:
        metrics.tell_of(refresher.watched)
        await refresher.warm_up()
        work = asyncio.create_task(refresher.run())
        sites, settings = sites_of(*certificates)
        status = Onlooker(sites, settings, segment, refresher.watched(), responders, bulletin=Bulletin(NEWS))
        doors = [Door(open_unix(path), Access(is_unix=True))]
        if tcp is not None:
            world.tcp = listening()
            doors.append(Door(world.tcp, tcp))
        async with (
            serving(Admin(status, metrics, refresher, control), doors),
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


def test_whoever_does_not_wait_for_the_answer_keeps_nobody_waiting(world, segment, tmp_path, monkeypatch):
    """Pages are made one at a time; for who has gone none is."""
    made, may_go_on = [], threading.Event()

    def slowly(self):
        made.append(self)
        assert may_go_on.wait(20)
        return ""

    monkeypatch.setattr(Metrics, "text", slowly)

    async def run():
        async with responder(world.responder) as url, admin(world, segment, tmp_path, stapled(ONE, url)) as session:
            first = asyncio.create_task(session.get("/metrics"))
            await until(lambda: made)
            for _ in range(50):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "admin.sock")
                # The first is answered at once: when that is here, the second waits.
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readuntil(b"}\n")
                writer.close()
                await writer.wait_closed()
            assert await get(session, "/healthz") == (200, {"status": "ok"})
            last = asyncio.create_task(session.get("/metrics"))
            may_go_on.set()
            for waiting in (first, last):
                (await waiting).close()
            assert len(made) <= 3, "the first, the last, and one that may have gone just now"

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


def test_what_is_stapled_can_be_fetched_and_set(world, segment, tmp_path):
    """A response that is put there is stapled at once, and what is worse than the one held is refused with its code."""

    async def run():
        async with responder(world.responder) as url, admin(world, segment, tmp_path, stapled(ONE, url)) as session:
            page = f"/api/staples/{key(ONE).hex()}"
            async with session.get(f"{page}/response") as answer:
                assert answer.content_type == "application/ocsp-response"
                assert await answer.read() == world.staple(ONE)

            async def put(body):
                async with session.put(page, data=body) as answer:
                    return answer.status, await answer.json()

            newer = world.responder.good(ONE, this_update=NOW, next_update=NOW + 90 * HOUR)
            status, told = await put(newer)
            assert (status, told["by_hand"], told["next_update"]) == (200, True, "2030-06-19T06:00:00Z")
            assert world.staple(ONE) == newer
            for body, expected in (
                (world.responder.good(ONE, this_update=NOW - HOUR), "older-than-held"),
                (world.responder.good(TWO), "certid-mismatch"),
                (b"nonsense", "unparsable"),
                (newer + b"x", "trailing-bytes"),
            ):
                status, told = await put(body)
                assert (status, told["reason"]) == (422, expected)
            status, told = await put(bytes(70_000))
            assert (status, told["reason"]) == (413, "too-large")
            assert world.staple(ONE) == newer
            assert (await put(b""))[0] == 422
            async with session.put(f"/api/staples/{'00' * 20}", data=newer) as answer:
                assert answer.status == 404

    asyncio.run(run())


def test_a_response_that_is_put_there_is_replaced_by_the_next_that_is_not_older(world, segment, tmp_path):
    async def run():
        async with responder(world.responder) as url, admin(world, segment, tmp_path, stapled(ONE, url)) as session:
            page = f"/api/staples/{key(ONE).hex()}"
            async with session.put(page, data=world.responder.good(ONE, next_update=NOW + 90 * HOUR)) as answer:
                put = await answer.json()
            assert put["next_attempt"] == "2030-06-16T12:00:00Z"  # refresh_max_interval_s, as if it had been fetched
            world.moment += 25 * HOUR
            await until(lambda: world.responder.questions(ONE) == 2)
            while (await get(session, page))[1]["by_hand"]:  # noqa: ASYNC110  nothing announces it; the test has a limit
                await asyncio.sleep(0.01)
            _, told = await get(session, page)
            assert told["this_update"] == "2030-06-16T13:00:00Z"

    asyncio.run(run())


def test_orders_to_the_master(world, segment, tmp_path):
    """They are passed on; how a reload has ended is read from what the master makes known."""

    async def run():
        control = Control()
        async with admin(world, segment, tmp_path, stapled(ONE), control=control) as session:
            for order in ("reload", "stop"):
                async with session.post(f"/api/{order}") as answer:
                    assert (answer.status, await answer.json()) == (202, {"ordered": order})
                assert control.receive() == {order}
            assert await get(session, "/api/reload") == (200, NEWS)

    asyncio.run(run())


def test_all_that_is_answered_is_described(world, segment, tmp_path):
    """The description is right OpenAPI, and has each route with each status."""

    async def run():
        async with admin(world, segment, tmp_path, stapled(ONE)) as session:
            _, found = await get(session, "/openapi.json")
            OpenAPIV31SpecValidator(found).validate()
            described = {(method, path) for path, item in found["paths"].items() for method in item}
            assert described == {(route.method.lower(), route.path) for route in ROUTES}
            status, told = await get(session, "/api/status")
            assert status == 200
            schemas = found["components"]["schemas"]
            assert told.keys() == schemas["Status"]["properties"].keys()
            assert told["sites"][0]["certificates"][0].keys() == schemas["Certificate"]["properties"].keys()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "what"),
    [("state=odd", "state must be"), ("limit=0", "limit must be"), ("sort=x", "sort must be"), ("x=1", "unknown")],
)
def test_a_wrong_query_is_told(world, segment, tmp_path, query, what):
    async def run():
        async with admin(world, segment, tmp_path, stapled(ONE)) as session:
            for page in ("/", "/api/status"):
                status, told = await get(session, f"{page}?{query}")
                assert status == 400
                assert what in told["error"]

    asyncio.run(run())


def test_what_is_not_there_is_told_in_json(world, segment, tmp_path):
    """No such page, no such method, and paths that lead outside."""

    async def run():
        async with admin(world, segment, tmp_path, stapled(ONE), tcp=by_tcp()) as session:
            for target in ("/nothing", "/api/staples/../../etc/passwd", "//", "/api/staples/%2e%2e", "/api//status"):
                status, _, body = await asked(world, "GET", target)
                assert (status, set(json.loads(body))) == (404, {"error"})
            async with session.delete("/api/status") as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
                assert set(await answer.json()) == {"error"}

    asyncio.run(run())


def by_tcp(token=None, **settings):
    return Access.by_tcp(AdminSettings(listen="127.0.0.1:1", **settings), token and token.encode())


def asked(world, method, target, **headers):
    """One request by TCP, with these headers and no others but Host; status, headers and body."""

    def ask():
        connection = http.client.HTTPConnection(*world.tcp.getsockname(), timeout=20)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": "localhost:1", "Content-Length": "0", **headers}.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.msg, answer.read()
        finally:
            connection.close()

    return asyncio.to_thread(ask)


def test_without_a_token_tcp_tells_and_takes_no_orders(world, segment, tmp_path):
    """Any user of the machine can reach it, and web pages in a browser on it may try."""

    async def run():
        control = Control()
        async with (
            responder(world.responder) as url,
            admin(world, segment, tmp_path, stapled(ONE, url), tcp=by_tcp(), control=control),
        ):
            status, headers, _ = await asked(world, "GET", "/api/status")
            assert status == 200
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            order = {"Content-Type": "application/json"}
            for target in (f"/api/staples/{key(ONE).hex()}/refresh", "/api/reload", "/api/stop"):
                assert (await asked(world, "POST", target, **order))[0] == 403
            assert (await asked(world, "PUT", f"/api/staples/{key(ONE).hex()}", **order))[0] == 403
            assert (await asked(world, "GET", "/", Host="rebound.example:1"))[0] == 403
            assert (await asked(world, "GET", "/", Host=None))[0] == 400
            assert (await asked(world, "GET", "/api/status", Origin="http://evil.example"))[0] == 403
            _, _, page = await asked(world, "GET", "/")
            assert b"data-key=" not in page, "no button that would not work"
            assert control.receive() == set()
            assert world.responder.questions(ONE) == 1

    asyncio.run(run())


def test_with_a_token_tcp_takes_orders_but_none_of_the_master(world, segment, tmp_path, monkeypatch):
    monkeypatch.setattr(admin_serving, "WRONG_TOKEN_PAUSE_S", 0.01)

    async def run():
        control = Control()
        async with (
            responder(world.responder) as url,
            admin(world, segment, tmp_path, stapled(ONE, url), tcp=by_tcp(TOKEN), control=control),
        ):
            status, headers, _ = await asked(world, "GET", "/")
            assert status == 401
            assert [each.split()[0] for each in headers.get_all("WWW-Authenticate")] == ["Bearer", "Basic"]
            for wrong in ("Bearer no", f"Bearer {TOKEN}x", "Basic !!!", f"Digest {TOKEN}", "Bearer \xff"):
                assert (await asked(world, "GET", "/", Authorization=wrong))[0] == 401
            assert (await asked(world, "GET", "/healthz"))[0] == 200
            right = {"Authorization": f"Bearer {TOKEN}", "Host": "admin.example"}
            assert (await asked(world, "GET", "/", **right))[0] == 200
            refresh = f"/api/staples/{key(ONE).hex()}/refresh"
            assert (await asked(world, "POST", refresh, **right))[0] == 415, "a form could have sent it"
            right["Content-Type"] = "application/json"
            assert (await asked(world, "POST", refresh, **right, Origin="http://evil.example"))[0] == 403
            assert (await asked(world, "POST", refresh, **right, Origin="https://admin.example"))[0] == 202
            assert (await asked(world, "POST", "/api/stop", **right))[0] == 403
            assert control.receive() == set()

    asyncio.run(run())


def test_only_from_where_it_is_allowed(world, segment, tmp_path):
    async def run():
        access = by_tcp(TOKEN, allow=["192.0.2.0/24"])
        async with admin(world, segment, tmp_path, stapled(ONE), tcp=access):
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert (await asked(world, "GET", "/healthz", **right))[0] == 403

    asyncio.run(run())


def test_who_is_not_allowed_pushes_nobody_out(world, segment, tmp_path):
    """However many connections they open."""

    async def run():
        async with admin(world, segment, tmp_path, stapled(ONE), tcp=by_tcp(allow=["127.0.0.2"])):
            port = world.tcp.getsockname()[1]

            async def healthz(reader, writer):
                writer.write(f"GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
                async with asyncio.timeout(20):
                    return (await reader.readuntil(b"\r\n"), await reader.readuntil(b"}\n"))[0].split()[1]

            allowed = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            assert await healthz(*allowed) == b"200"
            others = []
            for _ in range(2 * MAX_CONNECTIONS):
                others.append(await asyncio.open_connection("127.0.0.1", port))
                await asyncio.sleep(0)
            assert await healthz(*others[-1]) == b"403"
            assert await others[0][0].read() == b""
            assert await healthz(*allowed) == b"200"
            for _, writer in (allowed, *others):
                writer.close()

    asyncio.run(run())


def test_large_heads_are_refused(world, segment, tmp_path):
    """One long header, many short ones, a long target: each is an answer, and the next request is served."""

    async def run():
        async with admin(world, segment, tmp_path, stapled(ONE), tcp=by_tcp()):
            for headers in ({"X": "x" * 20_000}, {f"X-{n}": "x" for n in range(500)}):
                assert (await asked(world, "GET", "/healthz", **headers))[0] == 400
            assert (await asked(world, "GET", "/" + "x" * 20_000))[0] in {400, 414}
            assert (await asked(world, "GET", "/healthz"))[0] == 200

    asyncio.run(run())
