"""One handshake, asking for the staple: the bytes that came, or none, or the alert; nothing is verified."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

from OpenSSL import SSL

PATIENCE_S = 30.0
_PIECE = 1 << 16
_FATAL = 2
_READ_ALERT = SSL.SSL_CB_READ_ALERT
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_ALGORITHMS = {"rsa": b"RSA-PSS+SHA256:RSA+SHA256", "ec": b"ECDSA+SHA256"}

TlsVersion = Literal["1.2", "1.3"]


@dataclass(frozen=True, slots=True)
class Session:
    """What a later connection may resume, with the context that OpenSSL binds it to."""

    context: SSL.Context
    session: SSL.Session


@dataclass(frozen=True, slots=True)
class Shown:
    """What one client saw."""

    staple: bytes | None
    alert: int | None
    """The number of a fatal alert."""
    is_complete: bool
    is_resumed: bool
    took_s: float
    serial: int | None = None
    """Of the server's certificate."""
    session: Session | None = None


def shake(
    port: int,
    name: str | None,
    *,
    tls: TlsVersion | None = None,
    asks: bool = True,
    kind: Literal["rsa", "ec"] | None = None,
    resume: Session | None = None,
    address: str = "127.0.0.1",
) -> Shown:
    """Shake hands with `name` as the server name (None: without), then make a small request, which brings tickets."""
    told = _Told([], [])
    context = resume.context if resume else _context(tls, kind)
    began_at = time.monotonic()
    with socket.create_connection((address, port), timeout=PATIENCE_S) as tcp:
        connection = SSL.Connection(context, None)
        connection.set_app_data(told)
        connection.set_connect_state()
        if name is not None:
            connection.set_tlsext_host_name(name.encode())
        if asks:
            connection.request_ocsp()
        if resume is not None:
            connection.set_session(resume.session)
        is_complete = _drive(connection, tcp, connection.do_handshake)
        took_s = time.monotonic() - began_at
        is_resumed = bool(SSL._lib.SSL_session_reused(connection._ssl))
        session = None
        if is_complete:
            request = f"GET / HTTP/1.0\r\nHost: {name or 'localhost'}\r\n\r\n".encode()
            _drive(connection, tcp, lambda: connection.send(request))
            _drive(connection, tcp, lambda: connection.recv(_PIECE))
            if (made := connection.get_session()) is not None:
                session = Session(context, made)
        leaf = next(iter(connection.get_peer_cert_chain(as_cryptography=True) or ()), None)
        # A session whose connection ended without close_notify is one that OpenSSL does not offer again.
        with contextlib.suppress(SSL.Error):
            connection.shutdown()
    return Shown(
        staple=next(iter(told.staples), None) or None,  # the callback comes with b"" where none was sent
        alert=next(iter(told.alerts), None),
        is_complete=is_complete,
        is_resumed=is_resumed,
        took_s=took_s,
        serial=leaf and leaf.serial_number,
        session=session,
    )


def _context(tls: TlsVersion | None, kind: Literal["rsa", "ec"] | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(_VERSIONS[tls or "1.2"])
    context.set_max_proto_version(_VERSIONS[tls or "1.3"])
    if kind is not None:  # in TLS 1.3 nothing else chooses between a server's two certificates
        assert SSL._lib.SSL_CTX_set1_sigalgs_list(context._context, _ALGORITHMS[kind])
    context.set_ocsp_client_callback(
        lambda connection, der, _data: connection.get_app_data().staples.append(der) is None
    )
    context.set_info_callback(_on_info)
    return context


class _Told(NamedTuple):
    """What the callbacks of one connection were told."""

    staples: list[bytes]
    alerts: list[int]


def _on_info(connection: SSL.Connection, where: int, ret: int) -> None:
    if where & _READ_ALERT == _READ_ALERT and ret >> 8 == _FATAL and (told := connection.get_app_data()) is not None:
        told.alerts.append(ret & 0xFF)


def _drive(connection: SSL.Connection, tcp: socket.socket, step) -> bool:
    """Until the step is done; whether it was, before the other side ended."""
    while True:
        try:
            step()
            is_done = True
        except SSL.WantReadError:
            is_done = False
        except SSL.Error:
            return False
        with contextlib.suppress(SSL.WantReadError):
            while data := connection.bio_read(_PIECE):
                tcp.sendall(data)
        if is_done:
            return True
        try:
            received = tcp.recv(_PIECE)
        except ConnectionError:
            return False
        if not received:
            return False
        connection.bio_write(received)


def shake_with_extensions(port: int, name: str, extensions: bytes) -> Shown:
    """A TLS 1.2 ClientHello whose status_request has these request extensions (DER), up to the server's Certificate.

    OpenSSL's bindings cannot set them, so they are put into the ClientHello that it wrote; what the server sends before
    the keys change is plain text, and enough.
    """
    context = _context("1.2", None)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    connection.set_tlsext_host_name(name.encode())
    connection.request_ocsp()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    hello = connection.bio_read(_PIECE)
    plain, rich = b"\x00\x05\x00\x05\x01\x00\x00\x00\x00", _status_request(extensions)
    assert hello.count(plain) == 1
    at, more = hello.index(plain), len(rich) - len(plain)
    body = hello[5:at] + rich + hello[at + len(plain) :]
    # Three lengths grow: the handshake message's, that of all extensions, and the record's.
    body = body[:1] + (int.from_bytes(body[1:4]) + more).to_bytes(3) + body[4:]
    begin = _extensions_at(body)
    body = body[:begin] + (int.from_bytes(body[begin : begin + 2]) + more).to_bytes(2) + body[begin + 2 :]
    began_at = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as tcp:
        tcp.sendall(hello[:3] + len(body).to_bytes(2) + body)
        staple, alert, is_complete = _read_plain(tcp)
    return Shown(staple, alert, is_complete, False, time.monotonic() - began_at)


def _status_request(extensions: bytes) -> bytes:
    """RFC 6066 8: type ocsp, no responder IDs, the extensions."""
    content = b"\x01" + b"\x00\x00" + len(extensions).to_bytes(2) + extensions
    return b"\x00\x05" + len(content).to_bytes(2) + content


def _extensions_at(hello: bytes) -> int:
    """Where the length of all extensions stands (RFC 5246 7.4.1.2)."""
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2])
    return at + 1 + hello[at]


def _read_plain(tcp: socket.socket) -> tuple[bytes | None, int | None, bool]:
    """Give the CertificateStatus's response, a fatal alert, and whether ServerHelloDone came."""
    stream = tcp.makefile("rb")
    messages = b""
    staple = None
    while True:
        head = stream.read(5)
        if len(head) < 5:
            return staple, None, False
        content = stream.read(int.from_bytes(head[3:5]))
        if head[0] == 21:
            return staple, content[1], False
        messages += content
        while len(messages) >= 4 and len(messages) >= 4 + int.from_bytes(messages[1:4]):
            kind, message = messages[0], messages[4 : 4 + int.from_bytes(messages[1:4])]
            messages = messages[4 + len(message) :]
            if kind == 22:
                staple = message[4:]
            elif kind == 14:
                return staple, None, True
