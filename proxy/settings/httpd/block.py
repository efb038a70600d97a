"""The main server and the virtual hosts: the tree sorted into who is meant by each directive. PURE.

Arguments are counted and places judged here, once, by the table; so all else reads only what is at its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from proxy.settings.httpd.directives import BY_NAME
from proxy.settings.httpd.table import Fate, unknown
from proxy.settings.httpd.tree import Directive, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Node, Where

_ABOUT_FILES = {"directory", "directorymatch", "files", "filesmatch"}
_PATHED = {"proxypass", "proxypassreverse"}


@dataclass(frozen=True, slots=True)
class Block:
    """What stands in the main server, or in one virtual host."""

    where: Where | None
    """Of the virtual host."""
    addresses: tuple[str, ...]
    """Of the virtual host, as written."""
    directives: tuple[Directive, ...]
    """In their order, with those of ``<Location />``, which is the same."""
    located: tuple[Directive, ...]
    """ProxyPass of ``<Location>``s, with its path."""
    balancers: tuple[Section, ...]

    def all(self, name: str) -> list[Directive]:
        """List those of a name, given in lower case."""
        return [each for each in self.directives if each.name.lower() == name]

    def last(self, name: str) -> Directive | None:
        """Give the one that counts: of most directives each replaces the one before."""
        return next((each for each in reversed(self.directives) if each.name.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Server:
    """A virtual host with what it inherits; or the main server, which inherits nothing."""

    own: Block
    main: Block

    @property
    def is_main(self) -> bool:
        return self.own is self.main

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is merged, in Apache's order."""
        return (self.own,) if self.is_main else (self.main, self.own)

    def last(self, name: str) -> Directive | None:
        """Give the virtual host's, else the main server's."""
        return self.own.last(name) or self.main.last(name)

    def all(self, name: str) -> list[Directive]:
        """List the main server's, then the virtual host's, as for what adds up."""
        return [each for block in self.blocks for each in block.all(name)]

    def is_on(self, name: str, *, default: bool) -> bool:
        """Read a flag."""
        found = self.last(name)
        return default if found is None else found.arguments[0].lower() == "on"


def sort_out(nodes: Sequence[Node], told: Told) -> tuple[Block, tuple[Block, ...]]:
    """Give the main server and the virtual hosts in the order of the file, and tell what is in no right place."""
    main, hosts = _Sorter(told), []
    for node in nodes:
        if isinstance(node, Section) and node.name.lower() == "virtualhost":
            addresses = _addresses(node, told)
            sorter = _Sorter(told)
            for child in node.children:
                sorter.take(child, (node,))
            hosts.append(sorter.block(node.where, addresses))
        else:
            main.take(node, ())
    return main.block(None, ()), tuple(hosts)


def _addresses(section: Section, told: Told) -> tuple[str, ...]:
    if not section.arguments:
        told.mistake(section.where, f"<{section.name}> directive requires additional arguments")
    return section.arguments


@dataclass(slots=True)
class _Sorter:
    """Sorts the directives of one server."""

    told: Told
    directives: list[Directive] = field(default_factory=list)
    located: list[Directive] = field(default_factory=list)
    balancers: list[Section] = field(default_factory=list)

    def block(self, where: Where | None, addresses: tuple[str, ...]) -> Block:
        return Block(where, addresses, tuple(self.directives), tuple(self.located), tuple(self.balancers))

    def take(self, node: Node, around: tuple[Section, ...]) -> None:
        """Sort one directive or section; `around` are the sections that it stands in, outermost first."""
        is_section = isinstance(node, Section)
        row = BY_NAME.get(("<" if is_section else "") + node.name.lower())
        if row is None:
            self.told.mistake(node.where, unknown(f"<{node.name}" if is_section else node.name))
        elif mistake := row.misplaced(around):
            self.told.mistake(node.where, mistake)
        elif isinstance(node, Section):
            self._section(node, around)
        elif mistake := row.mistake(node):
            self.told.mistake(node.where, mistake)
        elif not any(each.name.lower() in _ABOUT_FILES for each in around):
            self._directive(node, row.fate, row.note if not row.is_harmless(node) else None, around)

    def _section(self, section: Section, around: tuple[Section, ...]) -> None:
        row = BY_NAME["<" + section.name.lower()]
        if row.fate is Fate.REFUSED:
            self.told.unlike(section.where, f"<{row.name[1:]}>: {row.note}")
            return
        if section.name.lower() == "proxy" and section.text.strip().lower().startswith("balancer://"):
            self.balancers.append(section)
        for child in section.children:
            self.take(child, (*around, section))

    def _directive(self, directive: Directive, fate: Fate, refusal: str | None, around: tuple[Section, ...]) -> None:
        if fate is Fate.REFUSED:
            if refusal is not None:
                self.told.unlike(directive.where, f"{directive.name}: {refusal}")
            return
        if fate is Fate.QUIET:
            return
        sections = [each for each in around if each.name.lower() != "virtualhost"]
        if not sections:
            self.directives.append(directive)
            return
        name = directive.name.lower()
        if len(sections) > 1 or sections[0].name.lower() not in {"location", "proxy"}:
            self.told.unlike(directive.where, f"{directive.name} is not done in <{sections[-1].name}>")
        elif sections[0].name.lower() == "proxy":
            if name not in {"balancermember", "proxyset"} or sections[0] not in self.balancers:
                what = f"{directive.name} is not done in <Proxy {sections[0].text.strip()}>"
                self.told.unlike(directive.where, what)
        else:
            self._in_location(directive, sections[0])

    def _in_location(self, directive: Directive, section: Section) -> None:
        name, path = directive.name.lower(), section.arguments[0] if section.arguments else ""
        if len(section.arguments) != 1 or not path.startswith("/") or any(each in path for each in "*?[]"):
            what = f"{directive.name} is not done in <Location {section.text.strip()}>: only a plain path is taken"
            self.told.unlike(directive.where, what)
        elif name in _PATHED:
            if directive.arguments[:1] and directive.arguments[0].startswith("/"):
                self.told.mistake(directive.where, _HAS_A_PATH[name])
                return
            moved = replace(directive, arguments=(path, *directive.arguments))
            (self.located if name == "proxypass" else self.directives).append(moved)
        elif path == "/":
            self.directives.append(directive)
        else:
            self.told.unlike(directive.where, f"{directive.name} is not done for a part of a site: <Location {path}>")


_HAS_A_PATH = {
    "proxypass": "ProxyPass|ProxyPassMatch can not have a path when defined in a location.",
    "proxypassreverse": "ProxyPassReverse can not have a path when defined in a location.",
}
