"""Every way to a real server that the settings have: TLS, users and passwords, Sentinels, a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from integration.conftest import free_port
from integration.front import wait_until
from integration.redis_servers import redis_server
from keeper.fleet.fake_redis import array, fake_redis
from keeper.fleet.test_fleet import PREFIX, Origin, door, member
from keeper.responders import responder, until
from keeper.world import ONE, TWO, stapled
from lab.servers import openssl, require_peer

from proxy.keeper.fleet import scripts
from proxy.keeper.fleet.server import Server
from proxy.keeper.fleet.trouble import FleetReason
from proxy.redisdoor import Credentials, RedisDoor, read_door
from proxy.settings.model import StaplingSettings


async def shares(place, *, certificates=(ONE, TWO)):
    """Whether two machines ask once for each certificate by way of this server."""
    origin = Origin()
    async with responder(origin.responder) as url:
        all_ = [stapled(leaf, url) for leaf in certificates]
        async with member(place, *all_, world=origin) as one:
            await until(lambda: one.counts["stored"] == len(all_))
            async with member(place, *all_, world=origin) as two:
                assert two.counts["taken"] >= len(all_)
                assert all(two.world.staple(leaf) == one.world.staple(leaf) for leaf in certificates)
    assert [origin.responder.questions(leaf) for leaf in certificates] == [1] * len(all_)


async def trouble(place):
    """Why the server does not help; the certificate is stapled all the same."""
    origin = Origin()
    async with (
        responder(origin.responder) as url,
        member(place, stapled(ONE, url), world=origin, warmup_timeout_s=0.1) as one,
    ):

        def time_goes_on():
            one.world.moment += one.world.settings.retry_min_interval_s * origin_step
            return one.world.staple(ONE)

        from datetime import timedelta

        origin_step = timedelta(seconds=1)
        await until(time_goes_on)
        (server,) = one.fleet.told().servers
        assert not server.is_up
        return server.reason, server.detail


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """A CA, and a server's certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    for name, issuer in (("ca", ()), ("server", ("-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"))):
        done = openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", *issuer),
            *(("-addext", "subjectAltName=DNS:localhost") if issuer else ()),
            *(("-addext", "basicConstraints=critical,CA:FALSE") if issuer else ()),
        )
        assert not done.returncode, done.stderr
    return folder


@pytest.fixture(scope="module")
def over_tls(certificates, tmp_path_factory):
    """A server that asks clients for their certificate too; its port."""
    port = free_port()
    options = ["--tls-port", str(port), "--port", "0", "--tls-auth-clients", "yes"]
    for name, file in (("cert", "server.pem"), ("key", "server.key"), ("ca-cert", "ca.pem")):
        options += [f"--tls-{name}-file", str(certificates / file)]
    cli = ["--tls", "-h", "localhost"]
    for name, file in (("cacert", "ca.pem"), ("cert", "server.pem"), ("key", "server.key")):
        cli += [f"--{name}", str(certificates / file)]
    with redis_server(tmp_path_factory.mktemp("redis"), *options, port=port, cli=tuple(cli)):
        yield port


def as_set(cache, **redis) -> RedisDoor:
    """The door of a configuration."""
    return read_door(StaplingSettings(cache=cache, redis={"key_prefix": PREFIX, "timeout_s": 5, **redis}), {})


def test_tls_is_verified_by_both_sides(certificates, over_tls):
    """The server by the CA that is named and by its own name; and by a certificate who comes."""
    own = {"client_certificate": certificates / "server.pem", "client_key": certificates / "server.key"}
    ca = {"ca_file": certificates / "ca.pem"}
    asyncio.run(shares(as_set(f"rediss://localhost:{over_tls}", **ca, **own)))
    for host, how in (("localhost", own), ("127.0.0.1", ca | own)):
        reason, detail = asyncio.run(trouble(as_set(f"rediss://{host}:{over_tls}", **how)))
        assert (reason, bool(detail)) == ("tls", True)
    reason, _ = asyncio.run(trouble(as_set(f"rediss://localhost:{over_tls}", **ca)))
    assert reason in {"tls", "unreachable"}  # by TLS 1.3 who comes has been let in when he hears of it
    reason, _ = asyncio.run(trouble(door(f"redis://localhost:{over_tls}")))
    assert reason == "unreachable"


def test_a_ca_that_is_named_is_the_only_one(certificates):
    """Not besides the hundreds that this machine trusts, as redis-py by itself would have it."""
    context = as_set("rediss://h", ca_file=certificates / "ca.pem").tls
    assert [dict(part[0] for part in each["subject"])["commonName"] for each in context.get_ca_certs()] == ["ca"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


PAGE = Path(__file__).parents[3] / "docs" / "fleet.md"


def rights_of_the_page() -> list[str]:
    (line,) = (line for line in PAGE.read_text().splitlines() if line.startswith("user stapleproxy on >PASSWORD "))
    return line.replace("stapleproxy:", PREFIX).split()[4:]


def test_a_user_with_a_password_and_the_rights_that_are_needed(tmp_path):
    """Those of the page, for keys of the prefix alone. A wrong password is told apart from a server that is down."""
    rights = rights_of_the_page()
    with redis_server(tmp_path) as server:
        assert server.cli("ACL", "SETUSER", "staples", "on", ">hidden-word", *rights) == "OK"
        assert server.cli("ACL", "SETUSER", "default", "off") == "OK"
        place = f"redis://{server.address}"
        asyncio.run(shares(door(place, credentials=Credentials("staples", "hidden-word"))))
        for user, password in (("staples", "wrong-word"), (None, None)):
            reason, detail = asyncio.run(trouble(door(place, credentials=Credentials(user, password))))
            assert reason == "not-allowed", detail
            assert "word" not in detail.replace("password", "")


def test_the_page_has_a_word_for_each_trouble():
    """The same as the log, the status and the metrics."""
    told = PAGE.read_text()
    assert [reason for reason in FleetReason if f"`{reason}`" not in told] == []


def test_a_number_of_a_database(tmp_path):
    with redis_server(tmp_path) as server:
        asyncio.run(shares(door(f"redis://{server.address}/3")))
        assert server.keys() == []
        assert len(server.cli("-n", "3", "--scan", "--pattern", f"{PREFIX}*:staple").split()) == 2


@pytest.mark.parametrize("user", ["somebody", None])
def test_a_password_that_the_server_repeats_is_not_told(tmp_path, lines, user):
    """Redis does where AUTH is renamed: it says with which arguments it does not know it."""
    with redis_server(tmp_path, "--rename-command", "AUTH", "") as server:
        place = door(f"redis://{server.address}", credentials=Credentials(user, "hidden-word"))
        reason, detail = asyncio.run(trouble(place))
    assert (reason, detail) == ("refused", "unknown command 'AUTH'")
    assert not any("hidden-word" in line for line in lines())


def test_no_secret_is_told(tmp_path):
    """Not by what is printed of what holds it."""
    assert "hidden-word" not in repr(door("redis:h", credentials=Credentials(None, "hidden-word")))


@pytest.mark.slow
def test_sentinels_say_where_the_master_is(tmp_path):
    """And when they name another one, the fleet goes there."""
    with redis_server(tmp_path / "one") as one, redis_server(tmp_path / "two") as two:
        two.cli("REPLICAOF", "127.0.0.1", str(one.port))
        port = free_port()
        conf = tmp_path / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {one.port} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 3000\n"
        )
        with sentinel(conf, port) as asked:
            wait_until(lambda: "num-slaves\n1" in asked("SENTINEL", "MASTER", "mymaster"), what="a known replica")
            place = door(f"redis://127.0.0.1:{port}", sentinel_master="mymaster", timeout_s=2)
            asyncio.run(shares(place))
            asyncio.run(survives_failover(place, one, two))
        reason, _ = asyncio.run(trouble(door(f"redis://127.0.0.1:{port}", sentinel_master="mymaster", timeout_s=1)))
        assert reason in {"no-master", "unreachable"}


@pytest.mark.slow
def test_sentinels_and_servers_have_a_password_each(tmp_path):
    """They are different ones; without the Sentinels' nobody says where the master is."""
    with redis_server(
        tmp_path / "one", "--requirepass", "of-the-master", cli=("--no-auth-warning", "-a", "of-the-master")
    ) as one:
        port = free_port()
        conf = tmp_path / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nrequirepass of-the-sentinel\n"
            f"sentinel monitor mymaster 127.0.0.1 {one.port} 1\nsentinel auth-pass mymaster of-the-master\n"
        )
        way = {"sentinel_master": "mymaster", "credentials": Credentials(None, "of-the-master"), "timeout_s": 2}
        with sentinel(conf, port, "-a", "of-the-sentinel") as asked:
            wait_until(lambda: "flags\nmaster\n" in asked("SENTINEL", "MASTER", "mymaster"), what="a known master")
            place = f"redis://127.0.0.1:{port}"
            asyncio.run(shares(door(place, **way, sentinel_credentials=Credentials(None, "of-the-sentinel"))))
            reason, detail = asyncio.run(trouble(door(place, **way)))
            assert reason in {"no-master", "not-allowed"}
            assert "of-the" not in detail


@contextlib.contextmanager
def sentinel(conf, port, *credentials):
    require_peer("redis-server")
    process = subprocess.Popen(["redis-server", str(conf), "--sentinel"], stdout=subprocess.DEVNULL)

    def ask(*words):
        done = subprocess.run(
            ["redis-cli", "-p", str(port), *credentials, *words], capture_output=True, text=True, check=False
        )
        return done.stdout

    try:
        wait_until(lambda: ask("PING") == "PONG\n")
        yield ask
    finally:
        process.kill()
        process.wait()


async def survives_failover(place, one, two):
    origin = Origin()
    async with responder(origin.responder) as url, member(place, stapled(ONE, url), world=origin) as each:
        assert each.fleet.told().servers[0].is_up
        await asyncio.to_thread(one.stop)
        await until(lambda: not each.fleet.told().servers[0].is_up)
        await until(lambda: each.fleet.told().servers[0].is_up, 60)
        assert each.world.staple(ONE)
        await until(lambda: two.keys(f"{PREFIX}*:staple"))


@pytest.mark.slow
def test_a_cluster_of_three_nodes(tmp_path):
    """Keys of one certificate are on one node, and announcements come whichever node one listens to.

    The page's rights are enough, with the one more that it tells.
    """
    (more,) = re.findall(r"In a cluster each node needs that line, with `(\S+)` at its end", PAGE.read_text())
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(redis_server(tmp_path / str(n), "--cluster-enabled", "yes", port=port))
            for n, port in enumerate(cluster_ports(3))
        ]
        made = nodes[0].cli("--cluster", "create", *(node.address for node in nodes), "--cluster-yes")
        assert "All 16384 slots covered" in made, made
        wait_until(lambda: all("cluster_state:ok" in node.cli("CLUSTER", "INFO") for node in nodes))
        for node in nodes:
            assert node.cli("ACL", "SETUSER", "staples", "on", ">hidden-word", *rights_of_the_page(), more) == "OK"
        user = Credentials("staples", "hidden-word")
        place = door(f"redis://{nodes[1].address},{nodes[2].address}", is_cluster=True, credentials=user)
        asyncio.run(shares(place))
        assert sum(len(node.keys(f"{PREFIX}*:staple")) for node in nodes) == 2


def cluster_ports(count):
    """Free ones below 55536: a node's bus has its port and 10000 more."""
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        if port < 55_000 and port not in found:
            found.append(port)
        else:
            found += [p for p in [20_000 + port % 20_000 + len(found)] if p not in found]
    return found


@pytest.mark.slow
def test_a_machine_that_was_held_up_itself_does_not_blame_the_server(tmp_path):
    """Its answer came in time, and was not looked at: a long status was written meanwhile, or the machine was busy."""

    question = (scripts.TURN, scripts.read_turn, b"k" * 20, 65_000, 0, 0, "", "", 0, 0)

    async def run(place):
        asked = Server(place, place.servers.addresses)
        await asked.run(*question)
        for turns in range(8):  # of the loop, until it is held up: before the question is sent, and after
            asking = [asyncio.create_task(asked.run(*question)) for _ in range(20)]
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(2 * place.timeout_s)  # noqa: ASYNC251  this is what holds it up
            assert await asyncio.gather(*asking) == [(b"free", 0, b"")] * 20
        await asked.close()

    with redis_server(tmp_path) as server:
        asyncio.run(run(door(f"redis://{server.address}", timeout_s=0.2)))


def sentinel_of(server) -> dict[str, bytes]:
    """What a Sentinel says that watches this server."""
    words = ("name", "mymaster", "ip", "127.0.0.1", "port", str(server.port), "flags", "master")
    numbers = (word for name in ("num-slaves", "num-other-sentinels", "quorum") for word in (name, "1"))
    return {"SENTINEL": b"*1\r\n" + array(*(word.encode() for word in (*words, *numbers)))}


def test_a_sentinel_that_hangs_is_not_asked_first_for_ever(tmp_path):
    """Its machine is gone without a word, perhaps with the old master: the next one knows the new one."""

    async def silence(_writer, _words) -> None:
        pass

    async def run(server):
        async with fake_redis({"ALL": silence}) as hangs, fake_redis(sentinel_of(server)) as knows:
            origin = Origin()
            place = door(f"redis:{hangs.address},{knows.address}", sentinel_master="mymaster", timeout_s=0.5)
            async with (
                responder(origin.responder) as url,
                member(place, stapled(ONE, url), world=origin, warmup_timeout_s=0.1) as one,
            ):
                await until(lambda: one.fleet.told().servers[0].is_up)
                assert hangs.heard

    with redis_server(tmp_path) as server:
        asyncio.run(run(server))


def test_a_name_server_that_is_silent_holds_up_nothing_else(monkeypatch):
    """Neither what else runs in threads, as the status does, nor the keeper's end, which would wait for the lookups."""
    is_over = threading.Event()
    look_up = socket.getaddrinfo

    def silent(host, *more, **options):
        if host == "silent.example":
            is_over.wait(30)
        return look_up(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)

    async def run() -> None:
        asked = Server(door("redis:silent.example", timeout_s=0.1), [("silent.example", None)])
        asking = [asyncio.create_task(asked.head(bytes(20))) for _ in range(40)]
        done, _ = await asyncio.wait(asking)
        assert {str(each.exception()) for each in done} == {"timeout: no answer within 0.1 s"}
        async with asyncio.timeout(5):
            await asyncio.to_thread(lambda: None)
        await asked.close()

    begun_s = time.monotonic()
    try:
        asyncio.run(run())
    finally:
        is_over.set()
    assert time.monotonic() - begun_s < 10


def test_a_name_is_looked_up_and_each_of_its_addresses_tried(monkeypatch, tmp_path):
    """As of a host with two addresses, on one of which nobody listens."""
    real = socket.getaddrinfo
    with redis_server(tmp_path) as server:

        def two_addresses(host, port, *more, **options):
            there = [found for each in ("127.0.0.9", "127.0.0.1") for found in real(each, port, *more, **options)]
            return there if host == "two.example" else real(host, port, *more, **options)

        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        asyncio.run(shares(door(f"redis:two.example:{server.port}")))
