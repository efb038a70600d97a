"""What one worker writes of its requests: facts in, lines out.

Each request has a line, when it is over: answered, refused, or left by its client; those to the redirecting port too.
In mode tcp each connection has one. So has a connection that is turned away for want of a staple, since nobody else
would see it there; it has no request, and 000 for a status. Other handshakes that fail have none, as with nginx and
Apache: they are told in the log at level debug.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING

from cryptography.x509 import ocsp

from proxy.accesslog.file import LogFile
from proxy.accesslog.formats import compile_format
from proxy.accesslog.record import Certificate, Connection, Entry, Staple, Tls, staple_outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from proxy.accesslog.record import RequestHead
    from proxy.proxyprotocol import Endpoint
    from proxy.settings.limits import AccessLogSettings
    from proxy.tls.session import Session

_MAX_STAPLES_REMEMBERED = 1024


class AccessLog:
    """The log of one worker; made after the fork."""

    def __init__(self, settings: AccessLogSettings) -> None:
        assert settings.path is not None  # else there is no log
        self.file = LogFile(settings.path)
        self.format = compile_format(settings.format, _local_time)
        self._numbers = count(1)
        self._pid = os.getpid()

    def follow(self, session: Session, site: str) -> Trail:
        """Follow a connection to the site of this name."""
        connection = Connection(number=next(self._numbers), pid=self._pid, tls=tls_of(session, time.time()), site=site)
        return Trail(self, connection)

    def follow_plain(self) -> Trail:
        """Follow a connection to the redirecting port."""
        return Trail(self, Connection(number=next(self._numbers), pid=self._pid, is_plain=True))

    def add_refused(
        self, session: Session, site: str, endpoints: tuple[Endpoint, Endpoint], clock: Callable[[], float]
    ) -> None:
        """Write of a connection that was turned away, since there was no staple."""
        trail = self.follow(session, site)
        trail.connected(endpoints)
        trail.connection.tls = Tls(server_name=trail.connection.tls.server_name, staple=Staple.REFUSED)
        trail.end(trail.begin(None, clock), 0)


class Trail:
    """Of one connection: who serves it tells when a request begins and when it is over."""

    __slots__ = ("_log", "_told_bytes", "connection")

    def __init__(self, log: AccessLog, connection: Connection) -> None:
        self._log = log
        self.connection = connection
        self._told_bytes = 0

    def connected(self, endpoints: tuple[Endpoint, Endpoint]) -> None:
        """Note who the client is, and where it connected to."""
        peer, local = endpoints
        self.connection.peer = (peer.host, peer.port)
        self.connection.local = (local.host, local.port)

    def begin(self, request: RequestHead | None, clock: Callable[[], float]) -> Entry:
        """Open the record of a request; None: of one that could not be read, or of a connection in mode tcp."""
        self.connection.requests += 1
        return Entry(self.connection, clock, clock(), request)

    def end(self, entry: Entry, received_bytes: int) -> None:
        """Write it. Of what was received on the connection, the part since the last request was over is this one's."""
        entry.ended_at, entry.ended_s = entry.clock(), time.time()
        entry.received_bytes, self._told_bytes = received_bytes - self._told_bytes, received_bytes
        self._log.file.add(self._log.format(entry))


def tls_of(session: Session, now_s: float) -> Tls:
    """What a handshake came to, at its end."""
    staple = session.staple
    is_resumed = session.is_resumed
    outcome = staple_outcome(staple, is_resumed=is_resumed)
    is_fresh = bool(staple) and outcome is Staple.FRESH
    this_update_s = _this_update_s(staple) if staple and is_fresh else None
    return Tls(
        protocol=session.version,
        cipher=session.cipher,
        server_name=session.server_name.encode(),
        is_resumed=is_resumed,
        certificate=_shown(session.client_certificate),
        staple=outcome,
        staple_bytes=len(staple) if staple and is_fresh else None,
        staple_age_s=None if this_update_s is None else max(0, int(now_s - this_update_s)),
    )


def _shown(certificate: x509.Certificate | None) -> Certificate | None:
    if certificate is None:
        return None
    names = (certificate.subject, certificate.issuer)
    subject, issuer = (name.rfc4514_string().encode() for name in names)
    return Certificate(subject, issuer, f"{certificate.serial_number:X}")


@lru_cache(maxsize=_MAX_STAPLES_REMEMBERED)
def _this_update_s(response: bytes) -> float | None:
    """When a response's statement was made; parsed once for all clients that get it."""
    try:
        return next(ocsp.load_der_ocsp_response(response).responses).this_update_utc.timestamp()
    except (ValueError, StopIteration):
        return None


def _local_time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone()
