"""Apache and ours as processes, with the same configuration file, and their logs by host."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from differential.modssl import client
from integration import front
from lab.servers import require_peer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from differential.modssl.world import Site

APACHE, OURS = "Apache", "ours"
_READY_WITHIN_S = 60.0
_END_WITHIN_S = 15.0

# What stapling logs: the numbers of ssl_util_stapling.c and ssl_util_ocsp.c, as far as a staple is what it is about.
_STAPLING = (*range(1926, 1946), *range(1948, 1958), 2217, 2218, 2604, 2621, 2814, 2815, 2969, 3040, *range(3236, 3239))
_HTTP = (*range(1972, 1989), 2321)
_COMPARED = frozenset((*_STAPLING, *_HTTP))
# Apache writes these with the first host's name, whoever is being served; the lines before them, of the same thread,
# have the right one.
_OF_CONNECTION = frozenset(_HTTP)
_APACHE_LINE = re.compile(r"^\[(?P<host>\S+)\] (?P<thread>\d+:\d+) AH(?P<number>\d{5}):")
_OUR_LINE = re.compile(r" (?P<thread>)AH(?P<number>\d{5}): \[(?P<host>\S+)\] ")


class HostLog:
    """Reads a growing log, whose lines are those that `pattern` finds."""

    def __init__(self, path: Path, pattern: re.Pattern[str]) -> None:
        self._path = path
        self._pattern = pattern
        self._read_bytes = 0
        self._numbers: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._host_of_thread: dict[str, str] = {}
        self._count = 0
        self._lock = threading.Lock()

    def numbers(self, names: Sequence[str]) -> list[int]:
        with self._lock:
            self._read_on()
            found = sorted(entry for name in names for entry in self._numbers[name])
        return [number for _, number in found]

    @property
    def end(self) -> str:
        """What stands there last."""
        return self._path.read_text()[-4000:] if self._path.exists() else ""

    def _read_on(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if not (found := self._pattern.search(line)) or (number := int(found["number"])) not in _COMPARED:
                continue
            host, thread = found["host"], found["thread"]
            if thread and number in _OF_CONNECTION:
                host = self._host_of_thread.get(thread, host)
            self._host_of_thread[thread] = host
            self._count += 1
            self._numbers[host].append((self._count, number))


@dataclass(frozen=True, slots=True)
class Running:
    name: str
    process: subprocess.Popen
    log: HostLog


def apache_command(*options: str) -> list[str]:
    """Give Apache's command line."""
    require_peer("apache2")
    return [shutil.which("apache2"), *options]


def ours_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", *arguments]


@contextlib.contextmanager
def apache(site: Site) -> Iterator[Running]:
    # The format has the host's name; it is given on the command line, so that the file is the same for both.
    error_format = 'ErrorLogFormat "[%v] %P:%T %M"'
    command = apache_command("-D", "FOREGROUND", "-f", str(site.config), "-c", error_format)
    with _run(APACHE, command, site, HostLog(site.folder / "error.log", _APACHE_LINE)) as running:
        yield running


@contextlib.contextmanager
def ours(site: Site) -> Iterator[Running]:
    command = ours_command("run", str(site.config))
    with _run(OURS, command, site, HostLog(site.folder / "ours.log", _OUR_LINE)) as running:
        yield running


@contextlib.contextmanager
def _run(name: str, command: list[str], site: Site, log: HostLog) -> Iterator[Running]:
    said_path = site.folder / f"{name.lower()}.log"
    with said_path.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)

    try:
        front.wait_until(lambda: process.poll() is not None or _answers(site.ports), _READY_WITHIN_S, f"{name} ready")
        assert process.poll() is None, f"{name} did not start:\n{said_path.read_text()}{log.end}"
        yield Running(name, process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(ports: Sequence[int]) -> bool:
    """Whether a handshake that asks for no staple, and so disturbs no case, succeeds on every port."""
    try:
        return all(client.shake(port, None, asks=False).is_complete for port in ports)
    except OSError:
        return False
