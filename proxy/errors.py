"""What can fail, named by what someone does about it.

A foreign exception is translated into one of these where the library is called; nothing above that place
imports aiohttp's or OpenSSL's errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of an operator: where it is, and one sentence that says what it is and what to do."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class StapleproxyError(Exception):
    """Anything this program reports by a sentence instead of a traceback."""


class ConfigError(StapleproxyError):
    """Fix the configuration, the certificate or the key: all mistakes found, at once."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class StartError(StapleproxyError):
    """The configuration is right, but this machine did not give what it asks for (a port, a file, a right)."""


class Reason(StrEnum):
    """Why a response is refused: one word, the same in the log and in ``explain``."""

    TOO_LARGE = "too-large"
    UNPARSABLE = "unparsable"
    TRAILING_BYTES = "trailing-bytes"
    RESPONSE_TYPE = "response-type"
    FRACTIONAL_SECONDS = "fractional-seconds"
    MALFORMED_REQUEST = "malformed-request"
    INTERNAL_ERROR = "internal-error"
    TRY_LATER = "try-later"
    SIG_REQUIRED = "sig-required"
    UNAUTHORIZED = "unauthorized"
    CERTID_MISMATCH = "certid-mismatch"
    CRITICAL_EXTENSION = "critical-extension"
    WEAK_SIGNATURE = "weak-signature"
    BAD_SIGNATURE = "bad-signature"
    UNAUTHORIZED_SIGNER = "unauthorized-signer"
    SIGNER_OUT_OF_DATE = "signer-out-of-date"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    BAD_DATES = "bad-dates"
    NO_NEXT_UPDATE = "no-next-update"
    CERTIFICATE_EXPIRED = "certificate-expired"
    NONCE_MISMATCH = "nonce-mismatch"
    OLDER_THAN_HELD = "older-than-held"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


class FetchReason(StrEnum):
    """Why no answer came from a responder: one word, the same in the log, in the metrics and in ``explain``."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    PROTOCOL = "protocol"
    REDIRECT = "redirect"
    HTTP_STATUS = "http-status"
    CONTENT_TYPE = "content-type"
    TOO_LARGE = "too-large"
    NO_ISSUER = "no-issuer"


class StapleRejected(StapleproxyError):
    """The responder answered, but with nothing that may be stapled."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FetchFailed(StapleproxyError):
    """No usable answer came from the responder: try later.

    `retry_after_s` is what the responder asked for, or None.
    """

    def __init__(self, reason: FetchReason, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class ClientError(StapleproxyError):
    """The client's request is not for the backend: the 4xx or 501 status to answer with; 200 to one that ends here."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class UpstreamError(StapleproxyError):
    """The upstream failed, or there is none: the 5xx or 404 status to answer with.

    `seen` is what came from it: for the log, and nothing for clients.
    """

    def __init__(self, status: int, detail: str, seen: str = "") -> None:
        super().__init__(f"{status}: {detail}{seen}")
        self.status = status
        self.detail = detail
        self.seen = seen
