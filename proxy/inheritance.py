"""What a generation takes over from the one before it. Pure: it says what is kept, `generation` keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

T = TypeVar("T")


def share(all_of_them: Sequence[T], workers: int, number: int) -> Sequence[T]:
    """Give a worker its part of the sockets of one address: each has one at least, and each is somebody's.

    There are more sockets than workers when there were more workers once: whoever waits in the queue of such a socket
    would be lost if it were closed, so somebody else takes it over. There are fewer when somebody else has opened
    them: then they are used in common.
    """
    if not all_of_them:
        return ()
    if len(all_of_them) < workers:
        return (all_of_them[number % len(all_of_them)],)
    return all_of_them[number::workers]


def free_lines(taken: Collection[int], count: int, most: int) -> list[int]:
    """Choose the lines of shared memory in which `count` new workers count, out of `most`.

    Old workers that still drain have theirs (`taken`), since no line may have two writers. Where there are not enough,
    some are shared, and may lose a count.
    """
    free = [line for line in range(most) if line not in taken]
    return [free[number] if number < len(free) else number % most for number in range(count)]
