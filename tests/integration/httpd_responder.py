"""A responder for the profiles that are as Apache: it says what a test wants, and counts."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integration.conftest import Lab

PATIENCE_S = 20.0


@dataclass
class Scripted:
    """Answers each question with `say(request)`, an OCSPResponse, after `delay_s` and when `gate` is open."""

    sock: socket.socket
    say: Callable[[ocsp.OCSPRequest], bytes]
    delay_s: float = 0.0
    gate: threading.Event = field(default_factory=threading.Event)
    requests: list[bytes] = field(default_factory=list)
    status: bytes = b"200 OK"

    @property
    def port(self) -> int:
        return self.sock.getsockname()[1]

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.sock.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        data = b""
        with connection, contextlib.suppress(OSError):
            while not (found := re.search(rb"Content-Length: (\d+)\r\n\r\n", data)) or len(data) < found.end() + int(
                found[1]
            ):
                data += connection.recv(65_536)
            self.requests.append(data)
            self.gate.wait(PATIENCE_S)
            time.sleep(self.delay_s)
            answer = self.say(ocsp.load_der_ocsp_request(data[found.end() :]))
            connection.sendall(b"HTTP/1.0 " + self.status + b"\r\n\r\n" + answer)


@contextlib.contextmanager
def scripted(port: int, say: Callable[[ocsp.OCSPRequest], bytes]) -> Iterator[Scripted]:
    """Run one on a port of loopback for the time of the block; its gate is open."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as sock:
        responder = Scripted(sock, say)
        responder.gate.set()
        threading.Thread(target=responder.serve, daemon=True).start()
        yield responder
        responder.gate.set()
        sock.shutdown(socket.SHUT_RDWR)


def says_good(lab: Lab, *chains: Path, lasts: timedelta = timedelta(hours=1)) -> Callable[[ocsp.OCSPRequest], bytes]:
    """Say good of these certificates, each time anew."""
    key = lab.ca.intermediate.key
    pairs = [x509.load_pem_x509_certificates(chain.read_bytes())[:2] for chain in chains]

    def say(request: ocsp.OCSPRequest) -> bytes:
        leaf, issuer = next(pair for pair in pairs if pair[0].serial_number == request.serial_number)
        now = datetime.now(UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            leaf,
            issuer,
            request.hash_algorithm,
            ocsp.OCSPCertStatus.GOOD,
            now - timedelta(hours=1),
            now + lasts,
            None,
            None,
        )
        signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer).sign(key, SHA256())
        return signed.public_bytes(Encoding.DER)

    return say
