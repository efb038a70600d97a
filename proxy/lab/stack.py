"""The whole lab on loopback: CA, responder, backend, and the proxy in front, each server a process of its own.

Children are started in sessions of their own, so that Ctrl-C reaches only the lab, which then stops them in order. Each
holds a pipe from the lab as its standard input: when the lab dies, however it dies, the pipe ends and so do they.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from proxy.errors import StapleproxyError
from proxy.lab.ca import BACKDATE, LabCA
from proxy.log import FORM_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOST = "127.0.0.1"
NAMES = ("localhost", "lab.test", "127.0.0.1", "::1")
READY_WITHIN_S = 30.0
END_WITHIN_S = 15.0
POLL_INTERVAL_S = 0.02
SHOWN_LOG_LINES = 12


class LabError(StapleproxyError):
    """A part of the lab did not start, or ended by itself."""


@dataclass(frozen=True, slots=True)
class Child:
    """One server: its process and the file that takes what it prints."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, name: str, arguments: Sequence[str], folder: Path) -> Self:
        log = folder / f"{name}.log"
        with usable(folder):
            output = log.open("wb")
        with output:
            process = subprocess.Popen(
                # -P: a module of that name in the user's current folder is not the one that is meant.
                [sys.executable, "-P", *arguments],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, process, log)

    def check_alive(self) -> None:
        """Raise LabError if the process has ended."""
        if (status := self.process.poll()) is not None:
            raise LabError(f"the {self.name} ended with status {status}. It said:\n{self.last_lines()}")

    def last_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (nothing)"

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Ask until it is so; LabError if the process ends before, or is late."""
        give_up_at = time.monotonic() + READY_WITHIN_S
        while not is_ready():
            self.check_alive()
            if time.monotonic() > give_up_at:
                raise LabError(f"the {self.name} was not ready in {READY_WITHIN_S:g} s. It said:\n{self.last_lines()}")
            time.sleep(POLL_INTERVAL_S)

    def url(self) -> str:
        """Wait for the line that says where it listens, and give that address."""
        self.wait_until(lambda: self._said_url() is not None)
        url = self._said_url()
        assert url is not None  # waited for
        return url

    def _said_url(self) -> str | None:
        found = re.search(
            rf"^{self.name} listening on (http://\S+)\n", self.log.read_text(errors="replace"), re.MULTILINE
        )
        return found[1] if found else None

    def stop(self) -> None:
        """End the process: asked first, killed when it is late."""
        self.process.terminate()
        try:
            self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


@dataclass(frozen=True, slots=True)
class Servers:
    """What stands behind any number of fronts, and is ready."""

    folder: Path
    ca: LabCA
    responder_url: str
    backend_url: str
    responder: Child
    backend: Child
    _start: Callable[..., Child]

    def start_front(self, name: str, config: Path, port: int) -> Child:
        """Start the proxy with a configuration that listens on `port`, and wait until it does."""
        run = (sys.executable, "-P", "-m", "proxy", "run", str(config))
        front = self._start(name, "-m", "proxy.lab.leash", *run)
        front.wait_until(lambda: _accepts(port))
        return front


@dataclass(frozen=True, slots=True)
class Stack:
    """Where each part is, once all are ready."""

    folder: Path
    port: int
    responder_url: str
    backend_url: str
    responder: Child
    backend: Child
    proxy: Child

    @property
    def root_pem(self) -> Path:
        return self.folder / "root.pem"

    def check_alive(self) -> None:
        """Raise LabError if any part has ended."""
        for child in (self.responder, self.backend, self.proxy):
            child.check_alive()


@contextlib.contextmanager
def running_stack(folder: Path, *, port: int, validity_s: int) -> Iterator[Stack]:
    """Start everything and wait until it is ready; stop everything at the end. Raises LabError.

    A CA that is in `folder` is used again, with new leaves. `port` 0: any free one.
    """
    port = free_port(port)
    with running_servers(folder, validity_s=validity_s) as servers:
        config = _write_config(servers, port)
        proxy = servers.start_front("proxy", config, port)
        yield Stack(folder, port, servers.responder_url, servers.backend_url, servers.responder, servers.backend, proxy)


@contextlib.contextmanager
def running_servers(folder: Path, *, validity_s: int) -> Iterator[Servers]:
    """Start what is behind fronts, wait until it is ready, and stop it with all fronts at the end. Raises LabError."""
    with _held(folder), contextlib.ExitStack() as children:

        def start(name: str, *arguments: str) -> Child:
            child = Child.start(name, arguments, folder)
            children.callback(child.stop)
            return child

        # The responder first: the address that it got goes into the certificates.
        ca = _make_ca(folder)
        own = ("--folder", str(folder), "--validity-s", str(validity_s), "--exit-with-stdin")
        responder = start("responder", "-m", "proxy.lab.responder", *own)
        backend = start("backend", "-m", "proxy.lab.backend", "--exit-with-stdin")
        yield Servers(folder, ca, responder.url(), backend.url(), responder, backend, start)


def _environment() -> dict[str, str]:
    """Let children find this package where it is not installed but runs from its source, by ``python -m proxy``.

    Their logs are files, and people look into those of a lab.
    """
    environment = os.environ | {FORM_VARIABLE: "human"}
    source = str(Path(__file__).parents[2])
    if sys.flags.safe_path or sys.path[0] != source:
        return environment
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Tell what goes wrong in the folder, and what to do about it."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        why = f"{error.strerror}: {error.filename or folder}" if isinstance(error, OSError) else str(error)
        raise LabError(
            f"{folder}: cannot use this folder for the lab's CA and logs ({why}): choose another with --folder"
        ) from error


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other labs out of it; however this process ends, the lock ends too."""
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("wb")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"{folder}: another lab runs in this folder: choose another with --folder") from None
        yield


def _make_ca(folder: Path) -> LabCA:
    with usable(folder):
        if (folder / "root.pem").exists():
            return LabCA.load(folder)
        ca = LabCA.create(datetime.now(UTC))
        ca.write(folder)
    return ca


def certificates_begin() -> datetime:
    """From when on leaves are valid that are issued now."""
    return datetime.now(UTC).replace(microsecond=0) - BACKDATE


def _write_config(servers: Servers, port: int) -> Path:
    folder, ca, responder_url = servers.folder, servers.ca, servers.responder_url
    not_before = certificates_begin()
    # A path for each, so that the responder can be told to fail for one of them.
    certificates = [
        ca.issue(NAMES, key=key, ocsp_urls=[f"{responder_url}/{key}"], not_before=not_before) for key in ("ec", "rsa")
    ]
    with usable(folder):
        ca.write(folder)
    # A JSON string is a TOML string too.
    lines = [
        f'listen = ["{HOST}:{port}"]',
        "",
        "[[site]]",
        'names = ["localhost", "lab.test"]',
        f"upstream = {json.dumps(servers.backend_url)}",
    ]
    for issued in certificates:
        chain, key = (json.dumps(str(folder / f"{issued.stem}.{end}")) for end in ("pem", "key"))
        lines += ["", "[[site.certificate]]", f"chain = {chain}", f"key = {key}"]
    config = folder / "lab.toml"
    with usable(folder):
        config.write_text("\n".join(lines) + "\n")
    return config


def free_port(wanted: int) -> int:
    """Give the port if it is free; 0 gives any. Else another program there would be taken for the proxy."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise LabError(f"port {wanted}: {error.strerror}: choose another with --port") from error
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
