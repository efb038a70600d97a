"""The proxy as a service: what a service manager gives it and is told by it, and users that it can become."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from integration.front import READY_WITHIN_S, Front, children_of, wait_until

ROOT = Path(__file__).parents[2]
USER = "nobody"

_ACTIVATE = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
away = [os.dup2(fd, 200 + number) for number, fd in enumerate(fds)]
for number, fd in enumerate(away):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(fds))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does between fork and exec: the sockets are 3, 4 …, and the variables have the process' number."""


class ServiceManager:
    """Listens at NOTIFY_SOCKET; keeps each message as a dict, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(address.replace("@", "\0"))
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while message := self._sock.recv(4096):
            self.messages.append(dict(line.partition("=")[::2] for line in message.decode().splitlines()))

    def heard(self, key: str) -> list[dict[str, str]]:
        """All messages with this key."""
        return [message for message in self.messages if key in message]

    def wait_for(self, key: str, count: int = 1) -> dict[str, str]:
        """The message with this key that is so many-th."""
        return wait_until(lambda: self.heard(key)[count - 1 :], READY_WITHIN_S, f"{key} number {count}")[0]

    @property
    def story(self) -> list[str]:
        """The order of events, by the first word of each message, without the watchdog."""
        return [next(iter(message)) for message in self.messages if "WATCHDOG" not in message]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.address.replace("@", "\0"))
        self._thread.join(5)
        self._sock.close()


@contextlib.contextmanager
def service_manager(address: str):
    manager = ServiceManager(address)
    try:
        yield manager
    finally:
        manager.close()


@contextlib.contextmanager
def service(configuration: str, folder: Path, *, sockets=(), python: str = sys.executable, prefix=(), **variables):
    """Run the proxy with these sockets as a socket unit's and these variables; nothing of it may be left at the end.

    `prefix`: a command that runs it otherwise.
    """
    path, log_path = folder / "service.toml", folder / "service.log"
    path.write_text(configuration)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(each for each in sys.path if each.endswith("-packages"))]),
        "STAPLEPROXY_LOG_FORMAT": "human",
        **variables,
    }
    command = [*prefix, python, "-m", "proxy", "run", str(path)]
    if sockets:
        command = [python, "-c", _ACTIVATE, ",".join(str(sock.fileno()) for sock in sockets), *command]
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            pass_fds=[sock.fileno() for sock in sockets],
        )
    front = Front(process, log_path)
    try:
        wait_until(lambda: "ready:" in front.log or process.poll() is not None, READY_WITHIN_S, f"ready in {log_path}")
        yield front
    finally:
        pids = children_of(process.pid)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(READY_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], front.log


@functools.cache
def python_for_all() -> str:
    """A Python that every user may run, with what this one has; else there is nothing to be tested here."""
    for command in (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")):
        with contextlib.suppress(OSError):
            if (
                command
                and not subprocess.run(
                    [command, "-c", "import json"], user=USER, capture_output=True, check=False
                ).returncode
            ):
                return command
    pytest.skip(f"no Python here that user {USER} may run")


@contextlib.contextmanager
def open_folder():
    """Where every user may look: pytest's own folders are for one."""
    with tempfile.TemporaryDirectory(prefix="stapleproxy-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def status_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: " ".join(value.split()) for key, _, value in (line.partition(":") for line in lines)}
