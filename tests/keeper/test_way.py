"""Which proxy stands before a responder, and how it is used: by urllib.request's rules, and through a real one."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from datetime import UTC, datetime
from urllib.request import getproxies_environment, proxy_bypass_environment

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from keeper.responders import OCSP, http_proxy, raw_responder, responder

from proxy.errors import FetchFailed, FetchReason
from proxy.keeper.fetch import Fetched, Fetcher
from proxy.keeper.way import Proxy, Ways
from proxy.lab.ca import LabCA
from proxy.settings.model import StaplingSettings

REQUEST = b"request"
SECRET = "hunter2"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


async def good(_request: web.Request) -> web.Response:
    return web.Response(body=b"good", content_type=OCSP)


async def fetch(uri: str, environment: dict[str, str], **changes) -> Fetched:
    async with Fetcher(StaplingSettings(**{"fetch_timeout_s": 5, **changes}), environment) as fetcher:
        return await fetcher.fetch(uri, REQUEST)


async def failure(uri: str, environment: dict[str, str], **changes) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetch(uri, environment, **changes)
    error: BaseException | None = caught.value
    while error is not None:  # what a traceback would show
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__
    return caught.value


NAMES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "REQUEST_METHOD")


@given(
    environment=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "http://one:1", "http://two:2"])),
    is_cgi=st.booleans(),
)
def test_the_environment_is_read_as_urllib_request_reads_it(environment, is_cgi):
    """Lower case before upper case, an empty one unsets, and in CGI a client's Proxy header is no setting."""
    environment.pop("REQUEST_METHOD", None)
    if is_cgi:
        environment["REQUEST_METHOD"] = "GET"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.environ", environment)
        expected = getproxies_environment()
    ways = Ways.of("environment", environment)
    assert ways.http == (Proxy(expected["http"]) if "http" in expected else None)
    assert ways.https == (Proxy(expected["https"]) if "https" in expected else None)
    assert ways.no_proxy == expected.get("no", "")


PART = st.sampled_from(
    ["a", "b.test", ".b.test", "a.b.test", "b.test:80", ".", "*", "*.b.test", "10.0.0.1", " A.b.test "]
)


@given(
    no_proxy=st.lists(PART).map(",".join),
    address=st.sampled_from(
        ["a", "b.test", "a.b.test", "a.b.test:80", "xb.test", "A.B.TEST", "10.0.0.1:81", "b.test."]
    ),
)
def test_no_proxy_is_read_as_urllib_request_reads_it(no_proxy, address):
    """Names, names below them, with a port or without."""
    ways = Ways.of("environment", {"http_proxy": "http://one:1", "no_proxy": no_proxy})
    is_listed = bool(proxy_bypass_environment(address, {"no": no_proxy.strip()}))
    assert (ways.proxy_for(f"http://{address}/ocsp") is None) is is_listed


@pytest.mark.parametrize(
    ("no_proxy", "is_listed"), [("::1", True), ("[::1]", True), ("[::1]:80", True), ("[::1]:81", False)]
)
def test_an_ipv6_address_may_be_listed_with_brackets_or_without(no_proxy, is_listed):
    """urllib.request knows it with brackets only; what people write is the address."""
    ways = Ways.of("environment", {"http_proxy": "http://one:1", "no_proxy": no_proxy})
    assert (ways.proxy_for("http://[::1]:80/") is None) is is_listed


@pytest.mark.parametrize(
    ("text", "url", "user"),
    [
        ("http://one:1", "http://one:1", None),
        ("one:1", "http://one:1", None),
        ("HTTP://one:1/", "http://one:1", None),
        ("http://[::1]:1/x", "http://[::1]:1", None),
        ("http://me:pw@one:1", "http://one:1", "me:pw"),
        ("me:pw@one:1", "http://one:1", "me:pw"),
        ("http://me@one", "http://one", "me:"),
        ("http://me:p%40%2F@one:1", "http://one:1", "me:p@/"),
        ("http://me:p@/w:d@one:1", "http://one:1", "me:p@/w:d"),
    ],
)
def test_user_and_password_are_told_apart_from_the_address(text, url, user):
    """Escaped or not: nothing of them stays in what is told."""
    proxy = Proxy.parse(text)
    assert (str(proxy), repr(proxy)) == (url, f"Proxy(url={url!r})")
    assert proxy.authorization == (user and "Basic " + base64.b64encode(user.encode()).decode())


def test_an_http_responder_through_a_proxy():
    """The proxy is asked for the whole URL, escapes as they are; the responder does not see the password."""

    async def run():
        seen = []

        async def handler(request: web.Request) -> web.Response:
            seen.append(request)
            return await good(request)

        async with (
            responder(handler) as uri,
            http_proxy(hosts={"ocsp.test": "127.0.0.1"}, authorization=BASIC) as proxy,
        ):
            named = uri.replace("127.0.0.1", "ocsp.test")
            environment = {"http_proxy": proxy.url.replace("//", f"//me:{SECRET}@")}
            assert (await fetch(named + "/%2B%2F", environment)).body == b"good"
            assert proxy.lines == [f"GET {named}/%2B%2F/cmVxdWVzdA%3D%3D HTTP/1.1"]
        assert "Proxy-Authorization" not in seen[0].headers
        assert seen[0].headers["Host"] == named.removeprefix("http://")

    asyncio.run(run())


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A server's context for ocsp.test, whose root is the only one that this process trusts."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["ocsp.test"])
    ca.write(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / f"{issued.stem}.pem", tmp_path / f"{issued.stem}.key")
    return context


def test_an_https_responder_through_a_proxy(tls):
    """CONNECT, with the password in it and not past it; the certificate is the responder's, and the tunnel is kept."""

    async def run():
        seen = []

        async def handler(request: web.Request) -> web.Response:
            seen.append(request)
            return await good(request)

        async with (
            responder(handler, tls=tls) as uri,
            http_proxy(hosts={"ocsp.test": "127.0.0.1"}, authorization=BASIC) as proxy,
            Fetcher(
                StaplingSettings(fetch_timeout_s=5), {"HTTPS_PROXY": proxy.url.replace("//", f"//me:{SECRET}@")}
            ) as fetcher,
        ):
            named = uri.replace("127.0.0.1", "ocsp.test")
            for _ in range(2):
                assert (await fetcher.fetch(named, REQUEST)).body == b"good"
            assert proxy.lines == [f"CONNECT {named.removeprefix('https://')} HTTP/1.1"]
        assert [request.raw_path for request in seen] == ["/cmVxdWVzdA%3D%3D"] * 2
        assert not any("Proxy-Authorization" in request.headers for request in seen)

    asyncio.run(run())


def test_an_https_responder_with_a_certificate_for_another_name(tls):
    """The certificate is checked behind the proxy too, and the message says what is wrong with it."""

    async def run():
        async with responder(good, tls=tls) as uri, http_proxy() as proxy:
            failed = await failure(uri, {"https_proxy": proxy.url})
            assert failed.reason is FetchReason.TLS
            assert "IP address mismatch" in failed.detail
            assert failed.detail.endswith(f"(through the HTTP proxy {proxy.url})")

    asyncio.run(run())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_without_its_password(scheme):
    """The operator must learn that it is the proxy, and nobody the password."""

    async def run():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
            failed = await failure(f"{scheme}://ocsp.test/", {f"{scheme}_proxy": f"http://me:{SECRET}@{address}"})
        assert failed.reason is FetchReason.CONNECT
        assert failed.detail == f"{address}: Connection refused (of the HTTP proxy http://{address})"

    asyncio.run(run())


def test_a_proxy_whose_name_has_no_address():
    """The word is dns, and the name is the proxy's."""

    async def run():
        failed = await failure("http://ocsp.test/", {"http_proxy": f"http://me:{SECRET}@no-such-host.invalid:1"})
        assert failed.reason is FetchReason.DNS
        assert failed.detail.startswith("no-such-host.invalid:1: ")
        assert failed.detail.endswith("(of the HTTP proxy http://no-such-host.invalid:1)")

    asyncio.run(run())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password(scheme):
    """407 is the proxy's: POST would get the same, so it is not tried."""

    async def run():
        async with http_proxy(authorization=BASIC) as proxy:
            failed = await failure(f"{scheme}://ocsp.test/", {f"{scheme}_proxy": proxy.url})
            assert failed.reason is FetchReason.HTTP_STATUS
            assert failed.detail.startswith("407 Proxy Authentication Required")
            assert len(proxy.heads) == 1

    asyncio.run(run())


def test_a_proxy_that_sends_no_answer_to_connect():
    """The deadline is over the tunnel's beginning too."""

    async def silent(reader, writer):
        await reader.read(1000)
        await asyncio.Event().wait()

    async def run():
        async with raw_responder(silent) as url:
            failed = await failure("https://ocsp.test/", {"https_proxy": url}, fetch_timeout_s=0.2)
        assert failed.reason is FetchReason.TIMEOUT

    asyncio.run(run())


@pytest.mark.parametrize("text", ["socks5://127.0.0.1:1", "http://", "http://[::1", f"http://me:{SECRET}@"])
def test_what_is_no_http_proxy_is_told(text):
    """One sentence, and nothing is asked past it."""

    async def run():
        failed = await failure("http://127.0.0.1:1/", {"http_proxy": text})
        assert failed.reason is FetchReason.CONNECT
        assert failed.detail.startswith("the HTTP proxy '")
        assert "must be a URL such as http://" in failed.detail

    asyncio.run(run())


def test_the_setting_goes_before_the_environment():
    """A URL is used for everything, whatever no_proxy says; "none" goes straight, whatever http_proxy says."""

    async def run():
        dead = {"http_proxy": "http://127.0.0.1:1"}
        async with responder(good) as uri, http_proxy() as proxy:
            assert (await fetch(uri, dead, http_proxy="none")).body == b"good"
            assert proxy.lines == []
            assert (await fetch(uri, dead | {"no_proxy": "*"}, http_proxy=proxy.url)).body == b"good"
            assert len(proxy.lines) == 1

    asyncio.run(run())


def test_the_process_environment_is_not_looked_at(monkeypatch):
    """What counts is what was given: no proxy and no .netrc of whoever started us."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")

    async def run():
        async with responder(good) as uri:
            assert (await fetch(uri, {})).body == b"good"

    asyncio.run(run())


def test_the_proxy_is_chosen_again_after_a_redirect():
    """A redirect to a host that no_proxy lists goes straight there, and the password is for the proxy only."""

    async def run():
        seen = []

        async def last(request: web.Request) -> web.Response:
            seen.append(request)
            return await good(request)

        async with (
            responder(last) as target,
            http_proxy(hosts={"ocsp.test": "127.0.0.1"}, authorization=BASIC) as proxy,
        ):

            async def first(_request: web.Request) -> web.Response:
                return web.Response(status=302, headers={"Location": target + "/there"})

            async with responder(first) as uri:
                environment = {"http_proxy": proxy.url.replace("//", f"//me:{SECRET}@"), "no_proxy": "127.0.0.1"}
                fetched = await fetch(uri.replace("127.0.0.1", "ocsp.test"), environment)
            assert (fetched.body, len(proxy.heads)) == (b"good", 1)
        assert "Proxy-Authorization" not in seen[0].headers

    asyncio.run(run())
