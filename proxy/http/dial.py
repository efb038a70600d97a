"""Making a connection to a backend: TCP, TLS on it, or a Unix socket; every failure is an UpstreamError."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.settings.values import UpstreamAddress


@dataclass(frozen=True, slots=True)
class BackendTls:
    """How backends at https:// are verified."""

    context: ssl.SSLContext
    name: str | None = None
    """What their certificates must be for; None: the host of each URL."""


async def dial(
    factory: Callable[[], asyncio.Protocol], address: UpstreamAddress, tls: BackendTls | None, timeout_s: float
) -> asyncio.Transport:
    """Connect within `timeout_s`, the handshake included. UpstreamError has the status for the client."""
    loop = asyncio.get_running_loop()
    transport: asyncio.Transport
    try:
        async with asyncio.timeout(timeout_s):
            if address.path:
                transport, _ = await loop.create_unix_connection(factory, address.path)
            elif address.is_tls:
                assert tls is not None  # the plan was built so
                name = tls.name or address.host
                transport, _ = await loop.create_connection(
                    factory, address.host, address.port, ssl=tls.context, server_hostname=name
                )
            else:
                transport, _ = await loop.create_connection(factory, address.host, address.port)
    except TimeoutError:
        raise UpstreamError(504, "connecting to the backend took too long") from None
    except ssl.SSLCertVerificationError as error:
        # What follows the comma is the name that was looked for, which is not for clients to know.
        why = error.verify_message.partition(",")[0]
        raise UpstreamError(502, f"the backend's certificate is refused ({why})") from None
    except ssl.SSLError as error:
        raise UpstreamError(502, f"the backend's TLS handshake failed ({error.reason or error})") from None
    except OSError as error:
        raise UpstreamError(502, f"the backend cannot be reached ({error.strerror or error})") from None
    return transport
