"""When mod_ssl staples what: its rules for what the cache holds and for what a fetch brought, as functions.

A value in the cache is one octet, 1 if the response was right when it was stored, and the response in DER. Each site
judges it anew by its own settings in each handshake. `trunk` in the comments is Apache's next version.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from proxy.ocsp.httpd_check import Finding, check, read_stored

if TYPE_CHECKING:
    from proxy.ocsp.httpd_check import CertId, Checked, Response
    from proxy.ocsp.httpd_notes import Note
    from proxy.settings.stapling_httpd import HttpdStapling

TRY_LATER = bytes.fromhex("30030a0103")
"""An OCSPResponse with status tryLater, and nothing more: what is made up when no answer came."""

MAX_STORED_BYTES = 10_240
"""Of a value in the cache, the flag included."""

_WAS_RIGHT, _WAS_WRONG = b"\x01", b"\x00"


class Outcome(IntEnum):
    """What becomes of a handshake whose client asks for a staple."""

    STAPLE = 1
    NONE = 2
    FATAL = 3
    """It ends with the alert internal_error."""
    FETCH = 4
    """It waits until a response was fetched."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An outcome, and the lines that Apache writes on the way to it."""

    outcome: Outcome
    staple: bytes
    """Empty unless the outcome is STAPLE."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """What goes into the cache."""

    value: bytes
    lasts_s: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What one site goes by."""

    settings: HttpdStapling
    is_trunk: bool = False

    def judge(self, value: bytes | None, cert_id: CertId, now_s: float) -> Decision:
        """Judge what the cache holds, None: nothing that is not over. The outcome is never FATAL."""
        if value is None:
            return Decision(Outcome.FETCH, b"", ((1930,),))
        response = read_stored(value)
        if response is None:
            return Decision(Outcome.FETCH, b"", ((1932,),))
        found = self._check(response, cert_id, now_s)
        complaint: dict[Finding, tuple[Note, ...]] = {
            Finding.UNPARSABLE: ((1934,),),
            Finding.OTHER_CERTIFICATE: ((1935,),),
            Finding.TIMES_INVALID: ((1937,),),
        }
        notes = ((1933,), (1953,), *complaint.get(found.finding, ()))
        if self._passes(found.finding):
            return Decision(Outcome.STAPLE, response.der, notes)
        if value[:1] == _WAS_RIGHT:
            return Decision(Outcome.FETCH, b"", notes)
        if self.settings.return_responder_errors:
            return Decision(Outcome.STAPLE, response.der, notes)
        return Decision(Outcome.NONE, b"", notes)  # until its time in the cache is over

    def _passes(self, finding: Finding) -> bool:
        """Whether a response out of the cache is stapled whatever its flag says."""
        match finding:
            case Finding.RIGHT:
                return True
            case Finding.NOT_SUCCESSFUL | Finding.OTHER_CERTIFICATE:
                return self.settings.return_responder_errors
            case Finding.UNPARSABLE:  # 2.4 lets it through without a look at the setting; mended in trunk
                return self.settings.return_responder_errors or not self.is_trunk
            case Finding.TIMES_INVALID:
                return False

    def after_fetch(self, response: Response | None, cert_id: CertId, now_s: float) -> tuple[Decision, Stored | None]:
        """Judge what a fetch has brought, None: nothing that can be used; and say what is to be kept of it.

        The notes end before what keeping it adds, see `end_notes`.
        """
        if response is None:
            return self._without_answer()
        if response.status:
            notes: tuple[Note, ...] = ((1944, _STATUS_NAMES.get(response.status, "(UNKNOWN)")),)
            is_right = False
        else:
            found = self._check(response, cert_id, now_s)
            is_right = found.finding is Finding.RIGHT
            notes = ((1942,), *_complaints(found, cert_id), *(() if is_right else ((1943,),)))
        stapled = is_right or self.settings.return_responder_errors
        decision = _stapling(response.der, notes) if stapled else Decision(Outcome.NONE, b"", notes)
        return decision, self._stored(response.der, is_right=is_right)

    def _without_answer(self) -> tuple[Decision, Stored | None]:
        notes: tuple[Note, ...] = ((1941,),)
        if not self.settings.fake_try_later:
            # In trunk a refactoring has turned this into an error that ends the handshake.
            return Decision(Outcome.FATAL if self.is_trunk else Outcome.NONE, b"", notes), None
        # 2.4 takes its own made-up tryLater for right: it is stapled though errors are not, and kept as long as a good
        # response.
        stapled = self.settings.return_responder_errors or not self.is_trunk
        decision = _stapling(TRY_LATER, notes) if stapled else Decision(Outcome.NONE, b"", notes)
        return decision, self._stored(TRY_LATER, is_right=not self.is_trunk)

    def _check(self, response: Response, cert_id: CertId, now_s: float) -> Checked:
        return check(response, cert_id, now_s, self.settings.response_time_skew_s, self.settings.response_max_age_s)

    def _stored(self, der: bytes, *, is_right: bool) -> Stored:
        if is_right:
            return Stored(_WAS_RIGHT + der, self.settings.standard_cache_timeout_s)
        return Stored(_WAS_WRONG + der, self.settings.error_cache_timeout_s)


def end_notes(outcome: Outcome) -> tuple[Note, ...]:
    """Give the last lines of a handshake in which something was fetched."""
    match outcome:
        case Outcome.STAPLE:
            return (3040,), (1956,)
        case Outcome.NONE:
            return (3040,), (1957,)
        case _:
            return ((1955,),)


def _stapling(der: bytes, notes: tuple[Note, ...]) -> Decision:
    return Decision(Outcome.STAPLE, der, notes)


def _complaints(found: Checked, cert_id: CertId) -> tuple[Note, ...]:
    notes: list[Note] = []
    match found.finding:
        case Finding.UNPARSABLE:
            notes.append((1934,))
        case Finding.OTHER_CERTIFICATE:
            notes.append((1935,))
        case Finding.TIMES_INVALID:
            notes.append((1936,))
    if found.single and found.single.status != "good":
        reason = "n/a" if found.single.reason is None else _REASON_NAMES.get(found.single.reason, "(UNKNOWN)")
        notes.append((2969, found.single.status, reason, cert_id.serial))
    return tuple(notes)


# RFC 6960 4.2.1 and RFC 5280 5.3.1, by OpenSSL's names.
_STATUS_NAMES = {1: "malformedrequest", 2: "internalerror", 3: "trylater", 5: "sigrequired", 6: "unauthorized"}
_REASON_NAMES = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
