"""Whether the inside of ``<IfModule>``, ``<IfDefine>``, ``<IfVersion>`` and their like is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.settings.httpd.lines import first_word, words
from proxy.settings.httpd.textfile import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

VERSION = (2, 4, 71)
"""The Apache that the rest is compared with."""

_SOURCES = {
    "core": "core.c",
    "http": "http_core.c",
    "mpm_event": "event.c",
}
for _name in (
    *("access_compat", "alias", "authn_core", "authz_core", "authz_host", "headers", "log_config", "logio", "md"),
    *("proxy", "proxy_balancer", "proxy_http", "proxy_wstunnel", "lbmethod_bybusyness", "lbmethod_byrequests"),
    *("remoteip", "rewrite", "slotmem_shm", "so", "socache_redis", "socache_shmcb", "ssl", "unixd"),
    *("version", "watchdog"),
):
    _SOURCES[_name] = f"mod_{_name}.c"
MODULES = frozenset(_SOURCES.values()) | frozenset(f"{name}_module" for name in _SOURCES)
"""The modules that are there, by both of their names: those whose directives are honoured or told to be missing.

``LoadModule`` adds none. What stands in an ``<IfModule>`` for any other is passed over, as Apache does without it.
"""


class ConditionError(ValueError):
    """The condition is written wrongly; the text is Apache's."""


@dataclass(frozen=True, slots=True)
class Known:
    """What conditions ask for."""

    defined: Collection[str]
    """Names, in the case that they were defined in."""
    directives: Collection[str]
    """Lower case; sections begin with ``<``."""
    server_root: Path


def is_condition(name: str) -> bool:
    """Whether a section is looked at while reading, and leaves only its inside, or nothing."""
    return name.lower() in _TESTS or name.lower() == "ifversion"


def holds(name: str, text: str, known: Known) -> bool:
    """Decide about ``<name text``, where text ends with the bracket. Raises ConditionError."""
    if name.lower() == "ifversion":
        return _version_is(text)
    inside, bracket, _ = text.rpartition(">")
    if not bracket:
        raise ConditionError(f"<{name}> directive missing closing '>'")
    is_negated = inside.startswith("!")
    what = first_word(inside.removeprefix("!"))[0]
    if not what:
        raise ConditionError(f"<{name}> directive requires additional arguments")
    return _TESTS[name.lower()](what, known) != is_negated


_TESTS: dict[str, Callable[[str, Known], bool]] = {
    "ifmodule": lambda what, _known: what in MODULES,
    "ifdefine": lambda what, known: what in known.defined,
    "iffile": lambda what, known: is_there(known.server_root / what),
    "ifdirective": lambda what, known: what.lower() in known.directives,
    "ifsection": lambda what, known: f"<{what.lower()}" in known.directives,
}


def _version_is(text: str) -> bool:
    """Compare the version as mod_version does: ``[[!]operator] version``, ``=`` also with ``/regex/``."""
    given = words(text)
    if len(given) > 3:
        raise ConditionError(
            "<IfVersion takes one, two or three arguments, a comparison operator, a version (and a delimiter)"
        )
    if len(given) == 1 or (len(given) == 2 and given[1] == ">"):
        given = ("=", *given)
    operator, version, *delimiter = given
    if delimiter != [">"]:
        if not version.endswith(">"):
            raise ConditionError("<IfVersion> directive missing closing '>'")
        version = version[:-1]
    is_negated = operator.startswith("!") and len(operator) > 1
    match operator[is_negated:]:
        case "=" | "==" if version.startswith("/"):
            if len(version) < 2 or not version.endswith("/"):
                raise ConditionError("Missing delimiting / of regular expression.")
            found = _matches(version[1:-1])
        case "~":
            found = _matches(version)
        case "=" | "==":
            found = _numbers(version) == VERSION
        case "<":
            found = _numbers(version) > VERSION
        case "<=":
            found = _numbers(version) >= VERSION
        case ">":
            found = _numbers(version) < VERSION
        case ">=":
            found = _numbers(version) <= VERSION
        case _:
            raise ConditionError(f"unrecognized operator '{operator}'")
    return found != is_negated


def _matches(pattern: str) -> bool:
    try:
        return re.search(pattern, ".".join(map(str, VERSION))) is not None
    except (re.error, OverflowError, RecursionError):
        raise ConditionError("Unable to compile regular expression") from None


def _numbers(text: str) -> tuple[int, ...]:
    found = re.fullmatch(r"(\d{1,9})(?:\.(\d{0,9}))?(?:\.(\d{0,9}))?", text, re.ASCII)
    if found is None:
        raise ConditionError(
            "Version appears to be invalid. It must have the format major[.minor[.patch]] "
            "where major, minor and patch are numbers."
        )
    return tuple(int(part or 0) for part in found.groups())
