"""What is told about a configuration: mistakes, and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.errors import Problem

if TYPE_CHECKING:
    from proxy.settings.httpd.tree import Where

_MAX_CHARACTERS = 500
MAX_TOLD = 200
"""Of each sort: whoever has more of them repairs these first."""


@dataclass(slots=True)
class Told:
    """Collects what is told, each thing once."""

    is_lenient: bool
    mistakes: dict[Problem, None] = field(default_factory=dict)
    warnings: dict[Problem, None] = field(default_factory=dict)

    def mistake(self, where: Where | str, what: str) -> None:
        """Tell what no Apache would take, or what nothing can be made of."""
        _add(self.mistakes, where, what)

    def unlike(self, where: Where | str, what: str) -> None:
        """Tell what Apache would do and is not done here, though clients would see it."""
        _add(self.warnings if self.is_lenient else self.mistakes, where, what)

    def warn(self, where: Where | str, what: str) -> None:
        """Tell what an operator should know."""
        _add(self.warnings, where, what)


def in_order(told: dict[Problem, None]) -> tuple[Problem, ...]:
    """Give them by file and line."""
    return tuple(sorted(told, key=_place))


def _place(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)


def _add(told: dict[Problem, None], where: Where | str, what: str) -> None:
    if len(told) < MAX_TOLD:
        text = "".join(c if c.isprintable() else "?" for c in what)
        told.setdefault(Problem(str(where), text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"))
