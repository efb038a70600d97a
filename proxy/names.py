"""From the name that a client asks for to what serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
"""With the underscore: no host name by RFC 952, but names in use have it, and clients send them."""


def normalise(name: str) -> str:
    """Give the form in which names are compared: lower case, without the root's dot."""
    return name.lower().removesuffix(".")


def host_name(text: str) -> str:
    """Normalise a host name or ``*.`` and a host name; ValueError says why it is none."""
    name = normalise(text)
    if not name.isascii():
        raise ValueError("write an international name in its ASCII form: xn--bcher-kva.example")
    labels = name.removeprefix("*.").split(".")
    if "*" in "".join(labels):
        raise ValueError("a wildcard stands for the whole first label: *.example.com")
    # RFC 1035, section 2.3.4: 63 octets a label, 255 a name, of which two are length and root.
    if len(name) > 253 or not all(0 < len(label) <= 63 and _LABEL_CHARACTERS.issuperset(label) for label in labels):
        raise ValueError("write a host name without scheme and port: www.example.com or *.example.com")
    return name


class NameTable(Generic[T]):
    """Values by host name; a wildcard matches exactly one label (RFC 6125, section 6.4.3).

    Built once and never changed. The n-th pair is the n-th site: ConfigError names two sites that claim one name.
    """

    def __init__(self, pairs: Iterable[tuple[Iterable[str], T]], default: T) -> None:
        self.default = default
        """For who sends no name, or one that is not here."""
        self._values: dict[str, T] = {}
        owners: dict[str, int] = {}
        problems = []
        for index, (names, value) in enumerate(pairs):
            for name in map(normalise, names):
                owner = owners.setdefault(name, index)
                if owner == index:
                    self._values[name] = value
                else:
                    what = f"{name} is a name of site[{owner}] as well: set `names` so that each has its own"
                    problems.append(Problem(f"site[{index}].names", what))
        if problems:
            raise ConfigError(*problems)
        self.is_single = all(value is default for value in self._values.values())
        """Every name leads to the default: there is no need to know it."""

    def lookup(self, server_name: str | None) -> T:
        """Find by the exact name, then by wildcard; the default when there is no name or nothing is found."""
        if not server_name:
            return self.default
        name = normalise(server_name)
        if name in self._values:
            return self._values[name]
        label, _, rest = name.partition(".")
        return self._values.get(f"*.{rest}", self.default) if label and rest else self.default
