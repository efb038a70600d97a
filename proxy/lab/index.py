"""The CA's ``index.txt``, as ``openssl ca`` and ``openssl ocsp`` keep it: one line a certificate.

Six fields with tabs between: V, R or E (valid, revoked, expired), end, time of revocation with an optional reason,
serial number, file, subject. The responder reads it again for every request, so an edit is a revocation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509

FIELDS = 6
STATES = ("V", "R", "E")
_REASONS = {flag.value.lower(): flag for flag in x509.ReasonFlags} | {
    # What openssl writes when a third part follows: the hold's instruction, the time of the compromise.
    "holdinstruction": x509.ReasonFlags.certificate_hold,
    "keytime": x509.ReasonFlags.key_compromise,
    "cakeytime": x509.ReasonFlags.ca_compromise,
}


@dataclass(frozen=True, slots=True)
class Revocations:
    """By serial number: when, and why where that is told."""

    times: dict[int, datetime] = field(default_factory=dict)
    reasons: dict[int, x509.ReasonFlags] = field(default_factory=dict)


def read_revocations(text: str, edited_at: datetime) -> Revocations:
    """Find the revoked certificates of an index; `edited_at` is the time of those that have none.

    Raises ValueError with a sentence that names the line.
    """
    found = Revocations()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != FIELDS or fields[0] not in STATES:
            raise ValueError(f"line {number}: write V, R or E, then five more fields, a tab before each")
        state, _, revocation, serial_hex = fields[:4]
        if state != "R":
            continue
        try:
            serial = int(serial_hex, 16)
        except ValueError:
            raise ValueError(f"line {number}: {serial_hex!r} is no serial number in hexadecimal") from None
        moment, _, rest = revocation.partition(",")
        try:
            found.times[serial] = _time(moment) if moment else edited_at
        except ValueError:
            raise ValueError(f"line {number}: {moment!r} is no time: write it as YYMMDDHHMMSSZ") from None
        if rest:
            reason = rest.partition(",")[0]
            if reason.lower() not in _REASONS:
                raise ValueError(f"line {number}: {reason!r} is no reason: write one as keyCompromise or superseded")
            found.reasons[serial] = _REASONS[reason.lower()]
    return found


def _time(text: str) -> datetime:
    """Read ASN.1's UTCTime (two digits for the year) or GeneralizedTime (four)."""
    year = "%y" if len(text) == len("YYMMDDHHMMSSZ") else "%Y"
    return datetime.strptime(text, f"{year}%m%d%H%M%SZ").replace(tzinfo=UTC)


def add_certificate(text: str, leaf: x509.Certificate, *, file: str, name: str) -> str:
    """Give the index with a line for the certificate; one that is there stays as it is, for it may be edited."""
    serial = f"{leaf.serial_number:X}"
    serial = serial.zfill(len(serial) + len(serial) % 2)  # openssl looks up whole octets
    if f"\t{serial}\t" in text:
        return text
    if text and not text.endswith("\n"):
        text += "\n"
    return f"{text}V\t{leaf.not_valid_after_utc:%y%m%d%H%M%SZ}\t\t{serial}\t{file}\t/CN={name}\n"
