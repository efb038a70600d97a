"""socache_shmcb as its source does it: two rings of positions and fill, for the tests to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Index:
    key: bytes
    value: bytes
    expires: float
    data_pos: int
    data_used: int
    removed: bool = False


@dataclass
class Subcache:
    index_num: int
    data_size: int
    idx_pos: int = 0
    idx_used: int = 0
    data_pos: int = 0
    data_used: int = 0
    indexes: dict[int, Index] = field(default_factory=dict)

    def index(self, number: int) -> Index:
        return self.indexes[(self.idx_pos + number) % self.index_num]


class Shmcb:
    """Store, retrieve, remove and status; the key's byte and the flag are part of each record."""

    def __init__(self, subcaches: int, index_num: int, data_size: int) -> None:
        self.subcaches = [Subcache(index_num, data_size) for _ in range(subcaches)]
        self.stores = self.replaced = self.expiries = self.scrolled = 0
        self.retrieve_hits = self.retrieve_misses = self.remove_hits = self.remove_misses = 0

    def subcache(self, key: bytes) -> Subcache:
        return self.subcaches[key[0] & (len(self.subcaches) - 1)]

    def store(self, key: bytes, value: bytes, expires: float, now: float) -> bool:
        subcache = self.subcache(key)
        had_one = self._remove(subcache, key)
        total = len(key) + 1 + len(value)
        if total > subcache.data_size:
            return False
        self._expire(subcache, now)
        if subcache.data_size - subcache.data_used < total or subcache.idx_used == subcache.index_num:
            old = subcache.index(0)
            while True:
                subcache.idx_pos = (subcache.idx_pos + 1) % subcache.index_num
                subcache.idx_used -= 1
                if not subcache.idx_used:
                    subcache.data_used = 0
                    break
                following = subcache.index(0)
                subcache.data_used -= (following.data_pos - old.data_pos) % subcache.data_size
                subcache.data_pos = following.data_pos
                self.scrolled += 1
                old = following
                if subcache.data_size - subcache.data_used >= total:
                    break
        data_pos = (subcache.data_pos + subcache.data_used) % subcache.data_size
        subcache.data_used += total
        place = (subcache.idx_pos + subcache.idx_used) % subcache.index_num
        subcache.indexes[place] = Index(key, value, expires, data_pos, total)
        subcache.idx_used += 1
        if had_one:
            self.replaced += 1
        else:
            self.stores += 1
        return True

    def retrieve(self, key: bytes, now: float) -> bytes | None:
        subcache = self.subcache(key)
        for number in range(subcache.idx_used):
            index = subcache.index(number)
            if not index.removed and index.key == key:
                if index.expires > now:
                    self.retrieve_hits += 1
                    return index.value
                index.removed = True
                self.expiries += 1
                break
        self.retrieve_misses += 1
        return None

    def remove(self, key: bytes) -> bool:
        found = self._remove(self.subcache(key), key)
        if found:
            self.remove_hits += 1
        else:
            self.remove_misses += 1
        return found

    def expire(self, now: float) -> None:
        for subcache in self.subcaches:
            self._expire(subcache, now)

    def counters(self) -> list[int]:
        return [
            *(self.stores, self.replaced, self.expiries, self.scrolled),
            *(self.retrieve_hits, self.retrieve_misses, self.remove_hits, self.remove_misses),
        ]

    def _remove(self, subcache: Subcache, key: bytes) -> bool:
        for number in range(subcache.idx_used):
            index = subcache.index(number)
            if not index.removed and index.key == key:
                index.removed = True
                return True
        return False

    def _expire(self, subcache: Subcache, now: float) -> None:
        loop = expired = 0
        while loop < subcache.idx_used:
            index = subcache.index(loop)
            if not index.removed:
                if index.expires > now:
                    break
                expired += 1
            loop += 1
        if not loop:
            return
        if loop == subcache.idx_used:
            subcache.idx_used = subcache.data_used = 0
        else:
            subcache.data_used -= (index.data_pos - subcache.data_pos) % subcache.data_size
            subcache.data_pos = index.data_pos
            subcache.idx_used -= loop
            subcache.idx_pos = (subcache.idx_pos + loop) % subcache.index_num
        self.expiries += expired
