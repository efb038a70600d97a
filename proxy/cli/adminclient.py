"""Ask a running stapleproxy over its admin socket."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

from proxy.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 << 20
"""Of 100,000 certificates, a kilobyte each is far below."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str, method: str = "GET") -> dict[str, object]:
    """Make one request and give the answer's JSON; StartError says why there is none, or what the keeper refused."""
    connection = _UnixConnection(path)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        document = json.loads(answer.read(MAX_ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise StartError(f"admin.socket {path}: {why}: is stapleproxy running with this configuration?") from error
    finally:
        connection.close()
    if not isinstance(document, dict):
        raise StartError(f"admin.socket {path}: what answers there is no stapleproxy")
    if answer.status >= http.client.BAD_REQUEST:
        raise StartError(f"admin.socket {path}: {document.get('error', answer.reason)}")
    return document
