"""Judging the staples of many handshakes: verified once, compared byte for byte after. PURE.

A verdict is remembered by the whole staple and by which certificate the server has shown with it, so that a staple of
another certificate is never taken for a good one. It holds no longer than the staple does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from proxy.bench.outcomes import StapleOutcome
from proxy.errors import Reason, StapleRejected
from proxy.identity import find_issuer
from proxy.ocsp.response import CertStatus, Rules, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

_MAX_REMEMBERED = 100_000
_MAX_REMEMBERED_BYTES = 64_000_000
"""A server may staple something new, and large, to each client."""
_REFUSAL_HOLDS_S = 1.0
"""What is not valid yet may be so later."""
_RESPONDER_SAYS = {
    Reason.MALFORMED_REQUEST,
    Reason.INTERNAL_ERROR,
    Reason.TRY_LATER,
    Reason.SIG_REQUIRED,
    Reason.UNAUTHORIZED,
}
"""RFC 6960 4.2.1: a response without a status, signed by nobody."""
_OUTCOMES = {
    CertStatus.GOOD: StapleOutcome.GOOD,
    CertStatus.REVOKED: StapleOutcome.REVOKED,
    CertStatus.UNKNOWN: StapleOutcome.OTHER,
}
NO_ISSUER = "no-issuer"
"""Beside the words of `Reason`: the server did not send the certificate that the staple is judged by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a staple is worth beside one certificate."""

    outcome: StapleOutcome
    reason: str
    """In a word, why it is not good; "" if it is, or is revoked."""
    holds_until: float
    """Unix seconds."""
    this_update: float | None
    serve_until: float | None
    """Unix seconds; None where it is no valid response."""
    digest: bytes
    """Of the staple, by which it is counted; its bytes are held here only, and within a bound."""
    size: int
    """Of the staple, in bytes."""


@dataclass(slots=True)
class Judge:
    """Remembers verdicts; `more` are certificates to look for the issuer in beside the chain that the server sends."""

    more: tuple[x509.Certificate, ...] = ()
    rules: Rules = field(default_factory=Rules)
    verified: int = 0
    """How often a signature was looked at."""
    _verdicts: dict[tuple[bytes, bytes], Verdict] = field(default_factory=dict)
    _held_bytes: int = 0

    def judge(self, der: bytes, leaf: bytes, chain: Callable[[], tuple[x509.Certificate, ...]], now: float) -> Verdict:
        """Judge the staple that came with the certificate of the digest `leaf`; `chain` is read for a new one only."""
        verdict = self._verdicts.get((leaf, der))
        if verdict is not None and now < verdict.holds_until:
            return verdict
        if len(self._verdicts) >= _MAX_REMEMBERED or self._held_bytes + len(der) > _MAX_REMEMBERED_BYTES:
            self._verdicts.clear()
            self._held_bytes = 0
        if verdict is None:
            self._held_bytes += len(der)
        verdict = self._verdicts[leaf, der] = self._verify(der, chain(), now)
        return verdict

    def _verify(self, der: bytes, chain: tuple[x509.Certificate, ...], now: float) -> Verdict:
        self.verified += 1
        issuer = find_issuer(chain[0], (*chain[1:], *self.more)) if chain else None
        if issuer is None:
            return _refusal(der, NO_ISSUER, now)
        try:
            staple = verify(der, leaf=chain[0], issuer=issuer, now=datetime.fromtimestamp(now, UTC), rules=self.rules)
        except StapleRejected as error:
            return _refusal(der, error.reason, now)
        outcome = _OUTCOMES[staple.status]
        reason = str(Reason.UNKNOWN) if outcome is StapleOutcome.OTHER else ""
        until = staple.serve_until.timestamp()
        return Verdict(outcome, reason, until, staple.this_update.timestamp(), until, sha256(der).digest(), len(der))


def _refusal(der: bytes, reason: str, now: float) -> Verdict:
    outcome = StapleOutcome.OTHER if reason in _RESPONDER_SAYS else StapleOutcome.INVALID
    return Verdict(outcome, str(reason), now + _REFUSAL_HOLDS_S, None, None, sha256(der).digest(), len(der))
