"""Debian's envvars: what apache2ctl puts into the environment before it starts Apache. PURE.

Not a shell: assignments of words and of other variables are understood, with or without quotes and `export`. Where
the file has an if, as Debian's has for further instances, the last assignment counts: that of the first instance.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASSIGNMENT = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_]\w*)=(?:"([^"\\`]*)"|'([^']*)'|([^\s"'\\`;&|<>()]*))\s*(?:\#.*)?""", re.ASCII
)
_DEFAULT = re.compile(r"""\s*:\s+"?\$\{([A-Za-z_]\w*):?=([^}"'\\`]*)\}"?\s*(?:\#.*)?""", re.ASCII)
"""``: ${NAME:=value}``."""
_EXPANSION = re.compile(
    r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?::?-(?P<default>[^}$]*))?\}|)", re.ASCII
)


def assignments(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Read what is assigned and not in the environment yet; a line that takes a shell to understand is passed over."""
    known = dict(environment)
    for line in text.splitlines():
        if found := _ASSIGNMENT.fullmatch(line):
            name, double, single, bare = found.groups()
            value = single if single is not None else _expanded(double if double is not None else bare, known)
        elif found := _DEFAULT.fullmatch(line):
            name, value = found[1], known.get(found[1]) or _expanded(found[2], known)
        else:
            continue
        if value is not None and name not in environment:
            known[name] = value
    return {name: value for name, value in known.items() if name not in environment}


def _expanded(text: str, known: Mapping[str, str]) -> str | None:
    """Put variables in; None: there is something else behind a dollar sign."""
    parts, end = [], 0
    for found in _EXPANSION.finditer(text):
        name = found["plain"] or found["name"]
        if name is None:
            return None
        parts += [text[end : found.start()], known.get(name) or found["default"] or ""]
        end = found.end()
    return "".join([*parts, text[end:]])
