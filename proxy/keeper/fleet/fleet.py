"""One machine of a fleet: joins what is decided (`decide`), what runs on the server (`scripts`), who is there (`link`).

The server is believed in nothing but who holds a lock and which response is newer; what it gives is proved by the
refresher like a responder's answer. Whoever can write there can make each machine ask by itself, and no more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from proxy.errors import Reason
from proxy.identity import CacheKey
from proxy.keeper import status
from proxy.keeper.fleet import decide, scripts
from proxy.keeper.fleet.decide import Alone, Found, Ours, Sync, Turn
from proxy.keeper.fleet.link import Link
from proxy.keeper.fleet.locks import LIFE_MS, Locks
from proxy.keeper.fleet.refusals import MALFORMED, Refusals
from proxy.keeper.fleet.server import Server
from proxy.keeper.fleet.value import MAX_HEAD_BYTES, Head, UnknownFormatError, decode, read_announcement
from proxy.keeper.fleet.walk import walk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.keeper.fleet.sharing import Taking
    from proxy.keeper.watched import Watched
    from proxy.ocsp.response import Staple
    from proxy.redisdoor import RedisDoor
    from proxy.settings.model import StaplingSettings

_OLDEST_S = -(10**12)
_OLDEST_AGE_S = 10.0**9
"""The server's time may be any; that of a datetime goes no further than year 1."""
_TURNS_AT_ONCE = 3
"""A value that is refused before it is read is looked past; each time it may be another one."""
_SETTLED_WITHIN_S = 5.0

_log = logging.getLogger("stapleproxy.keeper")


_COUNTED = (
    *("taken", "announced", "stored", "older", "unknown-format", "returned"),
    *("locked", "waited", "in-vain", "alone"),
)
"""What each is, the metric `stapleproxy_fleet_events_total` says."""


class Fleet:
    """One writer: the event loop. `jitter` gives numbers in [0, 1)."""

    def __init__(
        self, door: RedisDoor, settings: StaplingSettings, jitter: Callable[[], float] = random.random
    ) -> None:
        self.name = str(door.servers)
        self._settings = settings
        self._prefix = door.key_prefix
        self._timeout_s = door.timeout_s
        self._jitter = jitter
        addresses = door.servers.addresses
        # As in Apache, each of several servers has a part of the keys; Sentinels and nodes stand for one and the same.
        apart = [addresses] if door.sentinel_master or door.is_cluster else [(each,) for each in addresses]
        self._links = [Link(str(door.servers._replace(addresses=each)), Server(door, each), jitter) for each in apart]
        self._known: dict[CacheKey, Head] = {}
        """What was last taken or given, as the server has it."""
        self._refusals = Refusals(self.name)
        self._locks = Locks(self._link)
        self._watched: dict[CacheKey, Watched] = {}
        self._giving: dict[CacheKey, bytes] = {}
        """On their way to the server: their announcement is nothing new here."""
        self._wanted: dict[CacheKey, None] = {}
        """Announced without the value: of those that are stapled here, so there are never more."""
        self._is_wanted = asyncio.Event()
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))

    def told(self) -> status.Fleet:
        """Tell how it stands; may be called from a thread."""
        return status.Fleet(
            tuple(link.state for link in self._links),
            self._counts.copy(),
            self._refusals.counts.copy(),
            sum(link.operations for link in self._links),
            sum(link.failures for link in self._links),
            len(self._locks),
        )

    # --- what the refresher asks

    async def look(self, watched: Watched, *, insists: bool = False) -> Turn:
        """Look what the others have and do."""
        self._refusals.look_again(watched.identity.cache_key)
        return await self._turn(watched, "", 0, insists)

    async def begin(self, watched: Watched, *, insists: bool = False) -> Turn:
        """Look again, and take the lock if nobody has it."""
        token = secrets.token_hex(16)
        turn = await self._turn(watched, token, LIFE_MS, insists)
        if isinstance(turn, Ours):
            self._counts["locked"] += 1
            hold_s = decide.hold_s(len(watched.certificate.responder_urls), self._settings.fetch_timeout_s)
            self._locks.hold(watched.identity.cache_key, token, hold_s)
        return turn

    async def store(self, watched: Watched, staple: Staple, max_age_s: float | None) -> None:
        """Give the others what a responder has given just now, and release the lock."""
        head = Head(_this_update_s(staple), 0, None if max_age_s is None else int(min(max_age_s, 10**8)))
        said = await self._put(watched, staple, head, is_news=True)
        if said:
            self._counts[said] += 1

    async def give_up(self, watched: Watched, pause_s: float) -> None:
        """Say that nothing came, and that it is tried again after `pause_s`; release the lock."""
        await self._locks.give_back(watched.identity.cache_key, min(pause_s, decide.IN_VAIN_MAX_S))

    def taken(self, watched: Watched, found: Found, staple: Staple) -> None:
        """Say that what was found is proved, and held now."""
        self._counts["taken"] += 1
        key = watched.identity.cache_key
        if found.head.this_update_s == _this_update_s(staple):
            self._known[key] = found.head
        else:  # the response is right, and what stands before it would keep others out
            self._refusals.add(watched, found.digest, MALFORMED, "what stands before it is not its thisUpdate")

    def refused(self, watched: Watched, found: Found, reason: str, detail: str) -> None:
        """Say that it was not, and is to count as absent."""
        self._refusals.proved_bad(watched, found, reason, detail)

    async def _turn(self, watched: Watched, token: str, life_ms: int, insists: bool) -> Turn:
        key = watched.identity.cache_key
        for _ in range(_TURNS_AT_ONCE):
            mine = self._mine(watched) or Head(_OLDEST_S, 0)
            longest = self._settings.max_response_bytes + MAX_HEAD_BYTES
            known = (mine.this_update_s, mine.asked_ms, self._refusals.digest(key))
            lock = (token, life_ms, int(insists))
            said = await self._link(key).run(scripts.TURN, scripts.read_turn, key, longest, *known, *lock)
            if said is None:
                self._counts["alone"] += 1
                return Alone()
            word, number, value = said
            match word:
                case b"long":
                    what = f"{number} bytes; at most {longest} are taken"
                    self._refusals.add(watched, f"length {number}", Reason.TOO_LARGE, what)
                case b"found":
                    if found := self._read(watched, value, number):
                        return found
                case b"theirs" | b"in-vain":
                    self._counts["waited" if word == b"theirs" else "in-vain"] += 1
                    return decide.turn_of(word, number)
                case _:
                    return decide.turn_of(word, number)
        return Alone()

    def _read(self, watched: Watched, value: bytes, now_ms: int | None = None) -> Found | None:
        """Read what is not proved yet; None: there is nothing to prove."""
        digest = hashlib.sha1(value, usedforsecurity=False).hexdigest()
        try:
            head, der = decode(value)
        except UnknownFormatError:
            return None
        except ValueError as error:
            self._refusals.add(watched, digest, MALFORMED, str(error))
            return None
        age_s = 0.0 if now_ms is None else (now_ms - head.asked_ms) / 1000
        return Found(head, der, min(max(age_s, 0.0), _OLDEST_AGE_S), digest)

    def _mine(self, watched: Watched) -> Head | None:
        """Give the head of what is held here; None: nothing is known of the certificate."""
        if watched.newest is None:
            return None
        this_update_s = _this_update_s(watched.newest)
        known = self._known.get(watched.identity.cache_key)
        return known if known and known.this_update_s == this_update_s else Head(this_update_s, 0)

    async def _put(self, watched: Watched, staple: Staple, head: Head, *, is_news: bool) -> str:
        """Give a response to the server; what became of it, empty: the server is away."""
        key = watched.identity.cache_key
        token, link = self._locks.take_off(key), self._link(key)
        self._giving[key] = staple.der
        try:
            reply = await link.run(
                scripts.PUT,
                scripts.read_put,
                key,
                head.this_update_s,
                head.asked_ms,
                "-" if head.max_age_s is None else head.max_age_s,
                int(staple.serve_until.timestamp() * 1000),
                self._refusals.replaceable(key),
                token,
                link.channel if is_news else "",
                key.hex(),
                staple.der,
            )
        finally:
            self._giving.pop(key, None)
        if reply is None:
            return ""
        said, asked_ms = reply
        if said == "stored":
            self._known[key] = Head(head.this_update_s, asked_ms, head.max_age_s)
            self._refusals.forget(key)
        return said

    def _link(self, key: bytes) -> Link:
        return self._links[int.from_bytes(key[:4], "big") % len(self._links)]

    # --- what goes on by itself

    async def run(self, watched: Iterable[Watched], taking: Taking) -> NoReturn:
        """Listen, extend locks, and look after all that is held; cancel to stop."""
        self._watched = {each.identity.cache_key: each for each in watched}

        async def visit(key: CacheKey) -> None:
            try:
                await self._keep_in_step(key, taking)
            except Exception:  # noqa: BLE001  the edge of a visit: a mistake of ours must not end the keeper
                _log.exception("%s: the look at what the fleet has broke", self._watched[key].identity.label)

        def hear(message: bytes) -> None:
            try:
                self._hear(message, taking)
            except Exception:  # noqa: BLE001  the edge of an announcement, likewise
                _log.exception("%s: an announcement was too much", self.name)

        try:
            async with asyncio.TaskGroup() as group:
                for link in self._links:
                    keys = [key for key in self._watched if self._link(key) is link]
                    group.create_task(link.listen(hear))
                    group.create_task(walk(link, keys, visit, self._jitter))
                group.create_task(self._locks.extend())
                group.create_task(self._fetch_wanted(visit))
        finally:
            await self._locks.give_all_back()
            await asyncio.gather(*(link.close() for link in self._links))
        raise AssertionError("these tasks do not end")

    async def settled(self) -> None:
        """Wait until it is known which servers are there, for a bounded time."""
        try:
            async with asyncio.timeout(min(2 * self._timeout_s, _SETTLED_WITHIN_S)):
                for link in self._links:
                    await link.is_settled.wait()
        except TimeoutError:
            pass

    def _hear(self, message: bytes, taking: Taking) -> None:
        try:
            digits, value = read_announcement(message)
        except ValueError:
            self._refusals.counts[MALFORMED] += 1
            return
        key = CacheKey(digits)
        watched = self._watched.get(key)
        if watched is None:
            return
        self._counts["announced"] += 1
        if not value:
            self._wanted[key] = None
            self._is_wanted.set()
        elif len(value) <= self._settings.max_response_bytes + MAX_HEAD_BYTES:
            self._offer(watched, self._read(watched, value), taking)

    def _offer(self, watched: Watched, found: Found | None, taking: Taking) -> None:
        mine = self._mine(watched)
        key = watched.identity.cache_key
        if found is None or self._refusals.digest(key) == found.digest or self._giving.get(key) == found.der:
            return
        if mine is None or found.head.rank > mine.rank:
            taking.announced(watched, found)

    async def _fetch_wanted(self, visit: Callable[[CacheKey], Awaitable[None]]) -> NoReturn:
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            while self._wanted:
                key = next(iter(self._wanted))
                del self._wanted[key]
                await visit(key)

    async def _keep_in_step(self, key: CacheKey, taking: Taking) -> None:
        """Look what the server has of one certificate; take it, or give what it lacks."""
        watched = self._watched[key]
        value = await self._link(key).head(key)
        if value is None:
            return
        try:
            theirs = decode(value)[0] if value else None
        except UnknownFormatError:
            return
        except ValueError:
            theirs = None
        mine, staple = self._mine(watched), watched.newest
        if staple and (staple.serve_until.timestamp() <= time.time() or key in self._locks or key in self._giving):
            staple = None  # it is over, or about to be replaced
        match decide.sync(mine, theirs):
            case Sync.TAKE:
                turn = await self.look(watched)
                if isinstance(turn, Found):
                    self._offer(watched, turn, taking)
            case Sync.PUT | Sync.PUT_NEWER as what if staple and mine:
                if await self._put(watched, staple, mine, is_news=what is Sync.PUT_NEWER) == "stored":
                    self._counts["returned"] += 1


def _this_update_s(staple: Staple) -> int:
    return int(staple.this_update.timestamp())
