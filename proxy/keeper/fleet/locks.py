"""The locks that this machine holds: extended while a responder is asked, for a bounded time, and given back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from proxy.keeper.fleet import decide, scripts

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.identity import CacheKey
    from proxy.keeper.fleet.link import Link

LIFE_MS = int(decide.LOCK_LIFE_S * 1000)
_GIVEN_BACK_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Lock:
    token: str
    until_s: float
    """Of a clock that is not set back: it is not extended any more then."""


class Locks:
    """One writer: the event loop. `link_of` gives the server that has a key."""

    def __init__(self, link_of: Callable[[bytes], Link]) -> None:
        self._link_of = link_of
        self._held: dict[CacheKey, _Lock] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: CacheKey) -> bool:
        return key in self._held

    def hold(self, key: CacheKey, token: str, for_s: float) -> None:
        """Look after a lock that was got."""
        self._held[key] = _Lock(token, time.monotonic() + for_s)

    def take_off(self, key: CacheKey) -> str:
        """Give the token to who gives the lock back himself; empty: it is not held."""
        lock = self._held.pop(key, None)
        return lock.token if lock else ""

    async def give_back(self, key: CacheKey, in_vain_s: float = 0.0) -> None:
        """Release a lock, if it is held; what stands in its place for so long says that nothing came."""
        if token := self.take_off(key):
            in_vain_ms = int(in_vain_s * 1000)
            await self._link_of(key).run(scripts.RELEASE, scripts.read_done, key, token, in_vain_ms)

    async def give_all_back(self) -> None:
        """At the end; what takes longer than a moment is left to time."""
        try:
            async with asyncio.timeout(_GIVEN_BACK_WITHIN_S):
                await asyncio.gather(*(self.give_back(key) for key in list(self._held)))
        except TimeoutError:
            pass

    async def extend(self) -> NoReturn:
        """Extend all that are held, for ever; cancel to stop."""
        while True:
            await asyncio.sleep(decide.EXTEND_EVERY_S)
            # Together: one after the other they would not all be in time where the server is slow.
            await asyncio.gather(*(self._extend(key, lock) for key, lock in list(self._held.items())))

    async def _extend(self, key: CacheKey, lock: _Lock) -> None:
        is_over = time.monotonic() > lock.until_s
        command = (scripts.EXTEND, scripts.read_done, key, lock.token, LIFE_MS)
        is_lost = is_over or not await self._link_of(key).run(*command)
        if is_lost and self._held.get(key) is lock:  # else it was given back meanwhile
            del self._held[key]
