"""Connections to responders: kept, dead, found among several addresses, and the names before them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime

import pytest
from keeper.questions import LONG_REQUEST, REQUEST, failure, fetch, fetching
from keeper.responders import ANSWER, Recorder, answer, head_of, raw_responder, responder, until

from proxy.errors import FetchReason
from proxy.lab.ca import LabCA


def test_a_cookie_is_not_sent_back():
    """Responders set cookies; nothing comes of it."""

    async def run():
        asked = Recorder(lambda: answer(headers={"Set-Cookie": "a=b"}))
        async with responder(asked) as uri, fetching() as fetcher:
            await fetcher.fetch(uri, REQUEST)
            await fetcher.fetch(uri, REQUEST)
        assert ["Cookie" in request.headers for request in asked.seen] == [False, False]

    asyncio.run(run())


def test_one_connection_serves_several_requests():
    """A responder is not connected to anew for each certificate, for an answer by GET or by POST."""

    async def run():
        accepted = 0

        async def handler(reader, writer):
            nonlocal accepted
            accepted += 1
            while True:
                head = await head_of(reader)
                await reader.readexactly(len(LONG_REQUEST) if head.startswith(b"POST") else 0)
                writer.write(ANSWER)

        async with raw_responder(handler) as uri, fetching() as fetcher:
            for request_der in (REQUEST, LONG_REQUEST, REQUEST):
                assert (await fetcher.fetch(uri, request_der)).body == b"good"
        assert accepted == 1

    asyncio.run(run())


class OneAnswer:
    """Answers once on a connection, and hangs up at the second question on it, as if it had grown too old."""

    def __init__(self, together: int = 1) -> None:
        self.accepted = 0
        self.closed = 0
        self._all_in = asyncio.Barrier(together)

    async def __call__(self, reader, writer):
        self.accepted += 1
        await head_of(reader)
        if not self.closed:
            await self._all_in.wait()
        writer.write(ANSWER)
        await head_of(reader)
        self.closed += 1


@pytest.mark.parametrize("request_der", [REQUEST, LONG_REQUEST], ids=["GET", "POST"])
def test_a_kept_connection_that_died_is_no_failure(request_der):
    """The responder hung up just when it was asked again: a new connection is made, for POST as well."""

    async def run():
        asked = OneAnswer()
        async with raw_responder(asked) as uri, fetching() as fetcher:
            for _ in range(2):
                assert (await fetcher.fetch(uri, request_der)).body == b"good"
        assert (asked.accepted, asked.closed) == (2, 1)

    asyncio.run(run())


def test_all_kept_connections_may_have_died():
    """A responder that was restarted takes every connection with it, not only the one that is tried next."""

    async def run():
        asked = OneAnswer(together=4)
        async with raw_responder(asked) as uri, fetching() as fetcher:
            await asyncio.gather(*(fetcher.fetch(uri, LONG_REQUEST) for _ in range(4)))
            asked.closed = 0
            asked._all_in = asyncio.Barrier(1)
            assert (await fetcher.fetch(uri, LONG_REQUEST)).body == b"good"
        assert (asked.accepted, asked.closed) == (5, 4)

    asyncio.run(run())


@pytest.mark.parametrize("request_der", [REQUEST, LONG_REQUEST], ids=["GET", "POST"])
def test_a_new_connection_that_is_closed_is_a_failure(request_der):
    """Nobody is asked twice who hangs up at once."""

    async def run():
        accepted = 0

        async def handler(reader, writer):
            nonlocal accepted
            accepted += 1
            await head_of(reader)

        async with raw_responder(handler) as uri:
            failed = await failure(uri, request_der)
        assert (failed.reason, accepted) == (FetchReason.DISCONNECTED, 1)

    asyncio.run(run())


@pytest.fixture
def names(monkeypatch):
    """Give names addresses; what is set to an Event is looked up until that is set."""
    known: dict[str, list[str] | threading.Event] = {}
    real = socket.getaddrinfo

    def look_up(host, port, *rest, **more):
        found = known.get(host, [host])
        if isinstance(found, threading.Event):
            found.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [info for address in found for info in real(address, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def test_a_name_server_that_is_silent_holds_up_only_its_own_names(names):
    """Forty names wait, more than an executor has threads, and another responder is asked all the same."""

    async def run(go_on):
        names.update({f"slow{number}.test": go_on for number in range(40)} | {"quick.test": ["127.0.0.1"]})
        asked = Recorder(answer)
        async with responder(asked) as uri, fetching() as fetcher:
            uris = [f"http://slow{number}.test/" for number in range(40)]
            slow = [asyncio.create_task(fetcher.fetch(each, REQUEST)) for each in uris]
            await until(lambda: sum(thread.name.startswith("lookup of slow") for thread in threading.enumerate()) == 40)
            assert (await fetcher.fetch(uri.replace("127.0.0.1", "quick.test"), REQUEST)).body == b"good"
            assert not any(task.done() for task in slow)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    go_on = threading.Event()
    try:
        asyncio.run(run(go_on))  # it ends although forty lookups do not
    finally:
        go_on.set()


@pytest.mark.parametrize("order", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
@pytest.mark.parametrize("listening", ["::1", "127.0.0.1"])
def test_the_address_that_answers_is_found(names, order, listening):
    """A name has an IPv6 and an IPv4 address, and only one of the two answers: whichever, and whatever the order."""

    async def handler(reader, writer):
        await head_of(reader)
        writer.write(ANSWER)

    async def run():
        names["both.test"] = order
        async with raw_responder(handler, host=listening) as uri:
            port = uri.rpartition(":")[2]
            assert (await fetch(f"http://both.test:{port}")).body == b"good"

    asyncio.run(run())


def test_an_address_that_swallows_everything_is_passed_over(names):
    """A firewall that drops what goes to one address costs a quarter of a second and not the deadline (RFC 8305)."""

    async def handler(reader, writer):
        await head_of(reader)
        writer.write(ANSWER)

    async def run():
        names["both.test"] = ["127.0.0.2", "::1"]
        async with raw_responder(handler, host="::1") as uri:
            port = int(uri.rpartition(":")[2])
            with socket.socket() as full, contextlib.ExitStack() as clients:
                full.bind(("127.0.0.2", port))
                full.listen(0)
                for _ in range(2):  # beyond these the kernel drops what comes
                    client = clients.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.2", port))
                assert (await fetch(f"http://both.test:{port}")).body == b"good"

    asyncio.run(run())


def test_a_lookup_is_within_the_deadline(names):
    """A name server that is silent is a responder that is."""

    async def run():
        assert (await failure("http://slow.test/", fetch_timeout_s=0.1)).reason is FetchReason.TIMEOUT

    names["slow.test"] = go_on = threading.Event()
    try:
        asyncio.run(run())
    finally:
        go_on.set()


def test_no_address_is_told_with_the_name(names):
    """The operator sees which name, and what the system said of it."""

    async def run():
        names["slow.test"] = go_on = threading.Event()
        go_on.set()
        failed = await failure("http://slow.test:81/")
        assert str(failed) == "dns: slow.test:81: Temporary failure in name resolution"

    asyncio.run(run())


def test_tls_responder_with_a_certificate_of_an_unknown_authority(tmp_path):
    """What is wrong with the certificate is said."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["127.0.0.1"])
    ca.write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / f"{issued.stem}.pem", tmp_path / f"{issued.stem}.key")

    async def run():
        async with responder(Recorder(answer), tls=context) as uri:
            failed = await failure(uri)
        assert failed.reason is FetchReason.TLS
        assert failed.detail == uri.removeprefix("https://") + ": unable to get local issuer certificate"

    asyncio.run(run())
