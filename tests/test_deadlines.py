"""Deadlines: who is late is told, at each sweep, until it moves its deadline or is discarded."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.deadlines import NEVER, Deadlines


@dataclass(eq=False)
class Waiting:
    deadline_at: float
    told: list[float] = field(default_factory=list)
    forget: Deadlines | None = None

    def on_deadline(self) -> None:
        self.told.append(self.deadline_at)
        if self.forget is not None:
            self.forget.discard(self)


def test_only_who_is_late_is_told():
    """At the very moment too; NEVER is never."""
    deadlines = Deadlines()
    late, now, early, never = (Waiting(at) for at in (1.0, 2.0, 3.0, NEVER))
    for each in (late, now, early, never):
        deadlines.add(each)
    deadlines.sweep(2.0)
    assert [len(each.told) for each in (late, now, early, never)] == [1, 1, 0, 0]
    late.deadline_at = 5.0
    deadlines.sweep(4.0)
    assert [len(each.told) for each in (late, now, early, never)] == [1, 2, 1, 0]


def test_it_may_be_discarded_while_it_is_told():
    """The usual case: a connection that is late is closed, and so discarded, by its own on_deadline."""
    deadlines = Deadlines()
    both = [Waiting(1.0, forget=deadlines) for _ in range(2)]
    for each in both:
        deadlines.add(each)
    deadlines.sweep(1.0)
    deadlines.sweep(1.0)
    assert [len(each.told) for each in both] == [1, 1]
    assert len(deadlines) == 0
