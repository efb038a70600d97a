"""How the tests put a question to a responder."""

from __future__ import annotations

import pytest

from proxy.errors import FetchFailed
from proxy.keeper.fetch import Fetched, Fetcher
from proxy.settings.model import StaplingSettings

REQUEST = b"\xff\xef\xbe request"  # its base64 has signs that must be escaped
LONG_REQUEST = bytes(250)
"""Too long for GET."""


def settings(**changes) -> StaplingSettings:
    return StaplingSettings(**{"fetch_timeout_s": 5, **changes})


def fetching(**changes) -> Fetcher:
    return Fetcher(settings(**changes), environment={})


async def fetch(uri: str, request: bytes = REQUEST, **changes) -> Fetched:
    async with fetching(**changes) as fetcher:
        return await fetcher.fetch(uri, request)


async def failure(uri: str, request: bytes = REQUEST, **changes) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetch(uri, request, **changes)
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    return caught.value
