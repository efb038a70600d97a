"""One exchange with a responder over HTTP: request in, response out, unjudged.

Each exchange has one deadline over all of it: names, connecting, TLS, redirects, the body, and the POST that follows a
GET in vain. Waiting for a turn is not part of it: with many certificates at one slow responder, the last in the row
would otherwise fail without having been asked for. That wait is bounded all the same, since each exchange before it is.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from proxy import __version__
from proxy.errors import FetchFailed
from proxy.ocsp.request import get_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from proxy.settings.model import StaplingSettings

MAX_REDIRECTS = 3
_MAX_REQUESTS = MAX_REDIRECTS + 1  # what aiohttp counts and calls max_redirects
REQUEST_TYPE = "application/ocsp-request"
RESPONSE_TYPE = "application/ocsp-response"

# In this order: the first class that fits gives the word.
_WORDS: dict[type[Exception], str] = {
    aiohttp.TooManyRedirects: "redirect",
    aiohttp.RedirectClientError: "redirect",
    aiohttp.InvalidURL: "protocol",
    aiohttp.ClientConnectorDNSError: "dns",
    aiohttp.ClientSSLError: "tls",
    aiohttp.ClientConnectorError: "connect",
    aiohttp.ClientResponseError: "protocol",
    aiohttp.ClientPayloadError: "disconnected",
    aiohttp.ClientConnectionError: "disconnected",
    aiohttp.ClientError: "protocol",
    OSError: "disconnected",
    ValueError: "protocol",  # a URL that yarl cannot read
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body that calls itself an OCSP response."""

    body: bytes
    method: str
    """The one that worked: ``GET`` or ``POST``."""
    max_age_s: float | None
    """How much longer caches may keep it; None: the responder did not say."""


class Fetcher:
    """Asks responders, not more than `max_fetches_per_responder` at a time at each HOST:PORT."""

    def __init__(self, settings: StaplingSettings) -> None:
        self._settings = settings
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # bounded by the turns
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # bounded by the deadline in `fetch`
            auto_decompress=False,  # nothing is compressed on request, and a small bomb must not grow past the limit
            headers={
                "User-Agent": f"stapleproxy/{__version__}",
                "Accept-Encoding": "identity",
                "Accept": RESPONSE_TYPE,
            },
            requote_redirect_url=False,  # "%2B" and "%2F" in the path of a GET must stay as they are
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, uri: str, request_der: bytes) -> Fetched:
        """Ask the responder at `uri`; raises FetchFailed, and nothing else."""
        if self._session is None:
            raise RuntimeError("a Fetcher is used inside `async with`")
        if any(character <= " " or character == "\x7f" for character in uri):
            # It goes into the request line as it stands, and a certificate may name anything.
            raise FetchFailed("protocol", f"no URL has spaces or control characters: {uri!r}")
        deadline_s = self._settings.fetch_timeout_s
        turns = self._settings.max_fetches_per_responder
        try:
            turn = self._turns.setdefault(urlsplit(uri).netloc.lower(), asyncio.Semaphore(turns))
            async with turn, asyncio.timeout(deadline_s):
                return await self._get_or_post(self._session, uri, request_der)
        except TimeoutError as error:
            raise FetchFailed("timeout", f"no whole answer within {deadline_s:g} s") from error
        except tuple(_WORDS) as error:
            word = next(word for known, word in _WORDS.items() if isinstance(error, known))
            raise FetchFailed(word, _one_line(_why(error))) from error

    async def _get_or_post(self, session: aiohttp.ClientSession, uri: str, request_der: bytes) -> Fetched:
        url = get_url(uri, request_der)
        if url is not None:
            try:
                return await self._exchange(session.get(URL(url, encoded=True), max_redirects=_MAX_REQUESTS))
            except _GetRefusedError:
                pass  # RFC 6960 A.1 leaves GET to the responder's choice; POST is what each of them must know
        headers = {"Content-Type": REQUEST_TYPE}
        target = URL(uri, encoded=True)
        return await self._exchange(
            session.post(target, data=request_der, headers=headers, max_redirects=_MAX_REQUESTS)
        )

    async def _exchange(self, requesting: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Fetched:
        async with requesting as response:
            if response.status != 200:
                kind = _GetRefusedError if _may_mean_no_get(response) else FetchFailed
                wait_s = _retry_after_s(response.headers)
                raise kind("http-status", _one_line(f"{response.status} {response.reason}"), retry_after_s=wait_s)
            if response.content_type != RESPONSE_TYPE:
                raise _GetRefusedError("content-type", f"{response.content_type!r} instead of {RESPONSE_TYPE}")
            body = await self._body(response)
            return Fetched(body, response.method, _max_age_s(response.headers))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.max_response_bytes
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise FetchFailed("too-large", f"the answer is longer than {limit} bytes")
        return bytes(body)


class _GetRefusedError(FetchFailed):
    """The responder, or something before it, has no use for this method: POST may do."""


def _may_mean_no_get(response: aiohttp.ClientResponse) -> bool:
    return (400 <= response.status < 500 and response.status != 429) or response.status == 501


def _why(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno and error.os_error.errno > 0:
        return f"{error.host}:{error.port}: {os.strerror(error.os_error.errno)}"
    return str(error) or type(error).__name__


def _one_line(text: str) -> str:
    # What a stranger sent ends up in the log: not more of it than helps.
    return " ".join(text.split())[:200]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """RFC 9110 10.2.3: seconds, or a date, which is compared with the sender's own clock."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if _is_seconds(value) else _seconds_after_date(value, headers)


def _max_age_s(headers: Mapping[str, str]) -> float | None:
    """RFC 9111 4.2: max-age, less the age that caches on the way have given it; else Expires."""
    age = headers.get("Age", "0").strip()
    for directive in headers.get("Cache-Control", "").split(","):
        name, _, value = directive.strip().partition("=")
        if name.lower() == "max-age" and _is_seconds(value.strip('"')):
            return max(0.0, float(value.strip('"')) - (float(age) if _is_seconds(age) else 0.0))
    return _seconds_after_date(headers.get("Expires", ""), headers)


def _is_seconds(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _seconds_after_date(text: str, headers: Mapping[str, str]) -> float | None:
    try:
        until, date = parsedate_to_datetime(text), parsedate_to_datetime(headers["Date"])
        return max(0.0, (until - date).total_seconds())
    except (KeyError, ValueError, TypeError, OverflowError):  # missing, or no dates; naive against aware
        return None
