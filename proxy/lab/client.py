"""A TLS client that asks for the staple and verifies it by itself, then makes one request if told to.

Blocking, one connection a call, one deadline over all of it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import select
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Never, TypeVar

from cryptography import x509
from OpenSSL import SSL, crypto

from proxy.errors import StapleproxyError, StapleRejected
from proxy.lab.certnames import is_address, is_for_name, issuer_of, names_of
from proxy.ocsp.response import Rules, Staple, check
from proxy.tls.offer import SIGNATURE_ALGORITHMS, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.tls.offer import KeyKind, TlsVersion

T = TypeVar("T")

MAX_ANSWER_BYTES = 16 << 20
PIECE_BYTES = 65536

_VERIFY_ERRORS = {
    code: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, code in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_")
}
_NOT_TLS = {"wrong version number", "packet length too long", "http request"}
"""What OpenSSL says when the first bytes are no TLS record."""


class ProbeError(StapleproxyError):
    """No handshake, or no answer: one sentence says why."""


@dataclass(frozen=True, slots=True)
class Resumable:
    """A session, with the context that OpenSSL binds it to."""

    context: SSL.Context
    session: SSL.Session


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one connection showed."""

    tls_version: str
    chain: tuple[x509.Certificate, ...]
    """As the server sent it, the leaf first."""
    issuer: x509.Certificate | None
    """The leaf's issuer, out of the chain or the roots."""
    staple_der: bytes | None
    """None: the server sent no staple. A resumed session has none either."""
    staple: Staple | None
    """What the staple says, if it is good; else `staple_refusal` says why it is not."""
    staple_refusal: str | None
    resumed: bool
    handshake_s: float
    """From the open connection to the end of the handshake."""
    http_status: int | None
    body: bytes
    session: Resumable | None
    """For the next call. TLS 1.3 hands it out after the handshake: make a request, or it does not resume."""

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def probe(
    host: str,
    port: int,
    server_name: str,
    *,
    roots: Iterable[x509.Certificate] | Path | None,
    rules: Rules | None = None,
    tls: TlsVersion | None = None,
    kind: KeyKind | None = None,
    session: Resumable | None = None,
    timeout_s: float = 10,
    request_path: str | None = None,
) -> ProbeResult:
    """Connect, ask for the staple, verify chain, name and staple, and GET `request_path` unless it is None.

    `roots`: trusted certificates, or a PEM file of them; None: the chain and the name are taken as they are.
    `kind` limits the signature algorithms offered, so that a server with two certificates sends that one.
    With `session`, `tls` and `kind` are those of the connection that it comes from, and so is what OpenSSL trusts.
    Raises ProbeError; a bad staple is a result, not an exception.
    """
    deadline_at = time.monotonic() + timeout_s
    sni = _sni(server_name)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    trusted = _certificates(roots)
    context = session.context if session else _context(trusted, tls, kind)
    seen = _Seen([], [])
    with contextlib.closing(_open(host, port, where, deadline_at)) as tcp:
        connection = SSL.Connection(context, tcp)
        connection.set_app_data(seen)
        connection.set_connect_state()
        if sni is not None:
            connection.set_tlsext_host_name(sni)
        connection.request_ocsp()
        if session is not None:
            connection.set_session(session.session)
        started_at = time.monotonic()
        try:
            _drive(connection, connection.do_handshake, deadline_at)
        except (SSL.Error, OSError) as error:
            _fail(f"{where}: the TLS handshake failed", error, seen.refusals)
        handshake_s = time.monotonic() - started_at
        try:
            chain = tuple(connection.get_peer_cert_chain(as_cryptography=True) or ())
        except ValueError as error:
            raise ProbeError(f"{where}: the server sent a certificate that cannot be read: {error}") from error
        if not chain:
            raise ProbeError(f"{where}: the server sent no certificate")
        if trusted is not None and not is_for_name(chain[0], server_name):
            raise ProbeError(f"{where}: the certificate is for {', '.join(names_of(chain[0]))}, not for {server_name}")
        # The callback comes with b"" where the server sent none.
        der = next(iter(seen.staples), None) or None
        issuer = issuer_of(chain[0], (*chain[1:], *(trusted or ())))
        staple, refusal = _verdict(der, chain[0], issuer, rules or Rules())
        status, body = None, b""
        if request_path is not None:
            request = f"GET {request_path} HTTP/1.1\r\nHost: {server_name}\r\nConnection: close\r\n\r\n".encode("ascii")
            try:
                status, body = _exchange(connection, request, deadline_at)
            except (SSL.Error, OSError, http.client.HTTPException) as error:
                _fail(f"{where}: no whole HTTP answer came", error, [])
        new_session = connection.get_session()
        result = ProbeResult(
            tls_version=connection.get_protocol_version_name(),
            chain=chain,
            issuer=issuer,
            staple_der=der,
            staple=staple,
            staple_refusal=refusal,
            resumed=_is_resumed(connection),
            handshake_s=handshake_s,
            http_status=status,
            body=body,
            session=Resumable(context, new_session) if new_session else None,
        )
        with contextlib.suppress(SSL.Error, OSError):  # the server may be gone already
            connection.shutdown()
        return result


def _certificates(roots: Iterable[x509.Certificate] | Path | None) -> tuple[x509.Certificate, ...] | None:
    if roots is None:
        return None
    if isinstance(roots, Path):
        return tuple(x509.load_pem_x509_certificates(roots.read_bytes()))
    return tuple(roots)


def _context(
    trusted: tuple[x509.Certificate, ...] | None,
    tls: TlsVersion | None,
    kind: KeyKind | None,
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(VERSIONS[tls or "1.2"])
    context.set_max_proto_version(VERSIONS[tls or "1.3"])
    if trusted is not None:
        store = context.get_cert_store()
        assert store is not None  # a new Context has one
        for certificate in trusted:
            store.add_cert(crypto.X509.from_cryptography(certificate))

        context.set_verify(SSL.VERIFY_PEER, _on_verified)
    if kind is not None:
        _limit_signature_algorithms(context, SIGNATURE_ALGORITHMS[kind])
    context.set_ocsp_client_callback(_on_staple)
    return context


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the callbacks of one connection were told."""

    staples: list[bytes]
    refusals: list[str]


def _on_staple(connection: SSL.Connection, der: bytes, _data: object) -> bool:
    connection.get_app_data().staples.append(der)
    return True


def _on_verified(connection: SSL.Connection, _certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    # OpenSSL tells the reason here only: its exception says no more than "certificate verify failed".
    if not ok:
        why = f"{_VERIFY_ERRORS.get(code, f'error {code}')} (certificate {depth} of the chain)"
        connection.get_app_data().refusals.append(why)
    return bool(ok)


def _limit_signature_algorithms(context: SSL.Context, algorithms: str) -> None:
    # pyOpenSSL has no public setter, and in TLS 1.3 nothing else chooses between a server's two certificates.
    done = SSL._lib.SSL_CTX_set1_sigalgs_list(context._context, algorithms.encode())  # type: ignore[attr-defined]  # noqa: SLF001 (private, see above)
    if not done:
        raise ProbeError(f"this OpenSSL does not know the signature algorithms {algorithms}")


def _is_resumed(connection: SSL.Connection) -> bool:
    # pyOpenSSL has no public name for this either.
    return bool(SSL._lib.SSL_session_reused(connection._ssl))  # type: ignore[attr-defined]  # noqa: SLF001 (private, see above)


def _sni(server_name: str) -> bytes | None:
    if is_address(server_name):  # RFC 6066 3: an address is no server name
        return None
    try:
        return server_name.encode("idna")
    except UnicodeError as error:
        raise ProbeError(f"{server_name!r} is not a host name") from error


def _open(host: str, port: int, where: str, deadline_at: float) -> socket.socket:
    try:
        tcp = socket.create_connection((host, port), timeout=max(deadline_at - time.monotonic(), 0.001))
    except socket.gaierror as error:
        raise ProbeError(f"{where}: the name {host} has no address ({error.strerror})") from error
    except TimeoutError as error:
        raise ProbeError(f"{where}: no connection within the time allowed") from error
    except UnicodeError as error:
        raise ProbeError(f"{where}: {host!r} is not a host name") from error
    except OSError as error:
        raise ProbeError(f"{where}: cannot connect ({error.strerror or error})") from error
    tcp.setblocking(False)  # so that each wait is ours, with what is left of the deadline
    return tcp


def _drive(connection: SSL.Connection, operation: Callable[[], T], deadline_at: float) -> T:
    """Call again until OpenSSL wants nothing from the socket."""
    while True:
        try:
            return operation()
        except SSL.WantReadError:
            wanted = select.POLLIN
        except SSL.WantWriteError:
            wanted = select.POLLOUT
        poll = select.poll()  # not select(): that one knows no descriptor above 1023
        poll.register(connection.fileno(), wanted)
        if not poll.poll(max(deadline_at - time.monotonic(), 0) * 1000):
            raise TimeoutError("the time allowed is over")


def _exchange(connection: SSL.Connection, request: bytes, deadline_at: float) -> tuple[int, bytes]:
    while request:
        request = request[_drive(connection, functools.partial(connection.send, request), deadline_at) :]
    answer = io.BytesIO()
    with contextlib.suppress(SSL.ZeroReturnError):  # the server's close_notify: all was said
        while answer.tell() < MAX_ANSWER_BYTES:
            answer.write(_drive(connection, functools.partial(connection.recv, PIECE_BYTES), deadline_at))
    response = http.client.HTTPResponse(_Recorded(answer.getvalue()), method="GET")  # type: ignore[arg-type]  # makefile is all it calls
    response.begin()
    return response.status, response.read()


class _Recorded:
    """What `http.client` needs of a socket, over bytes that are here already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _verdict(
    der: bytes | None, leaf: x509.Certificate, issuer: x509.Certificate | None, rules: Rules
) -> tuple[Staple | None, str | None]:
    if der is None:
        return None, "no staple was sent"
    if issuer is None:
        return None, "the issuer, which must have signed the staple or its signer, is not in the chain"
    try:
        return check(der, leaf=leaf, issuer=issuer, now=datetime.now(UTC), rules=rules), None
    except StapleRejected as error:
        return None, str(error)


def _fail(what: str, error: Exception, refusals: list[str]) -> Never:
    if refusals:
        why = f"the chain does not lead to a trusted root: {refusals[0]}"
    elif isinstance(error, SSL.SysCallError):
        why = str(error.args[-1])
    elif isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args else ()
        why = reasons[0][-1] if reasons else "the server closed the connection"
        if why in _NOT_TLS:
            why = "what answers there does not speak TLS"
    else:
        why = str(error)
    raise ProbeError(f"{what} ({why})") from error
