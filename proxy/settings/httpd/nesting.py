"""Sections that are open, and what closes them. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.settings.httpd.lines import first_word, words
from proxy.settings.httpd.tree import Node, Section, Where

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_DEPTH = 64
TOO_DEEP = f"sections are nested more than {MAX_DEPTH} deep"


@dataclass(frozen=True, slots=True)
class Open:
    """A section whose end has not come yet."""

    name: str
    text: str
    where: Where
    children: list[Node]
    is_condition: bool
    """Its children are those of what is round it."""


@dataclass(slots=True)
class Nesting:
    """The open sections, and what is outside of all."""

    nodes: list[Node] = field(default_factory=list)
    _open: list[Open] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return len(self._open)

    def add(self, node: Node) -> None:
        self._children().append(node)

    def begin(self, name: str, text: str, where: Where) -> None:
        self._open.append(Open(name, text, where, [], is_condition=False))

    def begin_condition(self, name: str, where: Where) -> None:
        self._open.append(Open(name, "", where, self._children(), is_condition=True))

    def ends_condition(self, text: str, outside: int) -> bool:
        """Close the last section if it is a condition and the line is its end, letter by letter, as Apache has it."""
        if self.depth == outside or not self._open[-1].is_condition:
            return False
        if text.lower() != f"</{self._open[-1].name}>".lower():
            return False
        self._open.pop()
        return True

    def close(self, tag: str, outside: int) -> str | None:
        """Close a section that was opened behind the first `outside`; give Apache's text if it is not the last.

        It is closed all the same, with those in it, so that what follows is judged in its right place.
        """
        within = self._open[outside:]
        name = tag[2:].removesuffix(">").lower()
        mistake = None
        if not within or within[-1].is_condition:
            mistake = f"{tag} without matching <{tag[2:]} section"
        elif not tag.endswith(">"):
            mistake = f"{tag}> directive missing closing '>'"
        elif name != within[-1].name.lower():
            mistake = f"Expected </{within[-1].name}> but saw {tag}"
        if any(each.name.lower() == name for each in within):
            while self._pop().name.lower() != name:
                pass
        return mistake

    def close_down_to(self, outside: int) -> Iterator[Open]:
        """Close what a file leaves open, last first."""
        while self.depth > outside:
            yield self._pop()

    def _pop(self) -> Open:
        closed = self._open.pop()
        if not closed.is_condition:
            node = Section(closed.name, words(closed.text), closed.text, closed.where, tuple(closed.children))
            self.add(node)
        return closed

    def _children(self) -> list[Node]:
        return self._open[-1].children if self._open else self.nodes


def skip(lines: Iterator[tuple[Where, str]], name: str) -> str | None:
    """Read on behind the end of a section that was begun; give the first mistake in it, in Apache's words.

    As in Apache nothing is looked at but the tags, and these without putting in variables.
    """
    open_names = [name]
    mistake = None
    for _, text in lines:
        command, rest = first_word(text)
        if command.startswith("</"):
            closing = command[2:-1]
            if closing.lower() != open_names[-1].lower():
                mistake = mistake or f"Expected </{open_names[-1]}> but saw </{closing}>"
            if closing.lower() in map(str.lower, open_names):
                while open_names.pop().lower() != closing.lower():
                    pass
            if not open_names:
                return mistake
        elif command.startswith("<"):
            open_names.append((command if rest else command.removesuffix(">"))[1:])
            if len(open_names) > MAX_DEPTH:
                return TOO_DEEP
    return mistake or f"Expected </{open_names[-1]}> before end of configuration"
