"""One exchange with a responder over HTTP: request in, response out, unjudged.

Each exchange has one deadline over all of it: names, connecting, TLS, redirects, the body, and the POST that follows a
GET in vain. How many are under way at one responder, and how often, is the scheduler's.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from proxy.errors import FetchFailed, FetchReason
from proxy.keeper.client import Client, Question
from proxy.keeper.freshness import entity_tag, max_age_s
from proxy.ocsp.request import get_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.keeper.client import Answer
    from proxy.settings.model import StaplingSettings

REQUEST_TYPE = "application/ocsp-request"
RESPONSE_TYPE = "application/ocsp-response"
POST_FIRST_S = 86_400.0
"""How long a responder that wants POST is asked by POST at once: it may learn GET, which caches before it like."""
MAX_POST_FIRST = 4_096
"""Addresses remembered; a fleet has dozens of responders."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body that calls itself an OCSP response."""

    body: bytes | None
    """None: the response held is still the newest. Only when an `etag` was given."""
    method: str
    """The one that worked: ``GET`` or ``POST``."""
    max_age_s: float | None
    """How much longer caches may keep it; None: the responder did not say."""
    etag: str | None = None
    """To be given with the next question to this address; None: there is none."""


class Fetcher:
    """Asks responders; to be used inside ``async with``."""

    def __init__(self, settings: StaplingSettings, environment: Mapping[str, str] = os.environ) -> None:
        self._max_response_bytes = settings.max_response_bytes
        self._timeout_s = settings.fetch_timeout_s
        self._client = Client(settings, environment)
        self._wants_post = PostFirst()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    async def fetch(self, uri: str, request_der: bytes, *, etag: str | None = None) -> Fetched:
        """Ask the responder at `uri`; raises FetchFailed, and nothing else.

        `etag` is that of the response held, which came from `uri` for the same request.
        """
        now_at = asyncio.get_running_loop().time()
        by_get, by_post = self._questions(uri, request_der, etag)
        wants_post = self._wants_post.holds(uri, now_at)
        first, second = (by_post, by_get) if wants_post or by_get is None else (by_get, by_post)
        try:
            fetched = await self._first_or_second(first, second, now_at + self._timeout_s)
        except FetchFailed:
            self._wants_post.forget(uri)
            raise
        if fetched.method == "GET":
            self._wants_post.forget(uri)
        elif first is by_get:
            self._wants_post.note(uri, now_at)
        return fetched

    async def download(self, uri: str, *, limit_bytes: int) -> bytes:
        """Get the file at `uri`, of any content type; raises FetchFailed, and nothing else."""
        deadline_at = asyncio.get_running_loop().time() + self._timeout_s
        answer = await self._client.ask(Question("GET", uri, {"Accept": "*/*"}, limit_bytes), deadline_at)
        if answer.status != 200:
            raise _status_failed(answer)
        return answer.body

    def _questions(self, uri: str, request_der: bytes, etag: str | None) -> tuple[Question | None, Question]:
        """By GET, when the request is short enough for it, and by POST."""
        limit_bytes = self._max_response_bytes
        headers = {"Accept": RESPONSE_TYPE}
        post_headers = {**headers, "Content-Type": REQUEST_TYPE}
        post = Question("POST", uri, post_headers, limit_bytes, body=request_der, content_type=RESPONSE_TYPE)
        url = get_url(uri, request_der)
        if url is None:
            return None, post
        if etag is not None:  # RFC 9110 13.1.2: only to a GET can 304 be the answer
            headers["If-None-Match"] = etag
        return Question("GET", url, headers, limit_bytes, content_type=RESPONSE_TYPE), post

    async def _first_or_second(self, first: Question, second: Question | None, deadline_at: float) -> Fetched:
        """Put the second question when the first method is refused; a failure of both tells both."""
        try:
            return judged(first, await self._client.ask(first, deadline_at))
        except MethodRefusedError as error:
            if second is None:
                raise
            refusal = error
        try:
            return judged(second, await self._client.ask(second, deadline_at))
        except FetchFailed as failure:
            detail = f"{failure.detail} (to {second.method}, after {refusal} to {first.method})"
            raise FetchFailed(failure.reason, detail, retry_after_s=failure.retry_after_s) from failure


class PostFirst:
    """The addresses where POST works and GET does not. Times are a loop's."""

    def __init__(self) -> None:
        self._until_at: dict[str, float] = {}  # the oldest first

    def holds(self, uri: str, now_at: float) -> bool:
        return self._until_at.get(uri, now_at) > now_at

    def note(self, uri: str, now_at: float) -> None:
        self.forget(uri)
        if len(self._until_at) >= MAX_POST_FIRST:
            del self._until_at[next(iter(self._until_at))]
        self._until_at[uri] = now_at + POST_FIRST_S

    def forget(self, uri: str) -> None:
        self._until_at.pop(uri, None)


class MethodRefusedError(FetchFailed):
    """The responder, or something before it, has no use for this method: the other one may do."""


def judged(question: Question, answer: Answer) -> Fetched:
    """Take what may be an OCSP response, by its head; else FetchFailed."""
    now = datetime.now(UTC)
    is_get = question.method == "GET"
    # An ETag is that of what GET gives, and a 304 may say it again or not (RFC 9110 15.4.5).
    etag = entity_tag(answer.fields) if is_get else None
    if answer.status == 304:
        held = question.headers.get("If-None-Match")
        if held is None:
            raise FetchFailed(FetchReason.PROTOCOL, "304 Not Modified, which was not asked for")
        return Fetched(None, "GET", max_age_s(answer.fields, now), etag or held)
    if answer.status != 200:
        raise _status_failed(answer)
    if answer.content_type != RESPONSE_TYPE:
        raise MethodRefusedError(FetchReason.CONTENT_TYPE, f"{answer.content_type!r} instead of {RESPONSE_TYPE}")
    return Fetched(answer.body, question.method, max_age_s(answer.fields, now), etag)


def _status_failed(answer: Answer) -> FetchFailed:
    # RFC 6960 A.1 leaves GET to the responder's choice. 407 is a proxy's, and 429 would be the same by POST.
    may_mean_method = (400 <= answer.status < 500 and answer.status not in {407, 429}) or answer.status == 501
    kind = MethodRefusedError if may_mean_method else FetchFailed
    detail = f"{answer.status} {answer.phrase}".strip()
    return kind(FetchReason.HTTP_STATUS, detail, retry_after_s=answer.retry_after_s())
