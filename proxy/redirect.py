"""The port without TLS: it sends everybody to https, and shows the files by which a CA sees that the host is ours.

It proxies nothing, so it knows little: one request a connection, of which only the request line and Host are looked at,
and one short answer, which `redirect_answer` decides.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, cast

from proxy.counters_layout import REDIRECT_CONNECTIONS
from proxy.http.date import http_date
from proxy.proxyprotocol import Endpoint
from proxy.redirect_answer import END_OF_HEAD, Answer, decide, read, write

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.accepting import Door
    from proxy.accesslog.trail import AccessLog
    from proxy.counters import WorkerCounts
    from proxy.deadlines import Deadlines
    from proxy.redirect_answer import Request
    from proxy.settings.http import HttpSettings
    from proxy.settings.modes import RedirectSettings

_MAX_FILE_BYTES = 4_096
"""What belongs there is a token, a dot and a hash: some ninety bytes."""
_LINGER_S = 5.0


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
        "_access_log",
        "_counts",
        "_deadlines",
        "_door",
        "_endpoints",
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
        access_log: AccessLog | None = None,
        counts: WorkerCounts | None = None,
    ) -> None:
        self._door = door
        self._access_log = access_log
        self._counts = counts
        self._endpoints = (Endpoint("", 0), Endpoint("", 0))
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
        if self._counts is not None:
            self._counts.words[REDIRECT_CONNECTIONS] += 1
        # uvloop has no name for a peer that was gone before we looked.
        names = [transport.get_extra_info(name) or ("", 0) for name in ("peername", "sockname")]
        peer, own = (Endpoint(*name[:2]) for name in names)
        self._endpoints = (peer, own)
        if self._door is not None and not self._door.admit(peer.host):
            self._raw.abort()
        else:
            self._host = peer.host

    def data_received(self, data: bytes) -> None:
        if self._is_answered:  # a body, or a request more: read, so that closing does not destroy the answer
            return
        searched = max(0, len(self._head) - len(END_OF_HEAD))
        self._head += data
        end = self._head.find(END_OF_HEAD, searched) + len(END_OF_HEAD)
        limit = self._http.max_head_bytes
        if (end if end >= len(END_OF_HEAD) else len(self._head)) > limit:
            self._answer(None, Answer(431, f"the head is over {limit} bytes"))
        elif end >= len(END_OF_HEAD):
            request = read(bytes(self._head[:end]))
            self._answer(request, decide(request, self._settings))

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
            self._answer(None, Answer(408, "the request took too long"))

    def drain(self) -> None:
        """End at once: who has not asked yet may ask another worker."""
        if not self._is_answered:
            self._raw.abort()

    def retire(self) -> None:
        """Go on: it is one request in any case, and there is not long for it."""

    def abort(self) -> None:
        self._raw.abort()

    def _answer(self, request: Request | None, answer: Answer) -> None:
        content = b""
        if answer.token:
            assert self._settings.acme_folder is not None  # else nothing is decided so
            found = read_challenge(self._settings.acme_folder, answer.token)
            if found is None:
                answer = Answer(404, "there is no such file", is_head=answer.is_head)
            content = found or b""
        data = write(answer, content, http_date().decode())
        self._tell(request, answer.status, data)
        self._is_answered = True
        self._head.clear()
        self.deadline_at = self._loop.time() + _LINGER_S
        self._raw.write(data)
        self._raw.write_eof()

    def _tell(self, request: Request | None, status: int, data: bytes) -> None:
        """Count it, and write the access log's line."""
        if self._counts is not None:
            self._counts.redirected(status)
        if self._access_log is None:
            return
        trail = self._access_log.follow_plain()
        trail.connected(self._endpoints)
        entry = trail.begin(request, self._loop.time)
        entry.add_refusal(status, data)
        entry.sent_bytes = len(data)
        entry.is_whole = True  # so small an answer is the kernel's at once
        trail.end(entry, len(self._head))
