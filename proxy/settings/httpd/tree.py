"""What stands in an Apache configuration, before anything is known about the directives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


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
