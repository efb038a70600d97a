"""The port without TLS: it sends everybody to https, and shows the files by which a CA sees that the host is ours.

It proxies nothing, so it knows little: one request a connection, of which only the request line and Host are looked at,
and one short answer. `decide` is pure; `Redirector` is the connection.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, cast

from proxy.names import host_name

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.accepting import Door
    from proxy.deadlines import Deadlines
    from proxy.settings.http import HttpSettings
    from proxy.settings.modes import RedirectSettings

_CHALLENGES = "/.well-known/acme-challenge/"  # RFC 8555 8.3
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_FILE_BYTES = 4_096
"""What belongs there is a token, a dot and a hash: some ninety bytes."""
_LINGER_S = 5.0

_END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?]*)([^#]*)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")

_REASONS = {
    200: "OK",
    301: "Moved Permanently",
    308: "Permanent Redirect",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to one request."""

    status: int
    text: str = ""
    location: str = ""
    token: str = ""
    """The name of the file that is to be shown, if it is there."""
    is_head: bool = False


def decide(head: bytes, settings: RedirectSettings) -> Answer:
    """Judge a request by its head, which ends with the empty line."""
    request_line, *lines = head.removesuffix(_END_OF_HEAD).decode("latin-1").split("\r\n")
    request, fields = _REQUEST_LINE.fullmatch(request_line), [_FIELD.fullmatch(line) for line in lines]
    hosts = [field[2].rstrip(" \t") for field in fields if field and field[1].lower() == "host"]
    if request is None or not all(fields) or len(hosts) > 1:
        return Answer(400, "this is no request in HTTP/1.1")
    method, target = request.groups()
    is_head = method == "HEAD"
    if absolute := _ABSOLUTE.fullmatch(target):
        # RFC 9112 3.2.2: its authority goes before Host.
        hosts, target = [absolute[1]], absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
    if not target.startswith("/") or "#" in target:
        return Answer(400, "the target is no path", is_head=is_head)
    host = usable_host(hosts[0]) if hosts else None
    if host is None:
        return Answer(400, "Host is missing, or is no host name", is_head=is_head)
    if settings.acme_folder is not None and target.startswith(_CHALLENGES):
        token = target.removeprefix(_CHALLENGES)
        if _TOKEN.fullmatch(token) is None:
            return Answer(404, "there is no such file", is_head=is_head)
        if method not in {"GET", "HEAD"}:
            return Answer(405, "only GET and HEAD", is_head=is_head)
        return Answer(200, token=token, is_head=is_head)
    port = "" if settings.https_port == 443 else f":{settings.https_port}"
    return Answer(settings.status, "it is on https", location=f"https://{host}{port}{target}", is_head=is_head)


def usable_host(text: str) -> str | None:
    """Give the host of a Host header without its port; None: it is none that a URL could have."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    try:
        if match[1].startswith("["):
            return f"[{IPv6Address(match[1][1:-1])}]"
        return host_name(match[1])
    except (AddressValueError, ValueError):
        return None


def write(answer: Answer, content: bytes = b"") -> bytes:
    """Put an answer in bytes; `content` is that of the file."""
    reason = f"{answer.status} {_REASONS[answer.status]}"
    kind, body = ("text/plain; charset=utf-8", f"{reason}: {answer.text}\n".encode())
    if answer.status == 200:
        kind, body = "application/octet-stream", content
    lines = [f"HTTP/1.1 {reason}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    if answer.location:
        lines.append(f"Location: {answer.location}")
    if answer.status == 405:
        lines.append("Allow: GET, HEAD")  # RFC 9110 15.5.6
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if answer.is_head else body)


PLAIN_HTTP = write(Answer(400, "the plain HTTP request was sent to an HTTPS port"))
"""For who speaks HTTP where TLS belongs."""


def read_challenge(folder: Path, token: str) -> bytes | None:
    """Read a file that is to be shown; None: it is not there, or not a small regular file of this folder."""
    try:
        # Not through a link; and not waiting for whoever writes into a pipe.
        fd = os.open(folder / token, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = os.read(fd, _MAX_FILE_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(fd)
    return content if len(content) <= _MAX_FILE_BYTES else None


class Redirector(asyncio.Protocol):
    """One connection: a head within its limits, the answer, the end."""

    __slots__ = (
        "_deadlines",
        "_door",
        "_head",
        "_host",
        "_http",
        "_is_answered",
        "_loop",
        "_raw",
        "_settings",
        "deadline_at",
    )

    def __init__(
        self,
        settings: RedirectSettings,
        http: HttpSettings,
        deadlines: Deadlines,
        loop: asyncio.AbstractEventLoop,
        door: Door | None = None,
    ) -> None:
        self._door = door
        self._host: str | None = None  # None: there was no room for it
        self._settings = settings
        self._http = http
        self._deadlines = deadlines
        self._loop = loop
        self._raw = cast("asyncio.Transport", None)  # set by the first thing that ever happens, connection_made
        self._head = bytearray()
        self._is_answered = False
        self.deadline_at = loop.time() + http.head_timeout_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._deadlines.add(self)
        peer = transport.get_extra_info("peername")
        host: str = peer[0] if peer else ""
        if self._door is not None and not self._door.admit(host):
            self._raw.abort()
        else:
            self._host = host

    def data_received(self, data: bytes) -> None:
        if self._is_answered:  # a body, or a request more: read, so that closing does not destroy the answer
            return
        searched = max(0, len(self._head) - len(_END_OF_HEAD))
        self._head += data
        end = self._head.find(_END_OF_HEAD, searched) + len(_END_OF_HEAD)
        limit = self._http.max_head_bytes
        if (end if end >= len(_END_OF_HEAD) else len(self._head)) > limit:
            self._answer(Answer(431, f"the head is over {limit} bytes"))
        elif end >= len(_END_OF_HEAD):
            self._answer(decide(bytes(self._head[:end]), self._settings))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._deadlines.discard(self)
        if self._door is not None and self._host is not None:
            self._door.leave(self._host)

    def on_deadline(self) -> None:
        if self._is_answered or not self._head:
            self._raw.abort()
        else:
            self._answer(Answer(408, "the request took too long"))

    def drain(self) -> None:
        """End at once: who has not asked yet may ask another worker."""
        if not self._is_answered:
            self._raw.abort()

    def abort(self) -> None:
        self._raw.abort()

    def _answer(self, answer: Answer) -> None:
        content = b""
        if answer.token:
            assert self._settings.acme_folder is not None  # else nothing is decided so
            found = read_challenge(self._settings.acme_folder, answer.token)
            if found is None:
                answer = Answer(404, "there is no such file", is_head=answer.is_head)
            content = found or b""
        self._is_answered = True
        self._head.clear()
        self.deadline_at = self._loop.time() + _LINGER_S
        self._raw.write(write(answer, content))
        self._raw.write_eof()
