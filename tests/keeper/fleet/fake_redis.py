"""A server that speaks Redis' protocol, and says to each command what the test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.keeper.fleet import scripts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCRIPTS = {
    scripts.digest(each): name
    for name, each in (
        ("TURN", scripts.TURN),
        ("PUT", scripts.PUT),
        ("EXTEND", scripts.EXTEND),
        ("RELEASE", scripts.RELEASE),
    )
}
Answer = bytes | Callable[[asyncio.StreamWriter, list[bytes]], Awaitable[None]]


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(*values: bytes | int) -> bytes:
    parts = (b":%d\r\n" % each if isinstance(each, int) else bulk(each) for each in values)
    return b"*%d\r\n%b" % (len(values), b"".join(parts))


def announcement(channel: bytes, text: bytes) -> bytes:
    return array(b"message", channel, text)


def honest(words: list[bytes], name: str) -> bytes:
    """What an empty server says, to the commands that come here."""
    match name:
        case "SUBSCRIBE":
            return array(b"subscribe", words[1], 1)
        case "PING":
            return array(b"pong", b"")
        case "GETRANGE":
            return bulk(b"")
        case "TURN":  # the last but one says whether the lock is wanted
            return array(b"free" if words[-2] == b"0" else b"ours", 0)
        case "PUT":
            return array(b"stored", 1)
        case "EXTEND" | "RELEASE":
            return b":1\r\n"
    return b"+OK\r\n"


@dataclass
class FakeRedis:
    """`says` has what is said otherwise: to a command, to one of our scripts by its name, or to ALL."""

    says: dict[str, Answer] = field(default_factory=dict)
    port: int = 0
    heard: Counter[str] = field(default_factory=Counter)
    listeners: list[asyncio.StreamWriter] = field(default_factory=list)
    channel: bytes = b""
    open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)
    """Connections."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.open[task] = writer
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            del self.open[task]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while words := await _command(reader):
                name = words[0].decode().upper()
                if name in {"EVALSHA", "EVAL"}:
                    name = SCRIPTS.get(words[1].decode(), "EVAL")
                self.heard[name] += 1
                said = self.says.get(name, self.says.get("ALL"))
                if said is None:
                    said = honest(words, name)
                if callable(said):
                    await said(writer, words)
                else:
                    writer.write(said)
                    await writer.drain()
                if name == "SUBSCRIBE":
                    self.channel = words[1]
                    self.listeners.append(writer)


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    line = await reader.readline()
    if not line:
        return []
    words = []
    for _ in range(int(line[1:])):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


@contextlib.asynccontextmanager
async def fake_redis(says: dict[str, Answer] | None = None) -> AsyncIterator[FakeRedis]:
    """Run it for the time of the block."""
    fake = FakeRedis(dict(says or {}))
    server = await asyncio.start_server(fake, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        tasks = list(fake.open)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
