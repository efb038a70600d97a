"""What aiohttp and the system say of a failed exchange, as FetchFailed: one word, and one line for an operator."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import aiohttp

from proxy.errors import FetchFailed, FetchReason
from proxy.keeper.intake import ConnectionLostError
from proxy.log_lines import printable

if TYPE_CHECKING:
    from proxy.keeper.way import Proxy

MAX_DETAIL_LENGTH = 200
"""What a stranger sent ends up in the log: not more of it than helps."""

# In this order: the first class that fits gives the word.
_REASONS: dict[type[Exception], FetchReason] = {
    aiohttp.ClientHttpProxyError: FetchReason.HTTP_STATUS,
    aiohttp.InvalidURL: FetchReason.PROTOCOL,
    aiohttp.ClientConnectorDNSError: FetchReason.DNS,
    aiohttp.ClientSSLError: FetchReason.TLS,
    aiohttp.ClientConnectorError: FetchReason.CONNECT,
    aiohttp.ClientResponseError: FetchReason.PROTOCOL,
    aiohttp.ClientPayloadError: FetchReason.DISCONNECTED,
    aiohttp.ClientConnectionError: FetchReason.DISCONNECTED,
    ConnectionLostError: FetchReason.DISCONNECTED,
    aiohttp.ClientError: FetchReason.PROTOCOL,
    OSError: FetchReason.DISCONNECTED,
    ValueError: FetchReason.PROTOCOL,  # a URL that cannot be read
}

FOREIGN = tuple(_REASONS)
"""What may come out of an exchange."""


def failure_of(error: Exception, proxy: Proxy | None) -> FetchFailed:
    """Translate one of `FOREIGN`; `proxy` is the one that was to be asked."""
    reason = next(reason for known, reason in _REASONS.items() if isinstance(error, known))
    detail = _why(error)
    if proxy is not None:
        # Through a proxy no other name is looked up and nothing else is connected to; TLS goes past it.
        is_about_it = isinstance(error, aiohttp.ClientConnectorError) and reason is not FetchReason.TLS
        where = "of" if is_about_it or isinstance(error, aiohttp.ClientHttpProxyError) else "through"
        detail = f"{detail} ({where} the HTTP proxy {proxy})"
    return FetchFailed(reason, one_line(detail))


def _why(error: Exception) -> str:
    """Say it as an operator would; aiohttp's own texts repeat the whole URL, or speak of its settings."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as cause):
            return f"{error.host}:{error.port}: {cause.verify_message}"
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError() as cause):
            return f"{error.host}:{error.port}: {cause.reason or cause}"
        case aiohttp.ClientConnectorError(os_error=cause) if cause.errno is not None and cause.errno > 0:
            return f"{error.host}:{error.port}: {os.strerror(cause.errno)}"
        case aiohttp.ClientConnectorError(os_error=cause):
            return f"{error.host}:{error.port}: {cause.strerror or cause}"
        case aiohttp.ClientHttpProxyError():
            return f"{error.status} {error.message}"
        case aiohttp.ClientResponseError():
            return error.message
    return str(error) or type(error).__name__


def one_line(text: str) -> str:
    """Fit for a log, for JSON and for a terminal.

    aiohttp keeps bytes that are no UTF-8, as in a status that is worded in Latin-1, as surrogates: JSON takes none.
    """
    return printable(" ".join(text.split())[:MAX_DETAIL_LENGTH])
