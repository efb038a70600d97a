r"""From a request's path to what serves it. Pure.

A prefix matches whole segments, as in the Kubernetes Gateway API: "/api" and "/api/" are the same, and match "/api",
"/api/" and "/api/x", but never "/apix". The longest wins. Letters are compared as they are.

The path is matched as it was sent, and goes on as it was sent. A backend may read it in another way: decode it, take
"\" for "/", "//" for "/", drop ";parameters", resolve "..". So that nobody steps round a route, a path is refused that

- has a segment "." or ".." in any of these readings: no client has a reason to send one (RFC 3986 5.2.4 has it
  resolved before), and readers disagree about which segment it takes away; or
- leads to one route as it is, and to another in one of these readings, in whatever order the steps are taken: in
  "/;\v2/api" the parameters end at the backslash or behind it.

Where all paths lead to one place, nothing is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from proxy.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterable

T_co = TypeVar("T_co", covariant=True)

_TWO_READINGS = re.compile(rb"[%\\;]|//|/\.")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"//+")
_MAX_DECODED = 2
_DOTS = re.compile(rb"/\.{1,2}(?:/|\Z)")


class Routes(Generic[T_co]):
    """Values by prefix; built once and never changed."""

    def __init__(self, prefixes: Iterable[tuple[str, T_co]], default: T_co) -> None:
        pairs = [(prefix.rstrip("/").encode("ascii"), value) for prefix, value in prefixes]
        self._default = default
        self._pairs = sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)

    def choose(self, target: bytes) -> T_co:
        """Find what serves a request target in origin, absolute or asterisk form. ClientError as told above."""
        if not self._pairs:
            return self._default
        path = target.partition(b"?")[0]
        if not path.startswith(b"/"):
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        value = self._find(path)
        if _TWO_READINGS.search(path):
            for reading in _readings(path):
                plain = _SLASHES.sub(b"/", reading)
                if _DOTS.search(plain) or self._find(plain) is not value:
                    raise ClientError(400, "this path could be read as another one")
        return value

    def _find(self, path: bytes) -> T_co:
        for prefix, value in self._pairs:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {b"", b"/"}:
                return value
        return self._default


def _readings(path: bytes) -> set[bytes]:
    """All that a backend might make of a path, but for repeated slashes, which change nothing of the other steps."""
    # (reading, how often it was decoded). Twice: a proxy behind us that does it, and an application that does it again.
    # Nobody is known to do it thrice.
    found = {(path, 0)}
    waiting = [(path, 0)]
    while waiting:
        reading, decoded = waiting.pop()
        further = [(reading.replace(b"\\", b"/"), decoded), (_PARAMETERS.sub(b"", reading), decoded)]
        if decoded < _MAX_DECODED:
            further.append((unquote_to_bytes(reading), decoded + 1))
        for each in further:
            if each not in found:
                found.add(each)
                waiting.append(each)
    return {reading for reading, _ in found}
