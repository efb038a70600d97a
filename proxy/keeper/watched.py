"""One certificate, and how it stands with its staple."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from proxy.ocsp.response import CertStatus

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from proxy.identity import Identity
    from proxy.ocsp.response import Staple
    from proxy.sites import StapledCertificate

EXPIRING_LIFE = 0.25
"""A staple is about to expire when no more than this part of its life remains, and nothing newer came."""


class Trouble(NamedTuple):
    """Why one responder did not help."""

    url: str
    reason: str
    """The code: a `Reason` or a `FetchReason`."""
    detail: str

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}: {self.detail}"


@dataclass(slots=True)
class Watched:
    """One writer: the refresher."""

    certificate: StapledCertificate
    issuer: x509.Certificate | None
    """None: not found yet."""
    newest: Staple | None = None
    """The issuer's newest word, 'good' or 'revoked'. It outlives its end: an older one stays an older one."""
    jitter: float = 0.0
    """Drawn once for `newest`: a responder that repeats itself is not asked at ever other moments."""
    is_by_hand: bool = False
    """`newest` comes from the staple file: it is stapled whatever it says."""
    etag: tuple[str, str] | None = None
    """URL that gave `newest`, and its tag for it."""
    working: int = 0
    """Which of the responders is asked first: the one that answered last."""
    round: tuple[Trouble, ...] = ()
    """What has gone wrong in the round under way, responder by responder."""
    troubles: tuple[Trouble, ...] = ()
    """The same of the last round that is over; empty: nothing went wrong."""
    retry_after_s: float | None = None
    """The longest wait that a responder of this round asked for."""
    failures: int = 0
    """Rounds in a row in which no responder helped."""
    successes: int = 0
    told: str = ""
    """Which of ``expiring`` and ``expired`` has been said of `newest`."""
    due_s: float | None = None
    """When the next round begins; None: it is under way, or there will be none."""

    @property
    def identity(self) -> Identity:
        return self.certificate.identity

    def held(self, now: datetime) -> Staple | None:
        """The staple that the cache has for it, unless its time is over."""
        newest = self.newest
        return newest if newest and self.may_staple(newest) and now < newest.serve_until else None

    def may_staple(self, staple: Staple) -> bool:
        """Tell what is stapled from what is withheld: a 'revoked', unless the operator wants it or put it there."""
        if staple.status is CertStatus.REVOKED:
            return self.certificate.on_revoked == "staple" or (self.is_by_hand and staple is self.newest)
        return staple.status is CertStatus.GOOD

    @property
    def is_withheld(self) -> bool:
        """The issuer says that the certificate is revoked, and nothing is stapled: no hurry to hear it again."""
        return self.newest is not None and not self.may_staple(self.newest)

    def url(self, number: int) -> str:
        """The responder to ask as the `number`-th of a round."""
        urls = self.certificate.responder_urls
        return urls[(self.working + number) % len(urls)]

    def newly_over(self, now: datetime) -> str:
        """``expiring`` or ``expired`` when the staple has become so and nobody was told; else empty."""
        newest = self.newest
        if newest is None or not self.may_staple(newest):
            return ""
        life, left = newest.serve_until - newest.this_update, newest.serve_until - now
        stage = "expired" if left.total_seconds() <= 0 else "expiring" if left <= life * EXPIRING_LIFE else ""
        # From the one to the other and never back: a clock that was set back says nothing new.
        return stage if stage not in {self.told, ""} and self.told != "expired" else ""
