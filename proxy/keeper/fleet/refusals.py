"""Values of the server that did not prove good here: told once, looked past from then on, and perhaps overwritten."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cryptography.x509 import ocsp

from proxy.errors import Reason
from proxy.log import about
from proxy.ocsp.signer import PARSE_ERRORS

if TYPE_CHECKING:
    from proxy.identity import CacheKey
    from proxy.keeper.fleet.decide import Found
    from proxy.keeper.watched import Watched

MALFORMED = "malformed"
_OF_TIME = {Reason.NOT_YET_VALID, Reason.EXPIRED, Reason.SIGNER_OUT_OF_DATE, Reason.CERTIFICATE_EXPIRED}

_log = logging.getLogger("stapleproxy.keeper")


class _Refusal(NamedTuple):
    digest: str
    may_be_replaced: bool
    """By an older response, too."""
    is_of_time: bool = False


_NOTHING = _Refusal("", may_be_replaced=False)


class Refusals:
    """The last refusal of each certificate. `name` is the server's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: dict[CacheKey, _Refusal] = {}
        self.counts: Counter[str] = Counter()

    def digest(self, key: CacheKey) -> str:
        """Of the value to look past; empty: there is none."""
        return self._last.get(key, _NOTHING).digest

    def replaceable(self, key: CacheKey) -> str:
        """Give the same of the value that is overwritten even by an older response."""
        last = self._last.get(key, _NOTHING)
        return last.digest if last.may_be_replaced else ""

    def forget(self, key: CacheKey) -> None:
        """Say that something better stands there now."""
        self._last.pop(key, None)

    def look_again(self, key: CacheKey) -> None:
        """Forget what the clock has said: the next time it may be right."""
        if self._last.get(key, _NOTHING).is_of_time:
            del self._last[key]

    def proved_bad(self, watched: Watched, found: Found, reason: str, detail: str) -> None:
        """Refuse a response.

        Where it was the clock's word, that one may be wrong here: it stays, unless its head lies.
        """
        is_of_time = reason in _OF_TIME
        refusal = _Refusal(found.digest, not is_of_time or not _says_so(found), is_of_time)
        self._add(watched, refusal, reason, detail)

    def add(self, watched: Watched, digest: str, reason: str, detail: str) -> None:
        """Refuse a value that is none."""
        self._add(watched, _Refusal(digest, may_be_replaced=True), reason, detail)

    def _add(self, watched: Watched, refusal: _Refusal, reason: str, detail: str) -> None:
        key, label = watched.identity.cache_key, watched.identity.label
        if self.digest(key) == refusal.digest:  # found twice at a time
            return
        what = "%s: the response on %s is refused: %s: %s"
        _log.warning(what, label, self._name, reason, detail, extra=about(certificate=label, reasons=[reason]))
        self._last[key] = refusal
        self.counts[reason] += 1


def _says_so(found: Found) -> bool:
    """Whether the response, be it proved or not, has the thisUpdate that its head tells."""
    try:
        told = [int(each.this_update_utc.timestamp()) for each in ocsp.load_der_ocsp_response(found.der).responses]
    except PARSE_ERRORS:
        return False
    return found.head.this_update_s in told
