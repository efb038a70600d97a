"""A real redis-server as a process, what it says of its own work, and subscribers that only read."""

from __future__ import annotations

import contextlib
import selectors
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from proxy.redisdoor import Credentials, RedisDoor
from proxy.settings.caching import parse_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_WITHIN_S = 10.0
_HEARD_WITHIN_S = 60.0
_POLL_INTERVAL_S = 0.02
_READ_BYTES = 1 << 20


class MissingError(Exception):
    """redis-server, or what comes with it, is not there."""


class Work(NamedTuple):
    """What a server has done."""

    cpu_s: float
    bytes_in: int
    bytes_out: int
    memory_bytes: int

    def since(self, before: Work) -> Work:
        return Work(
            self.cpu_s - before.cpu_s,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
            self.memory_bytes - before.memory_bytes,
        )


class RedisProcess:
    """A running one, on loopback."""

    def __init__(self, port: int, version: str) -> None:
        self.port = port
        self.version = version
        self.client = Redis(port=port)

    def work(self) -> Work:
        said = self.client.info("all")
        assert isinstance(said, dict)
        cpu_s = said["used_cpu_user_main_thread"] + said["used_cpu_sys_main_thread"]
        return Work(cpu_s, said["total_net_input_bytes"], said["total_net_output_bytes"], said["used_memory"])

    def connections(self) -> int:
        """All that it has, this client's own too."""
        said = self.client.info("clients")
        assert isinstance(said, dict)
        return int(said["connected_clients"])

    def most_connections(self) -> int:
        said = self.client.config_get("maxclients")
        assert isinstance(said, dict)
        return int(said["maxclients"] or 0)

    def door(self, timeout_s: float = 30.0) -> RedisDoor:
        servers = parse_redis(f"redis://127.0.0.1:{self.port}")
        return RedisDoor(servers, "stapleproxy:", Credentials(), Credentials(), None, None, False, timeout_s)


@contextlib.contextmanager
def redis_process(folder: Path) -> Iterator[RedisProcess]:
    """Run one without persistence, and with room for the sockets of many machines."""
    program = shutil.which("redis-server")
    if program is None or shutil.which("redis-benchmark") is None:
        raise MissingError("redis-server and redis-benchmark are not installed; on Debian: apt install redis-server")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            server = RedisProcess(port, said.split("v=", 1)[1].split()[0])
            give_up_at = time.monotonic() + READY_WITHIN_S
            while True:
                with contextlib.suppress(RedisConnectionError):
                    server.client.ping()
                    break
                if process.poll() is not None or time.monotonic() > give_up_at:
                    raise MissingError("redis-server does not start")
                time.sleep(_POLL_INTERVAL_S)
            yield server
        finally:
            process.terminate()


class Subscribers:
    """Sockets that are subscribed to a channel. They read bytes and understand nothing: it costs least."""

    def __init__(self, port: int, channel: str, number: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
        confirmed = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(channel), channel.encode())
        for each in self._sockets:
            each.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(channel), channel.encode()))
            self._selector.register(each, selectors.EVENT_READ)
        self.wait_for(len(confirmed))

    def wait_for(self, size: int) -> None:
        """Read so many bytes from each."""
        left = dict.fromkeys(self._sockets, size)
        give_up_at = time.monotonic() + _HEARD_WITHIN_S
        while left:
            if time.monotonic() > give_up_at:
                raise MissingError(f"{len(left)} of {len(self._sockets)} subscribers did not hear an announcement")
            for key, _ in self._selector.select(1.0):
                each = key.fileobj
                assert isinstance(each, socket.socket)
                left[each] -= len(each.recv(_READ_BYTES))
                if not left[each]:
                    del left[each]

    def close(self) -> None:
        self._selector.close()
        for each in self._sockets:
            each.close()
