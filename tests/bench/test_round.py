"""The client against a server whose every step is known: nothing it counts may differ from what happened."""

from __future__ import annotations

import asyncio
import csv
import socket
import threading
import time

import pytest
from bench.scripted import answer
from OpenSSL import SSL

from proxy.bench.arrivals import Names
from proxy.bench.context import client_offer
from proxy.bench.crowd import Crowd
from proxy.bench.driver import Round
from proxy.bench.outcomes import Failure, StapleOutcome
from proxy.bench.plan import Phase, Timeouts, Tls, Work
from proxy.bench.samples import SampleFile, begin_samples
from proxy.bench.tally import Uncounted

MS = 1_000_000
PATIENT = Timeouts(20, 20, 20)


def a_work(port, **how):
    how.setdefault("timeouts", PATIENT)
    how.setdefault("names", Names.of([("lab.test", 1)]))
    return Work(address=("127.0.0.1", port), authority=f"127.0.0.1:{port}", **how)


def run(port, *phases, max_open=1000, **how):
    """Run phases one after the other in one crowd; the tally of the last one."""

    async def main():
        work = a_work(port, **how)
        crowd = Crowd(work, client_offer(work.tls), asyncio.get_running_loop())
        for phase in phases:
            tally = await Round(crowd, phase, phase.part(0, 1), time.monotonic_ns(), max_open=max_open).run()
            assert not crowd.open
        return tally

    return asyncio.run(asyncio.wait_for(main(), 60))


def closed(handshakes=20, concurrency=3, **more):
    return Phase(handshakes=handshakes, concurrency=concurrency, **more)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_every_handshake_is_counted_and_no_other(server, staples, version):
    """The server's own count is the same; the staple was verified once."""
    with server(staple=lambda _: staples["good"]).running() as scripted:
        tally = run(scripted.port, closed(), tls=Tls(version))
    assert (tally.handshakes, tally.failed) == (20, 0)
    assert (scripted.handshakes, scripted.asked, scripted.errors) == (20, 20, [])
    assert tally.staples == {(StapleOutcome.GOOD, ""): 20}
    assert [(words[0], count) for words, count in tally.protocols.items()] == [(f"TLSv{version}", 20)]
    assert set(scripted.names) == {b"lab.test"}
    assert [(each.count, each.size) for each in tally.seen.values()] == [(20, len(staples["good"]))]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_wrong_and_missing_staples_are_counted_by_reason(server, staples, version):
    """Exactly as many as were given out."""
    script = [staples["good"], b"", staples["revoked"], staples["over"], staples["broken"], b"\x30\x03\x0a\x01\x03"]
    with server(staple=lambda number: script[number % 6]).running() as scripted:
        tally = run(scripted.port, closed(30), tls=Tls(version))
    assert tally.staples == {
        (StapleOutcome.GOOD, ""): 5,
        (StapleOutcome.MISSING, ""): 5,
        (StapleOutcome.REVOKED, ""): 5,
        (StapleOutcome.INVALID, "expired"): 5,
        (StapleOutcome.INVALID, "bad-signature"): 5,
        (StapleOutcome.OTHER, "try-later"): 5,
    }
    assert len(tally.seen) == 5
    assert sum(sum(second.staples.values()) for second in tally.seconds.values()) == 30


def test_who_does_not_ask_gets_none(server, staples):
    with server(staple=lambda _: staples["good"]).running() as scripted:
        tally = run(scripted.port, closed(asks_staple=False))
    assert (tally.staples, scripted.asked) == ({(StapleOutcome.NOT_ASKED, ""): 20}, 0)


@pytest.mark.slow
def test_a_stall_shows_in_an_open_loop(server):
    """Half a second of silence is felt by all who were due in it, and a quantile says so.

    A closed loop of one client would have waited once and not have come in the meantime (coordinated omission).
    """

    def stall(number):
        if number == 25:
            time.sleep(0.5)  # the stall itself, which is what is measured
        return True

    with server(before=stall).running() as scripted:
        tally = run(scripted.port, Phase(handshakes=100, rate=100))
        assert tally.handshakes == 100
        late = sum(count for value, count in tally.latencies.total.buckets() if value > 50 * MS)
        assert late >= 40, "about 45 were due while the server slept"
        assert tally.latencies.total.quantile(0.9) > 300 * MS
    with server(before=stall).running() as scripted:
        hidden = run(scripted.port, closed(100, 1))
    assert hidden.latencies.total.max > 450 * MS
    assert hidden.latencies.total.quantile(0.9) < 300 * MS


def test_the_rate_of_a_short_open_loop_is_that_of_its_schedule(server):
    """It lasts as long as it was to last, not until its last client: that would be 11 a second."""
    with server().running() as scripted:
        tally = run(scripted.port, Phase(seconds=1.0, rate=10))
    assert tally.handshakes == 10
    assert tally.rate == pytest.approx(10, rel=0.05)


def test_who_has_begun_is_served_while_others_are_due(server, tmp_path):
    """At a rate that cannot be reached, those who begin leave time to those who are open: else the server would be
    blamed for what they wait.
    """
    path = tmp_path / "samples.csv"
    begin_samples(path)

    async def main(port):
        work = a_work(port)
        loop = asyncio.get_running_loop()
        phase = Phase(handshakes=400, rate=100_000)
        crowd = Crowd(work, client_offer(work.tls), loop, SampleFile(str(path)))
        return await Round(crowd, phase, phase.part(0, 1), time.monotonic_ns()).run()

    with server().running() as scripted:
        tally = asyncio.run(asyncio.wait_for(main(scripted.port), 60))
    assert tally.handshakes == 400
    with path.open() as lines:
        found = list(csv.DictReader(lines))
    ended = min(
        float(line["begun"]) + (float(line["connect_us"]) + float(line["handshake_us"])) / 1e6 for line in found
    )
    assert ended < max(float(line["begun"]) for line in found)


def test_latency_counts_from_when_a_client_was_due(server):
    """Also where no room was left to begin it: its lateness is part of the whole."""
    with server(before=lambda number: number > 0 or time.sleep(0.4) is None).running() as scripted:
        tally = run(scripted.port, Phase(handshakes=40, rate=100), max_open=2)
    assert tally.handshakes == 40
    assert tally.latencies.late.quantile(0.5) > 50 * MS
    assert tally.latencies.total.max >= tally.latencies.late.max
    assert tally.latencies.handshake.quantile(0.5) < tally.latencies.total.quantile(0.5)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_share_that_resumes_resumes(server, staples, version, share):
    """The first client brings the session; a resumption has no staple, and is no missing one."""
    with server(staple=lambda _: staples["good"]).running() as scripted:
        tally = run(scripted.port, closed(2, 1), closed(20, 1), tls=Tls(version), resume=share)
    assert tally.resumed == 20 * share
    assert tally.staples[StapleOutcome.RESUMED, ""] == 20 * share
    assert tally.staples[StapleOutcome.GOOD, ""] == 20 - 20 * share
    assert scripted.handshakes == 22
    assert scripted.resumed == tally.resumed + (1 if share == 1 else 0)


def test_warm_up_and_ramp_are_not_counted(server):
    with server().running() as scripted:
        tally = run(scripted.port, Phase(handshakes=10, rate=100, ramp_s=0.1, warmup_s=0.1))
    assert (tally.handshakes, tally.warmup, tally.connections) == (10, Uncounted(15), 25)
    assert scripted.handshakes == 25
    assert sum(tally.protocols.values()) == 10


def test_requests_follow_on_the_same_connection(server):
    with server(talk=answer(b"one", b"two", b"three")).running() as scripted:
        tally = run(scripted.port, closed(5), path="/", requests=3)
    assert (tally.handshakes, tally.statuses, tally.failed) == (5, {200: 15}, 0)
    assert tally.latencies.first_byte.total == 15


def test_a_server_that_wants_no_second_request_is_told_of(server):
    """The handshake was one all the same."""
    with server(talk=answer(b"one", keep=False)).running() as scripted:
        tally = run(scripted.port, closed(5, 1), path="/", requests=2)
    assert (tally.handshakes, tally.statuses) == (5, {200: 5})
    assert tally.failures == {(Failure.ANSWER, "the server wants no more requests on this connection"): 5}


def test_a_connection_that_ends_in_the_handshake_is_told_of(server):
    with server(before=lambda _: False).running() as scripted:
        tally = run(scripted.port, closed(5))
    assert tally.handshakes == 0
    assert {kind for kind, _ in tally.failures} == {Failure.CLOSED}
    assert tally.failed == 5


def want_certificate(context):
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_that_is_refused_at_the_end_is_no_handshake(server, version):
    """In TLS 1.3 the client has finished long before it hears that a certificate was wanted."""
    with server(prepare=want_certificate).running() as scripted:
        tally = run(scripted.port, closed(5), tls=Tls(version))
    alert = "certificate required" if version == "1.3" else "handshake failure"
    assert (tally.handshakes, tally.failures) == (0, {(Failure.ALERT, alert): 5})
    assert scripted.handshakes == 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_certificate_is_shown(server, ca, site, version, tmp_path):
    ca.write(tmp_path)
    stem = tmp_path / site.stem
    tls = Tls(version, certificate=f"{stem}.pem", certificate_key=f"{stem}.key")
    with server(prepare=want_certificate).running() as scripted:
        tally = run(scripted.port, closed(5), tls=tls)
    assert (tally.handshakes, tally.failed, scripted.handshakes) == (5, 0, 5)


def test_an_alert_has_the_servers_word(server):
    with server(prepare=lambda context: context.set_min_proto_version(SSL.TLS1_3_VERSION)).running() as scripted:
        tally = run(scripted.port, closed(3), tls=Tls("1.2"))
    assert tally.failures == {(Failure.ALERT, "protocol version"): 3}


def test_nobody_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for phase in (closed(5), Phase(handshakes=5, rate=100)):
        assert run(port, phase).failures == {(Failure.CONNECT, "Connection refused"): 5}


def test_a_server_that_says_nothing_costs_its_time_and_no_more():
    """In the handshake, and before the answer: the rest of the round goes on."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        tally = run(port, Phase(handshakes=5, rate=100), timeouts=Timeouts(5, 0.2, 5))
    assert tally.failures == {(Failure.HANDSHAKE_TIMEOUT, ""): 5}


def test_an_answer_that_does_not_come_is_told_of(server):
    with server().running() as scripted:
        tally = run(scripted.port, closed(1, 1), path="/", requests=1, timeouts=Timeouts(5, 5, 0.2))
    assert (tally.handshakes, tally.failures) == (1, {(Failure.ANSWER_TIMEOUT, ""): 1})


def test_who_never_had_room_is_counted_as_failed():
    """A server that holds every connection for ever: the round ends all the same, and all clients are told of."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        tally = run(port, Phase(handshakes=60, rate=1000), max_open=2, timeouts=Timeouts(0.1, 0.1, 0.1))
    assert tally.failed == 60
    assert tally.failures[Failure.NEVER_BEGUN, ""] > 0


def test_what_is_no_tls_is_told_of():
    """As when the port is that of plain HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]

        def serve():
            sock, _ = plain.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        tally = run(port, closed(1, 1))
        thread.join(10)
    assert tally.handshakes == 0
    assert {kind for kind, _ in tally.failures} == {Failure.TLS}


def test_every_name_is_asked_for(server):
    with server().running() as scripted:
        run(scripted.port, closed(20), names=Names.of([("a.test", 3), ("b.test", 1)]))
    assert (scripted.names.count(b"a.test"), scripted.names.count(b"b.test")) == (15, 5)


def test_an_answer_that_ends_with_the_connection_is_whole_and_its_session_is_kept(server):
    """As servers of old do it, without a length."""

    def talk(connection):
        while not connection.recv(4096).endswith(b"\r\n\r\n"):
            pass
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nall there is")
        connection.shutdown()

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(1, 1), closed(10, 1), path="/", requests=1, resume=1.0)
    assert (tally.handshakes, tally.failed, tally.resumed, tally.statuses) == (10, 0, 10, {200: 10})
