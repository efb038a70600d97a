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
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from proxy.errors import Reason
from proxy.identity import CacheKey
from proxy.keeper import status
from proxy.keeper.fleet import decide, scripts
from proxy.keeper.fleet.decide import Alone, Found, Ours, Sync, Turn
from proxy.keeper.fleet.link import Link
from proxy.keeper.fleet.server import Names, Server
from proxy.keeper.fleet.value import MAX_HEAD_BYTES, Head, UnknownFormatError, decode, read_announcement
from proxy.log import about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.keeper.fleet.sharing import Taking
    from proxy.keeper.watched import Watched
    from proxy.ocsp.response import Staple
    from proxy.redisdoor import RedisDoor
    from proxy.settings.model import StaplingSettings

MALFORMED = "malformed"
_LOCK_LIFE_MS = int(decide.LOCK_LIFE_S * 1000)
_OLDEST_S = -(10**12)
_TURNS_AT_ONCE = 3
"""A value that is refused before it is read is looked past; each time it may be another one."""
_MAX_WANTED = 100_000

_log = logging.getLogger("stapleproxy.keeper")


class _Refusal(NamedTuple):
    """A value of the server that did not prove good here."""

    digest: str
    may_be_replaced: bool
    """By an older response, too. Not where it was the clock's word: that one may be wrong here."""


_NOTHING = _Refusal("", may_be_replaced=False)
_OF_TIME = {Reason.NOT_YET_VALID, Reason.EXPIRED, Reason.SIGNER_OUT_OF_DATE, Reason.CERTIFICATE_EXPIRED}


@dataclass(frozen=True, slots=True)
class _Lock:
    token: str
    until_s: float
    """Of the loop's clock: it is not extended any more then."""


COUNTED = {
    "taken": "responses taken that another machine fetched",
    "announced": "announcements heard of certificates that are stapled here",
    "stored": "responses given to the others",
    "older": "responses not given, since the server had a newer one",
    "unknown-format": "responses not given, since the server has one of a newer format",
    "returned": "responses given back to a server that had lost them or had older ones",
    "locked": "turns to ask, for the whole fleet",
    "waited": "looks that found another machine asking",
    "in-vain": "looks that found another machine having asked in vain",
    "alone": "looks without the server's help",
}


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
        self._refused: dict[CacheKey, _Refusal] = {}
        self._locks: dict[CacheKey, _Lock] = {}
        self._watched: dict[CacheKey, Watched] = {}
        self._giving: dict[CacheKey, bytes] = {}
        """On their way to the server: their announcement is nothing new here."""
        self._wanted: dict[CacheKey, None] = {}
        """Announced without the value."""
        self._is_wanted = asyncio.Event()
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._refusals: Counter[str] = Counter()

    def told(self) -> status.Fleet:
        """Tell how it stands; may be called from a thread."""
        return status.Fleet(
            tuple(link.state for link in self._links),
            self._counts.copy(),
            self._refusals.copy(),
            sum(link.operations for link in self._links),
            sum(link.failures for link in self._links),
            len(self._locks),
        )

    # --- what the refresher asks

    async def look(self, watched: Watched, *, insists: bool = False) -> Turn:
        """Look what the others have and do."""
        return await self._turn(watched, "", 0, insists)

    async def begin(self, watched: Watched, *, insists: bool = False) -> Turn:
        """Look again, and take the lock if nobody has it."""
        token = secrets.token_hex(16)
        turn = await self._turn(watched, token, _LOCK_LIFE_MS, insists)
        if isinstance(turn, Ours):
            self._counts["locked"] += 1
            hold_s = decide.hold_s(len(watched.certificate.responder_urls), self._settings.fetch_timeout_s)
            self._locks[watched.identity.cache_key] = _Lock(token, time.monotonic() + hold_s)
        return turn

    async def store(self, watched: Watched, max_age_s: float | None) -> None:
        """Give the others the newest that is known, from a responder just now, and release the lock."""
        if watched.newest is None:
            return
        head = Head(_this_update_s(watched.newest), 0, None if max_age_s is None else int(min(max_age_s, 10**8)))
        said = await self._put(watched, watched.newest, head, is_news=True)
        if said:
            self._counts[said] += 1

    async def give_up(self, watched: Watched, pause_s: float) -> None:
        """Say that nothing came, and that it is tried again after `pause_s`; release the lock."""
        key = watched.identity.cache_key
        if lock := self._locks.pop(key, None):
            await self._release(key, lock, min(pause_s, decide.IN_VAIN_MAX_S))

    def taken(self, watched: Watched, found: Found, staple: Staple) -> None:
        """Say that what was found is proved, and held now."""
        self._counts["taken"] += 1
        key = watched.identity.cache_key
        if found.head.this_update_s == _this_update_s(staple):
            self._known[key] = found.head
        else:  # the response is right, and what stands before it would keep others out
            self._refuse(watched, found.digest, MALFORMED, "what stands before it is not its thisUpdate")

    def refused(self, watched: Watched, found: Found, reason: str, detail: str) -> None:
        """Say that it was not, and is to count as absent."""
        self._refuse(watched, found.digest, reason, detail)

    async def _turn(self, watched: Watched, token: str, life_ms: int, insists: bool) -> Turn:
        key = watched.identity.cache_key
        for _ in range(_TURNS_AT_ONCE):
            mine = self._mine(watched) or Head(_OLDEST_S, 0)
            longest = self._settings.max_response_bytes + MAX_HEAD_BYTES
            known = (mine.this_update_s, mine.asked_ms, self._refused.get(key, _NOTHING).digest)
            lock = (token, life_ms, int(insists))
            reply = await self._link(key).run(scripts.TURN, self._names(key), longest, *known, *lock)
            if reply is None:
                self._counts["alone"] += 1
                return Alone()
            assert isinstance(reply, list)
            word, number, *values = reply
            match word:
                case b"long":
                    what = f"{number} bytes; at most {longest} are taken"
                    self._refuse(watched, f"length {number}", Reason.TOO_LARGE, what)
                case b"found":
                    if found := self._read(watched, values[0], int(number)):
                        return found
                case b"theirs" | b"in-vain":
                    self._counts["waited" if word == b"theirs" else "in-vain"] += 1
                    return decide.turn_of(word, int(number))
                case _:
                    return decide.turn_of(word, int(number))
        return Alone()

    def _read(self, watched: Watched, value: bytes, now_ms: int | None = None) -> Found | None:
        """Read what is not proved yet; None: there is nothing to prove."""
        digest = hashlib.sha1(value, usedforsecurity=False).hexdigest()
        try:
            head, der = decode(value)
        except UnknownFormatError:
            return None
        except ValueError as error:
            self._refuse(watched, digest, MALFORMED, str(error))
            return None
        age_ms = 0 if now_ms is None else max(now_ms - head.asked_ms, 0)
        return Found(head, der, age_ms / 1000, digest)

    def _refuse(self, watched: Watched, digest: str, reason: str, detail: str) -> None:
        key = watched.identity.cache_key
        if self._refused.get(key, _NOTHING).digest == digest:  # found twice at a time
            return
        label = watched.identity.label
        what = "%s: the response on %s is refused: %s: %s"
        _log.warning(what, label, self.name, reason, detail, extra=about(certificate=label, reasons=[reason]))
        self._refused[key] = _Refusal(digest, reason not in _OF_TIME)
        self._refusals[reason] += 1

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
        lock, link = self._locks.pop(key, None), self._link(key)
        refusal = self._refused.get(key, _NOTHING)
        self._giving[key] = staple.der
        try:
            reply = await link.run(
                scripts.PUT,
                self._names(key),
                head.this_update_s,
                head.asked_ms,
                "-" if head.max_age_s is None else head.max_age_s,
                int(staple.serve_until.timestamp() * 1000),
                refusal.digest if refusal.may_be_replaced else "",
                lock.token if lock else "",
                link.channel if is_news else "",
                key.hex(),
                staple.der,
            )
        finally:
            self._giving.pop(key, None)
        if reply is None:
            return ""
        assert isinstance(reply, list)
        said = bytes(reply[0]).decode()
        if said == "stored":
            self._known[key] = Head(head.this_update_s, int(reply[1]), head.max_age_s)
            self._refused.pop(key, None)
        return said

    async def _release(self, key: CacheKey, lock: _Lock, in_vain_s: float = 0.0) -> None:
        await self._link(key).run(scripts.RELEASE, self._names(key), lock.token, int(in_vain_s * 1000))

    def _link(self, key: bytes) -> Link:
        return self._links[int.from_bytes(key[:4], "big") % len(self._links)]

    def _names(self, key: bytes) -> Names:
        return Names.of(self._prefix, key)

    # --- what goes on by itself

    async def run(self, watched: Iterable[Watched], taking: Taking) -> NoReturn:
        """Listen, extend locks, and look after all that is held; cancel to stop."""
        self._watched = {each.identity.cache_key: each for each in watched}
        try:
            async with asyncio.TaskGroup() as group:
                for link in self._links:
                    group.create_task(link.listen(lambda message: self._hear(message, taking)))
                    group.create_task(self._keep_in_step(link, taking))
                group.create_task(self._extend())
                group.create_task(self._fetch_wanted(taking))
        finally:
            await asyncio.gather(*(self._release(key, lock) for key, lock in list(self._locks.items())))
            await asyncio.gather(*(link.close() for link in self._links))
        raise AssertionError("these tasks do not end")

    async def settled(self) -> None:
        """Wait until it is known which servers are there, for a bounded time."""
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                for link in self._links:
                    await link.is_settled.wait()
        except TimeoutError:
            pass

    def _hear(self, message: bytes, taking: Taking) -> None:
        try:
            digits, value = read_announcement(message)
        except ValueError:
            self._refusals[MALFORMED] += 1
            return
        key = CacheKey(digits)
        watched = self._watched.get(key)
        if watched is None:
            return
        self._counts["announced"] += 1
        if not value and len(self._wanted) < _MAX_WANTED:
            self._wanted[key] = None
            self._is_wanted.set()
        elif value and len(value) <= self._settings.max_response_bytes + MAX_HEAD_BYTES:
            self._offer(watched, self._read(watched, value), taking)

    def _offer(self, watched: Watched, found: Found | None, taking: Taking) -> None:
        mine = self._mine(watched)
        key = watched.identity.cache_key
        if (
            found is None
            or self._refused.get(key, _NOTHING).digest == found.digest
            or self._giving.get(key) == found.der
        ):
            return
        if mine is None or found.head.rank > mine.rank:
            taking.announced(watched, found)

    async def _fetch_wanted(self, taking: Taking) -> NoReturn:
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            while self._wanted:
                key = next(iter(self._wanted))
                del self._wanted[key]
                await self._take(self._watched[key], taking)

    async def _take(self, watched: Watched, taking: Taking) -> None:
        turn = await self.look(watched)
        if isinstance(turn, Found):
            self._offer(watched, turn, taking)

    async def _extend(self) -> NoReturn:
        while True:
            await asyncio.sleep(decide.EXTEND_EVERY_S)
            for key, lock in list(self._locks.items()):
                if self._locks.get(key) is not lock:  # released meanwhile
                    continue
                is_over = time.monotonic() > lock.until_s
                if is_over or not await self._link(key).run(
                    scripts.EXTEND, self._names(key), lock.token, _LOCK_LIFE_MS
                ):
                    self._forget(key, lock)

    def _forget(self, key: CacheKey, lock: _Lock) -> None:
        if self._locks.get(key) is lock:
            del self._locks[key]

    async def _keep_in_step(self, link: Link, taking: Taking) -> NoReturn:
        """Look at all that is on one server, again and again, and faster when it has just come back."""
        keys = [key for key in self._watched if self._link(key) is link]
        while True:
            is_resync = link.came_up.is_set()
            link.came_up.clear()
            if is_resync:
                pause_s = decide.poll_interval_s(len(keys), decide.RESYNC_PER_S, 0.0)
            else:
                pause_s = decide.poll_interval_s(len(keys))
            await self._look_at_all(link, keys, pause_s, taking)

    async def _look_at_all(self, link: Link, keys: Sequence[CacheKey], pause_s: float, taking: Taking) -> None:
        # In an order of one's own: machines that come back together do not all give the same back.
        for key in sorted(keys, key=lambda _: self._jitter()):
            if link.state.is_up:
                await self._keep_one_in_step(link, key, taking)
            if await _is_set_within(link.came_up, pause_s):
                return
        if not keys:
            await _is_set_within(link.came_up, pause_s)

    async def _keep_one_in_step(self, link: Link, key: CacheKey, taking: Taking) -> None:
        watched = self._watched[key]
        value = await link.head(self._names(key))
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
                await self._take(watched, taking)
            case Sync.PUT | Sync.PUT_NEWER as what if staple and mine:
                if await self._put(watched, staple, mine, is_news=what is Sync.PUT_NEWER) == "stored":
                    self._counts["returned"] += 1


def _this_update_s(staple: Staple) -> int:
    return int(staple.this_update.timestamp())


async def _is_set_within(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
