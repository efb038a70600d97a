"""Talk to a proxy's admin socket."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: Path, target: str, method: str = "GET") -> tuple[int, str]:
    """One request; status and body."""
    status, body = _ask(path, target, method)
    return status, body.decode()


def ask_bytes(path: Path, target: str) -> bytes:
    """The body of what is no text."""
    return _ask(path, target, "GET")[1]


def _ask(path: Path, target: str, method: str) -> tuple[int, bytes]:
    connection = _UnixConnection(path)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def staples(path: Path) -> dict[str, dict]:
    """What is told of each certificate, by its first name."""
    _, text = ask(path, "/api/staples")
    return {each["names"][0]: each for each in json.loads(text)["staples"]}
