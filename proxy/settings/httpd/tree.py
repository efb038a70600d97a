"""What stands in an Apache configuration, before anything is known about the directives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def place_of(key_path: str, places: Mapping[str, Where]) -> Where | None:
    """Find where a setting such as ``site[0].certificate[1].key`` is from, or else what it is a part of."""
    while key_path and key_path not in places:
        key_path = key_path[: max(key_path.rfind("."), key_path.rfind("["), 0)]
    return places.get(key_path)


@dataclass(frozen=True, slots=True)
class Directive:
    """One line, continued lines and variables put together."""

    name: str
    """As written; Apache compares names without case."""
    arguments: tuple[str, ...]
    """Words, without the quotes round them."""
    text: str
    """All that follows the name, as written: some directives do not split it at spaces."""
    where: Where


@dataclass(frozen=True, slots=True)
class Section:
    """``<Name arguments>`` to ``</Name>``."""

    name: str
    arguments: tuple[str, ...]
    text: str
    where: Where
    children: tuple[Node, ...]


Node = Directive | Section
