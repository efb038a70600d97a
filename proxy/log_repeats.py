"""Which of the log's troubles are told at once, and which are counted and told together. Pure: the time is an argument.

The first of its kind is told at once. What is identical to it is counted from then on, and told as one line when a
window is over; each further window is longer. A whole window in which nothing came forgets it: the next one is news.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

WINDOWS_S = (60.0, 300.0, 1800.0, 7200.0)
"""How long the same trouble is counted before it is told again; the last one over and over."""
MAX_SUBJECTS = 4096
"""Certificates and backends in trouble at a time. The one that was longest without is forgotten first."""
MAX_KINDS = 16
"""Different troubles of one subject."""

T = TypeVar("T")


class Told(NamedTuple, Generic[T]):
    """What is to be written."""

    event: T
    times: int = 0
    """So often in what is told together; 0: it is told at once, by itself."""
    within_s: float = 0.0


@dataclass(slots=True)
class _Trouble(Generic[T]):
    told_at: float
    last: T
    window: int = 0
    held: int = 0

    @property
    def due_at(self) -> float:
        return self.told_at + WINDOWS_S[self.window]

    def together(self, now: float) -> Told[T]:
        """Tell what was counted, and begin the next window."""
        told = Told(self.last, self.held, now - self.told_at)
        self.told_at, self.held = now, 0
        self.window = min(self.window + 1, len(WINDOWS_S) - 1)
        return told


class Repeats(Generic[T]):
    """One writer: the handler of a process' log. `now` is of a clock that is not set back."""

    __slots__ = ("_due_at", "_subjects")

    def __init__(self) -> None:
        self._subjects: dict[Hashable, dict[Hashable, _Trouble[T]]] = {}
        """In the order in which they last had trouble."""
        self._due_at = math.inf
        """Not after the first window that ends with something to tell."""

    def trouble(self, subject: Hashable, kind: Hashable, event: T, now: float) -> list[Told[T]]:
        """Take in a trouble; gives it, if it is to be told at once, and what a full table pushed out."""
        kinds = self._subjects.pop(subject, {})
        self._subjects[subject] = kinds
        known = kinds.get(kind)
        if known is None or (not known.held and now >= known.due_at):
            kinds[kind] = _Trouble(now, event)
            return [Told(event), *self._make_room(kinds, now)]
        known.held += 1
        known.last = event
        self._due_at = min(self._due_at, known.due_at)
        return []

    def due(self, now: float) -> list[Told[T]]:
        """Give what was counted in the windows that are over."""
        if now < self._due_at:
            return []
        held = [known for kinds in self._subjects.values() for known in kinds.values() if known.held]
        self._due_at = min((known.due_at for known in held if now < known.due_at), default=math.inf)
        return [known.together(now) for known in held if now >= known.due_at]

    def over(self, subject: Hashable, now: float) -> list[Told[T]]:
        """Forget the troubles of a subject, which is well again, and give what was counted of them."""
        return _counted(self._subjects.pop(subject, {}).values(), now)

    def end(self, now: float) -> list[Told[T]]:
        """Give all that was counted: nobody will ask again."""
        return [told for subject in list(self._subjects) for told in self.over(subject, now)]

    def _make_room(self, kinds: dict[Hashable, _Trouble[T]], now: float) -> list[Told[T]]:
        told = []
        if len(kinds) > MAX_KINDS:
            told += _counted([kinds.pop(next(iter(kinds)))], now)
        if len(self._subjects) > MAX_SUBJECTS:
            told += self.over(next(iter(self._subjects)), now)
        return told


def _counted(troubles: Iterable[_Trouble[T]], now: float) -> list[Told[T]]:
    return [known.together(now) for known in troubles if known.held]
