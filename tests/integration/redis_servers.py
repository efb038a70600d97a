"""Real Redis and Valkey servers as processes, on loopback: alone, as replica, watched by Sentinels, as a cluster."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from integration.conftest import free_port
from integration.front import wait_until
from lab.servers import require_peer

if TYPE_CHECKING:
    from pathlib import Path


REDIS_AND_VALKEY = ("redis-server", pytest.param("valkey-server", marks=pytest.mark.slow))


@dataclass
class RedisServer:
    """One that runs."""

    port: int
    process: subprocess.Popen
    credentials: tuple[str, ...] = ()
    """Arguments of redis-cli."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cli(self, *arguments: str | bytes) -> str:
        """What redis-cli says; its errors too."""
        done = self._cli(*arguments)
        return (done.stdout + done.stderr).decode("utf-8", "replace").strip()

    def raw(self, *arguments: str | bytes) -> bytes:
        """A value as it is."""
        return self._cli(*arguments).stdout.removesuffix(b"\n")

    def put(self, key: str, value: bytes) -> None:
        """Store bytes, whatever they are."""
        done = self._cli("-x", "SET", key, stdin=value)
        assert done.stdout == b"OK\n", done

    def publish(self, channel: str, message: bytes) -> bytes:
        """Announce bytes, whatever they are; how many have heard it."""
        return self._cli("-x", "PUBLISH", channel, stdin=message).stdout

    def _cli(self, *arguments: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess:
        command = ["redis-cli", "-p", str(self.port), *self.credentials, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=20)

    def keys(self, pattern: str = "*") -> list[str]:
        return self.cli("--scan", "--pattern", pattern).split()

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(20)


@contextlib.contextmanager
def redis_server(
    folder: Path, *options: str, port: int | None = None, cli: tuple[str, ...] = (), program: str = "redis-server"
):
    """Run one without persistence; `cli`: what redis-cli needs to get in. It ends with the block, if it still runs."""
    require_peer(program)
    require_peer("redis-cli")
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    if "--tls-port" not in options:
        options = ("--port", str(port), *options)
    command = [program, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (folder / "redis.log").open("a") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    server = RedisServer(port, process, cli)
    try:
        wait_until(
            lambda: server.cli("PING") == "PONG" or process.poll() is not None, what=(folder / "redis.log").read_text()
        )
        assert process.poll() is None, (folder / "redis.log").read_text()
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
