"""The HTTP client of Apache's mod_ssl towards responders, with all that it does not know.

HTTP/1.0, one POST a connection; the time limit is for each connect, each sending and each receiving by itself, so that
a trickle may last. Of the answer only the status counts; the body goes on until the responder closes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never, TypeVar
from urllib.parse import urlsplit

from proxy.keeper.resolver import Resolver
from proxy.ocsp.httpd_check import read
from proxy.ocsp.httpd_request import http_request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiohttp.abc import AbstractResolver

    from proxy.ocsp.httpd_check import Response
    from proxy.ocsp.httpd_notes import Note
    from proxy.ocsp.httpd_request import Target

T = TypeVar("T")

MAX_BODY_BYTES = 2 << 20
MAX_HEADER_LINES = 256
"""With so many it is over, the empty one at the end counted."""
LINE_BYTES = 8192
"""A line without end may have so many, and what has come with them."""
RECEIVE_BYTES = 8000
"""Apache reads so many at a time, and writes a line in the log for each."""

_STATUS = re.compile(rb"[ \t\v\f\r\n]*(\+?[0-9]+)")  # what atoi takes
_OK = range(200, 300)


class NoAnswerError(Exception):
    """Nothing that can be used came; what the log is told has been told."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a site's responders are reached."""

    timeout_s: int
    """For each step; 0: the first fails."""
    proxy: str | None
    """URL of an HTTP proxy."""


class HttpdFetcher:
    """Asks responders. `tell` is given each line of the log as it is due."""

    def __init__(self, tell: Callable[[Note], None], resolver: AbstractResolver | None = None) -> None:
        self._tell = tell
        self._resolver = resolver or Resolver()
        self._loop = asyncio.get_running_loop()

    async def fetch(self, target: Target, request: bytes, way: Way) -> Response:
        """Send an OCSPRequest; what came back, as far as it is an OCSPResponse. Raises NoAnswerError."""
        exchange = await self._connect(target, way)
        try:
            return await exchange.run(http_request(target, request, by_proxy=way.proxy is not None), target.shown)
        finally:
            exchange.close()

    async def _connect(self, target: Target, way: Way) -> _Exchange:
        what, host, port, shown = "responder", target.host, target.port, target.shown
        if way.proxy is not None:
            # Without a port it is port 0, and never a connection.
            parts = urlsplit(way.proxy)
            what, host, port, shown = "proxy", parts.hostname or "", parts.port or 0, parts.netloc.rpartition("@")[2]
        try:
            if host == "" or "\0" in (host or ""):  # of the second getaddrinfo says nothing that is an OSError
                raise OSError
            addresses = await self._resolver.resolve("localhost" if host is None else host, port)
        except OSError:
            self._fail(1972, what, shown)
        self._tell((1973, what, shown))
        for address in addresses:
            try:
                sock = socket.socket(address["family"], socket.SOCK_STREAM)
            except OSError:  # no such kind of address here, or no descriptor is left
                continue
            sock.setblocking(False)
            exchange = _Exchange(sock, way.timeout_s, self._tell, self._loop)
            try:
                await exchange.limited(self._loop.sock_connect(sock, (address["host"], port)))
            except OSError:
                exchange.close()
            except BaseException:
                exchange.close()
                raise
            else:
                return exchange
        return self._fail(1974, what, shown)

    def _fail(self, number: int, *details: object) -> Never:
        self._tell((number, *details))
        raise NoAnswerError


class _Exchange:
    """One connection."""

    def __init__(
        self,
        sock: socket.socket,
        timeout_s: int,
        tell: Callable[[Note], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._tell = tell
        self._loop = loop
        self._came = b""
        """Received and not yet taken."""

    def close(self) -> None:
        self._sock.close()

    async def limited(self, step: Coroutine[None, None, T]) -> T:
        """Do one step within the time for it; TimeoutError is an OSError."""
        if not self._timeout_s:
            step.close()
            raise TimeoutError
        async with asyncio.timeout(self._timeout_s):
            return await step

    async def run(self, request: bytes, shown: str) -> Response:
        """Send the request, and read the answer to its end. Raises NoAnswerError."""
        self._tell((1975,))
        try:
            while request:
                sent = await self.limited(self._send(request))
                request = request[sent:]
        except OSError:
            self._fail(1976, shown)
        status = await self._line()
        if not _is_good(status):
            _, _, what = (status or b"").partition(b" ")
            if status is None or (status.startswith(b"HTTP/") and b" " not in status):
                what = b"(none)"
            elif not status.startswith(b"HTTP/"):
                what = status
            self._fail(1980, _text(what))
        await self._skip_head()
        response = read(await self._body())
        if response is None:
            self._fail(1988)
        return response

    async def _skip_head(self) -> None:
        for number in range(MAX_HEADER_LINES):
            line = await self._line()
            if line is None:
                self._fail(1983)
            if not line:
                return
            if number + 1 < MAX_HEADER_LINES:  # that one is not told any more
                self._tell((1981, _text(line)))
        self._fail(1982, MAX_HEADER_LINES)

    async def _line(self) -> bytes | None:
        """Read a line, without its end; None: there is none, and the log has been told."""
        line = b""
        while len(line) < LINE_BYTES:
            if not self._came:
                try:
                    self._came = await self._receive()
                except OSError as error:
                    self._tell((1977, _reason(error)))
                    return None
            if not self._came:
                break
            head, end, rest = self._came.partition(b"\n")
            line, self._came = line + head + end, rest
            if end:
                return line.removesuffix(b"\n").removesuffix(b"\r")
        self._tell((1979,) if line else (2321,))
        return None

    async def _body(self) -> bytes:
        pieces: list[bytes] = []
        count = 0
        while True:
            if not self._came:
                try:
                    self._came = await self._receive()
                except OSError as error:
                    self._fail(1985, _reason(error))
            if not self._came:
                return b"".join(pieces)
            count += len(self._came)
            if count > MAX_BODY_BYTES:
                self._fail(1986, MAX_BODY_BYTES)
            self._tell((1987, len(self._came), count))
            pieces.append(self._came)
            self._came = b""

    async def _receive(self) -> bytes:
        return await self.limited(self._loop.sock_recv(self._sock, RECEIVE_BYTES))

    async def _send(self, data: bytes) -> int:
        """Send what the kernel takes at once, as each of Apache's sendings does; wait until it takes anything."""
        while True:
            try:
                return self._sock.send(data)
            except BlockingIOError:
                await _writable(self._sock, self._loop)

    def _fail(self, number: int, *details: object) -> Never:
        self._tell((number, *details))
        raise NoAnswerError


async def _writable(sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)


def _is_good(status: bytes | None) -> bool:
    if status is None or not status.startswith(b"HTTP/"):
        return False
    number = _STATUS.match(status.partition(b" ")[2])
    return number is not None and int(number[1][:20]) in _OK


def _text(line: bytes) -> str:
    return line.decode("latin-1")


def _reason(error: OSError) -> str:
    return "it took too long" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
