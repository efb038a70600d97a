"""What can come of a handshake: the staple's outcomes and the kinds of failure. PURE, and one table each."""

from __future__ import annotations

from enum import StrEnum


class StapleOutcome(StrEnum):
    """What a client of a completed handshake was given, best first."""

    GOOD = "good"
    REVOKED = "revoked"
    OTHER = "other-status"
    INVALID = "invalid"
    MISSING = "missing"
    RESUMED = "resumed"
    NOT_ASKED = "not-asked"


MEANING = {
    StapleOutcome.GOOD: "Verified, and says that the certificate is good.",
    StapleOutcome.REVOKED: "Verified, and says that the certificate is revoked.",
    StapleOutcome.OTHER: "Verified, and says 'unknown'; or no response but a responder's error, such as 'try later'.",
    StapleOutcome.INVALID: "Bytes that are no valid response for this certificate now: the reasons are told below.",
    StapleOutcome.MISSING: "Asked for, and none came.",
    StapleOutcome.RESUMED: "Asked for in a resumption, in which no server sends any.",
    StapleOutcome.NOT_ASKED: "Not asked for.",
}


class Failure(StrEnum):
    """Why a connection did not do what it was opened for; a detail may stand behind it."""

    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect-timeout"
    ALERT = "alert"
    CHAIN = "untrusted"
    TLS = "tls"
    CLOSED = "closed-in-handshake"
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    ANSWER = "answer"
    ANSWER_TIMEOUT = "answer-timeout"
    NEVER_BEGUN = "never-begun"


FAILURE_MEANING = {
    Failure.CONNECT: "No connection: the system's word for it.",
    Failure.CONNECT_TIMEOUT: "No connection within its time.",
    Failure.ALERT: "The server ended the connection with this alert.",
    Failure.CHAIN: "The chain leads to none of the roots, or the certificate is for another name; in OpenSSL's words.",
    Failure.TLS: "Our side ended the connection: OpenSSL's word for it.",
    Failure.CLOSED: "The connection ended in the handshake, without an alert.",
    Failure.HANDSHAKE_TIMEOUT: "The handshake was not over within its time.",
    Failure.ANSWER: "No whole HTTP answer came.",
    Failure.ANSWER_TIMEOUT: "No whole HTTP answer came within its time.",
    Failure.NEVER_BEGUN: "Due, but as many connections as allowed were open until the end.",
}
