"""HTTP towards responders: one question with its redirects, over kept connections, straight or through a proxy.

Everything that can go wrong leaves here as FetchFailed; nothing above knows aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from proxy import __version__
from proxy.errors import FetchFailed, FetchReason
from proxy.keeper.freshness import retry_after_s
from proxy.keeper.intake import CURRENT_INTAKE, ConnectionLostError, Intake, MeteredResponse
from proxy.keeper.resolver import Resolver
from proxy.keeper.trouble import FOREIGN, failure_of, one_line
from proxy.keeper.way import Ways
from proxy.settings.values import check_http_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.keeper.way import Proxy
    from proxy.settings.model import StaplingSettings

MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of whom."""

    method: str
    url: str
    headers: Mapping[str, str]
    limit_bytes: int
    """A longer body is none."""
    body: bytes | None = None
    content_type: str | None = None
    """The body of an answer with another one is not read; None: any will do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back in the end."""

    status: int
    phrase: str
    content_type: str
    fields: Mapping[str, str]
    """By lower-case name, the lines of one name joined."""
    body: bytes
    """Empty unless the status is 200 and the content type the right one."""

    def retry_after_s(self) -> float | None:
        return retry_after_s(self.fields, datetime.now(UTC))


class Client:
    """Keeps connections; to be used inside ``async with``. How many questions are under way is for others to bound."""

    def __init__(self, settings: StaplingSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._ways = Ways.of(settings.http_proxy, environment)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # limit=0: who asks bounds it. The context is OpenSSL's own choice of authorities, SSL_CERT_FILE included.
            connector=aiohttp.TCPConnector(limit=0, resolver=Resolver(), ssl=ssl.create_default_context()),
            response_class=MeteredResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the deadline in `ask` is over all of it
            auto_decompress=False,  # nothing is compressed on request, and a small bomb must not grow past the limit
            headers={"User-Agent": f"stapleproxy/{__version__}", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, question: Question, deadline_at: float) -> Answer:
        """Put the question, and follow redirects; raises FetchFailed, and nothing else.

        `deadline_at` is a time of the loop, `fetch_timeout_s` after the exchange began.
        """
        try:
            async with asyncio.timeout_at(deadline_at):
                return await self._follow(question)
        except TimeoutError as error:
            raise FetchFailed(
                FetchReason.TIMEOUT, f"no whole answer within {self._settings.fetch_timeout_s:g} s"
            ) from error

    async def _follow(self, question: Question) -> Answer:
        for _ in range(MAX_REDIRECTS):
            answer = await self._over_any_connection(question)
            if answer.status not in _REDIRECTS:
                return answer
            question = redirected(question, answer)
        answer = await self._over_any_connection(question)
        if answer.status in _REDIRECTS:
            raise _redirect_failed(f"more than {MAX_REDIRECTS} redirects", answer)
        return answer

    async def _over_any_connection(self, question: Question) -> Answer:
        """Ask again when a kept connection had died, POST too: a question about a status changes nothing there.

        RFC 9112 9.3.1. Each such failure takes a dead connection out of the pool, which holds no more than have been
        under way at once.
        """
        for _ in range(self._settings.max_fetches_per_responder):
            with contextlib.suppress(_StaleConnectionError):
                return await self._once(question)
        return await self._once(question)

    async def _once(self, question: Question) -> Answer:
        if self._session is None:
            raise RuntimeError("a Fetcher is used inside `async with`")
        proxy = None
        intake = Intake(question.limit_bytes)
        try:
            _check_printable(question.url)
            proxy = self._proxy_for(question.url)
            CURRENT_INTAKE.set(intake)
            async with self._session.request(
                question.method,
                URL(question.url, encoded=True),  # "%2B" and "%2F" in the path of a GET must stay as they are
                headers={**question.headers, **_for_proxy(proxy, question.url, "http")},
                data=question.body,
                allow_redirects=False,  # followed here: the proxy is chosen for each address, and POST stays POST
                proxy=URL(proxy.url) if proxy else None,
                proxy_headers=_for_proxy(proxy, question.url, "https"),
            ) as response:
                answer = await _answer_of(response, question)
        except FOREIGN as error:
            if intake.is_exceeded:
                raise _too_long() from error
            if isinstance(error, ConnectionLostError) and error.was_reused:
                raise _StaleConnectionError(FetchReason.DISCONNECTED, str(error)) from error
            raise failure_of(error, proxy) from error
        if intake.is_exceeded:  # where no length was told, aiohttp takes our cut for the end
            raise _too_long()
        return answer

    def _proxy_for(self, url: str) -> Proxy | None:
        proxy = self._ways.proxy_for(url)
        if proxy is not None:
            try:
                check_http_url(proxy.url)
            except ValueError as error:
                raise FetchFailed(FetchReason.CONNECT, one_line(f"the HTTP proxy {proxy.url!r} {error}")) from error
        return proxy


def _too_long() -> FetchFailed:
    return FetchFailed(FetchReason.TOO_LARGE, "head, framing and body are longer than any answer")


class _StaleConnectionError(FetchFailed):
    """A kept connection turned out to be dead when it was used again."""


def redirected(question: Question, answer: Answer) -> Question:
    """Put the question where the answer points to; FetchFailed when it may not be put there.

    Retry-After on a redirect (RFC 9110 10.2.3) is not waited for here, inside the deadline, but passed on when the
    redirect leads nowhere.
    """
    location = answer.fields.get("location", "").strip()
    if not location:
        raise _redirect_failed(f"{answer.status} without a Location", answer)
    try:
        # urljoin leaves escapes alone; yarl's join reads "%2F" in the path before as a slash.
        url = urljoin(question.url, location)
        _check_printable(url)
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _redirect_failed(f"a redirect to {location!r}, which is no http or https URL", answer)
    if parts.netloc != urlsplit(question.url).netloc:
        # Neither the address that we came from nor the one that redirects gives us a name and a password for another.
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if answer.status == 303:  # RFC 9110 15.4.4: what is there is to be fetched, whatever was asked with
        return replace(question, method="GET", url=url, body=None)
    return replace(question, url=url)  # RFC 9110 15.4.2 and 15.4.3 let 301 and 302 turn POST into GET; nobody must


async def _answer_of(response: aiohttp.ClientResponse, question: Question) -> Answer:
    names = {name.lower() for name in response.headers}
    fields = {name: ", ".join(response.headers.getall(name)) for name in names}
    is_wanted = response.status == 200 and question.content_type in {None, response.content_type}
    body = bytearray()
    if is_wanted:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > question.limit_bytes:
                raise FetchFailed(FetchReason.TOO_LARGE, f"the answer is longer than {question.limit_bytes} bytes")
    phrase = one_line(response.reason or _phrase_of(response.status))
    return Answer(response.status, phrase, response.content_type, fields, bytes(body))


def _phrase_of(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # any three digits may be a status
        return ""


def _for_proxy(proxy: Proxy | None, url: str, scheme: str) -> dict[str, str]:
    """Its password: in the request itself, or with https in the CONNECT before it, and never past the proxy."""
    if proxy is None or proxy.authorization is None or urlsplit(url).scheme != scheme:
        return {}
    return {"Proxy-Authorization": proxy.authorization}


def _check_printable(url: str) -> None:
    # It goes into the request line as it stands, and a certificate or a redirect may name anything.
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError(f"no URL has spaces or control characters: {url!r}")


def _redirect_failed(detail: str, answer: Answer) -> FetchFailed:
    return FetchFailed(FetchReason.REDIRECT, one_line(detail), retry_after_s=answer.retry_after_s())
