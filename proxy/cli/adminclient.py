"""Ask a running stapleproxy over its admin socket."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import StapleproxyError, StartError
from proxy.log_lines import printable

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import WriteableBuffer

TIMEOUT_S = 10.0
"""Of a whole exchange."""
MAX_ANSWER_BYTES = 64 << 20
"""Of 100,000 certificates, a kilobyte each is far below."""
_CHUNK_BYTES = 1 << 16

_SENTENCES = {
    errno.ENOENT: "No such file or directory: is stapleproxy running with this configuration?",
    errno.ECONNREFUSED: "nobody listens there: is stapleproxy running with this configuration?",
    errno.EACCES: "permission denied: only the user that it runs as may open it, and root",
    errno.ENOTSOCK: "this is no socket",
    errno.EPROTOTYPE: "this socket is another program's",
}


class NotAnsweredError(StartError):
    """Nobody answers, or what answers is no stapleproxy. While another keeper takes over it is so for a moment."""


class RefusedError(StapleproxyError):
    """It was understood, and refused: the HTTP status, and what was said."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


class Answer(NamedTuple):
    """One answer, whole."""

    status: int
    reason: str
    body: bytes


class _HurriedSocket(socket.socket):
    """Reads until `end`, however little comes at a time: http.client would read a trickling head for days."""

    def __init__(self, end: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._end = end

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:  # what makefile() reads by
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.settimeout(left_s)
        return super().recv_into(buffer, nbytes, flags)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("admin", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        assert self.timeout is not None  # it was given
        self.sock = _HurriedSocket(time.monotonic() + self.timeout)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(
    path: Path, target: str, method: str = "GET", body: bytes | None = None, *, timeout_s: float = TIMEOUT_S
) -> Answer:
    """Make one request, `body` is DER; raises NotAnsweredError."""
    connection = _UnixConnection(path, timeout_s)
    try:
        media_type = "application/json" if body is None else "application/ocsp-response"
        connection.request(method, target, body, {"Connection": "close", "Content-Type": media_type})
        answer = connection.getresponse()
        received = bytearray()
        while chunk := answer.read1(_CHUNK_BYTES):
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                raise NotAnsweredError(f"admin.socket {path}: the answer is too long")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotAnsweredError(f"admin.socket {path}: {_why(error, timeout_s)}") from error
    finally:
        connection.close()
    return Answer(answer.status, answer.reason, bytes(received))


def ask(
    path: Path, target: str, method: str = "GET", body: bytes | None = None, *, timeout_s: float = TIMEOUT_S
) -> dict[str, object]:
    """Make one request and give the answer's JSON; raises NotAnsweredError, or RefusedError with the keeper's word."""
    answer = exchange(path, target, method, body, timeout_s=timeout_s)
    document = _document(path, answer.body)
    _check(path, answer, document)
    return document


def fetch(path: Path, target: str) -> bytes:
    """Get what is no JSON; raises as `ask` does."""
    answer = exchange(path, target)
    if answer.status >= http.client.BAD_REQUEST:
        _check(path, answer, _document(path, answer.body))
    return answer.body


def _document(path: Path, body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise NotAnsweredError(f"admin.socket {path}: what answers there is no stapleproxy")
    return document


def _check(path: Path, answer: Answer, document: dict[str, object]) -> None:
    if answer.status >= http.client.BAD_REQUEST:
        what = [f"admin.socket {path}", document.get("reason"), document.get("error", answer.reason)]
        raise RefusedError(answer.status, printable(": ".join(str(each) for each in what if each)))


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, OSError):
        return _SENTENCES.get(error.errno or 0) or error.strerror or str(error)
    return f"what answers there is no stapleproxy ({type(error).__name__})"
