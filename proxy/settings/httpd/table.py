"""The one table of directives: where each may stand, how many arguments it takes, and what becomes of it here. PURE.

Names, places and words are Apache 2.4.71's. A directive that is in no row is an "Invalid command", as in Apache.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.settings.httpd.tree import Directive, Section


class Kind(Enum):
    """How many arguments there must be, and Apache's words when there are not."""

    FLAG = (1, None, "must be On or Off")
    ONE = (1, 1, "takes one argument")
    ONE_OR_TWO = (1, 2, "takes 1-2 arguments")
    ONE_TO_THREE = (1, 3, "takes one, two or three arguments")
    TWO = (2, 2, "takes two arguments")
    TWO_OR_THREE = (2, 3, "takes two or three arguments")
    SOME = (1, None, "requires at least one argument")
    ANY = (0, None, "")
    """Whoever reads it counts by itself; or nobody reads it."""


class Place(Enum):
    """Where a directive may stand."""

    MAIN = "main server"
    SERVER = "main server, virtual host"
    ANYWHERE = "main server, virtual host, location"
    INSIDE = "location"


class Fate(Enum):
    """What becomes of a directive."""

    USED = "used"
    QUIET = "accepted"
    """It changes nothing that a client sees of what is served here."""
    REFUSED = "refused"
    """It would change what a client sees, and cannot be done here: a mistake, or a warning when lenient."""


@dataclass(frozen=True, slots=True)
class Row:
    """One directive."""

    name: str
    """As Apache writes it, in its messages too."""
    fate: Fate
    note: str
    """What it becomes; or why it is accepted or refused."""
    kind: Kind = Kind.ANY
    place: Place = Place.ANYWHERE
    words: str = ""
    """What Apache adds when the number of arguments is wrong."""
    harmless: frozenset[str] = frozenset()
    """Of a refused one: arguments, in lower case, with which it is accepted."""

    def mistake(self, directive: Directive) -> str | None:
        """Say what Apache says about the number of arguments; None: it is right."""
        least, most, text = self.kind.value
        count = len(directive.arguments)
        if self.kind is Kind.FLAG:  # only the first word is looked at
            is_right = count > 0 and directive.arguments[0].lower() in {"on", "off"}
        elif self.kind is Kind.ONE:  # and an empty word is none
            is_right = count == 1 and directive.arguments[0] != ""
        else:
            is_right = least <= count and (most is None or count <= most)
        return None if is_right else f"{self.name} {text}" + (f", {self.words}" if self.words else "")

    def misplaced(self, around: tuple[Section, ...]) -> str | None:
        """Say what Apache says about a directive in these sections, outermost first; None: it may stand there."""
        inner = around[-1].name if around else ""
        name = f"{self.name}>" if self.name.startswith("<") else self.name
        is_in_location = bool(inner) and inner.lower() != "virtualhost"
        if inner.lower() in {"proxy", "proxymatch"} and self.name.startswith("SSLProxy"):
            return None
        if is_in_location and self.place in {Place.MAIN, Place.SERVER}:
            return f"{name} not allowed in <{inner}> context"
        if inner and self.place is Place.MAIN:
            return f"{name} cannot occur within <{inner}> section"
        if not is_in_location and self.place is Place.INSIDE:
            return f"{name} not allowed in <{inner}> context" if inner else f"{name} not allowed here"
        return None

    def is_harmless(self, directive: Directive) -> bool:
        """Whether a refused one says nothing else than what is done here anyway."""
        return bool(self.harmless) and all(each.lower() in self.harmless for each in directive.arguments)


def unknown(name: str) -> str:
    """Say what Apache says about a name that it does not know."""
    return (
        f"Invalid command '{name}', perhaps misspelled or defined by a module not included in the server configuration"
    )


def markdown(rows: tuple[Row, ...]) -> str:
    """Draw the table for the manual: what is used row by row, the rest by what they have in common."""
    lines = ["| Directive | Where | What becomes of it |", "|---|---|---|"]
    used = sorted((row for row in rows if row.fate is Fate.USED), key=lambda row: row.name.strip("<").lower())
    lines += [f"| `{row.name}` | {row.place.value} | {_cell(row.note)} |" for row in used]
    for fate, heading in ((Fate.REFUSED, "Refused"), (Fate.QUIET, "Accepted quietly")):
        alike: dict[str, list[str]] = {}
        for row in rows:
            if row.fate is fate:
                unless = f" (not: {', '.join(sorted(row.harmless))})" if row.harmless else ""
                alike.setdefault(row.note, []).append(f"`{row.name}`{unless}")
        lines += ["", f"| {heading} | Because |", "|---|---|"]
        lines += [f"| {_cell(', '.join(sorted(names)))} | {_cell(note)} |" for note, names in alike.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
