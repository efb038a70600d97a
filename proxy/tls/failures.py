"""Why a connection came to no TLS session: the few words that the metrics have for it. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Failure(StrEnum):
    """Each connection to a port with TLS ends with one of these, or has had a handshake."""

    NOTHING_SENT = "nothing-sent"
    CLIENT_LEFT = "client-left"
    CLIENT_ALERT = "client-alert"
    CLIENT_CERTIFICATE = "client-certificate"
    PROTOCOL = "protocol"
    UNKNOWN_NAME = "unknown-name"
    PLAIN_HTTP = "plain-http"
    PROXY_HEADER = "proxy-header"
    NO_STAPLE = "no-staple"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    WORKER_ENDED = "worker-ended"


FAILED_BECAUSE: Mapping[Failure, str] = {
    Failure.NOTHING_SENT: "it was closed before a byte, as by a balancer that looks whether somebody is there",
    Failure.CLIENT_LEFT: "it was closed before the handshake was done",
    Failure.CLIENT_ALERT: "the client refused, with an alert: often it does not trust the certificate",
    Failure.CLIENT_CERTIFICATE: "the client showed no certificate, or one that is not accepted",
    Failure.PROTOCOL: "no version, cipher or application protocol in common, or what came was no TLS",
    Failure.UNKNOWN_NAME: "no site has the name, and `tls.unknown_names` refuses such clients",
    Failure.PLAIN_HTTP: "the client speaks HTTP without TLS",
    Failure.PROXY_HEADER: "the load balancer sent no PROXY header, or none that can be read",
    Failure.NO_STAPLE: "the client asked for a staple, there was none, and it was turned away for it",
    Failure.TIMEOUT: "`tls.handshake_timeout_s` was over",
    Failure.LIMIT: "there was no room for it: see `limits`",
    Failure.WORKER_ENDED: "the worker was told to end, or was killed, before the handshake was done",
}
"""The sentence to each word."""


def failure_of(why: str) -> Failure:
    """Sort what OpenSSL says, such as ``tlsv1 alert unknown ca`` or ``no shared cipher``."""
    if "alert" in why:
        return Failure.CLIENT_ALERT
    return Failure.CLIENT_CERTIFICATE if "certificate" in why else Failure.PROTOCOL
