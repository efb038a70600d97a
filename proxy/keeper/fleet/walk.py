"""A slow walk over all certificates of one server, again and again, and a fast one when it has just come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from proxy.keeper.fleet import decide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from proxy.identity import CacheKey
    from proxy.keeper.fleet.link import Link


async def walk(
    link: Link, keys: Sequence[CacheKey], visit: Callable[[CacheKey], Awaitable[None]], jitter: Callable[[], float]
) -> NoReturn:
    """Visit all of them, for ever; cancel to stop. `jitter` gives numbers in [0, 1)."""
    while True:
        if link.came_up.is_set():
            link.came_up.clear()
            pause_s = decide.poll_interval_s(len(keys), decide.RESYNC_PER_S, 0.0)
        else:
            pause_s = decide.poll_interval_s(len(keys))
        await _once(link, keys, visit, jitter, pause_s)


async def _once(
    link: Link,
    keys: Sequence[CacheKey],
    visit: Callable[[CacheKey], Awaitable[None]],
    jitter: Callable[[], float],
    pause_s: float,
) -> None:
    # In an order of one's own: machines that come back together do not all give the same back.
    for key in sorted(keys, key=lambda _: jitter()):
        if link.state.is_up:
            await visit(key)
        if await _is_set_within(link.came_up, pause_s):
            return
    if not keys:
        await _is_set_within(link.came_up, pause_s)


async def _is_set_within(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
