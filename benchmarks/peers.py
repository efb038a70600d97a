"""The servers that are compared, with the lab's CA, responder and backend: same certificates, same work, one worker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from counting import cpu_s
from load import HOST, SERVER_NAME, Client, LoadError, get

from proxy.lab.ca import LabCA
from proxy.lab.client import ProbeError, probe
from proxy.lab.stack import Child, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from load import Kind

VALIDITY_S = 7 * 86400  # so that no server refreshes a staple during the run
READY_WITHIN_S = 90.0  # a server under valgrind is fifty times slower than it is
POLL_INTERVAL_S = 0.1
LOOK_REQUESTS = 50
MAX_CONNECTIONS = 4096
PEER_FILES = Path(__file__).parent / "peer"
"""What runs in other processes than this one, and finds nothing else of ours."""
KINDS: tuple[Kind, ...] = ("ec", "rsa")


@dataclass(frozen=True, slots=True)
class Lab:
    """What stands around a server."""

    folder: Path
    responder_url: str
    backend_url: str
    chains: dict[Kind, Path]
    """PEM with the leaf and the intermediate; the key is beside it, ending ``.key``."""

    def new_folder(self) -> Path:
        """Name one that is not there yet."""
        return self.folder / f"more-{len(list(self.folder.glob('more-*')))}"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    name: str
    port: int
    worker_pid: int
    staples: dict[Kind, bytes]
    """Verified: signature, certificate, times. Those missing are not expected of it."""


Start = Callable[[Lab, "Sequence[str]"], AbstractContextManager[Server]]
"""(lab, prefix of the server's command) -> the running server."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server runs, and where all else does; None: there is one core only."""

    server: int | None
    others: int | None

    @classmethod
    def choose(cls) -> Cores:
        """Split the cores, and move this process, so that what it starts follows."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        os.sched_setaffinity(0, {allowed[0]})
        return cls(allowed[-1], allowed[0])

    def prefix(self) -> list[str]:
        return [] if self.server is None else ["taskset", "--cpu-list", str(self.server)]


@contextlib.contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Start the responder and the backend, and issue the certificates."""
    ca = LabCA.create(datetime.now(UTC))
    ca.write(folder)
    responder = ("--folder", str(folder), "--validity-s", str(VALIDITY_S))
    with contextlib.ExitStack() as ends:

        def start(name: str, *command: str) -> str:
            child = Child.start(name, [*command, "--exit-with-stdin"], folder)
            ends.callback(child.stop)
            return child.url()

        responder_url = start("responder", "-m", "proxy.lab.responder", *responder)
        backend_url = start("backend", str(PEER_FILES / "backend.py"))
        chains: dict[Kind, Path] = {}
        for kind in KINDS:
            issued = ca.issue([SERVER_NAME.decode()], key=kind, ocsp_urls=[responder_url])
            chains[kind] = folder / f"{issued.stem}.pem"
        ca.write(folder)
        authorities = [(folder / f"{name}.pem").read_text() for name in ("root", "intermediate")]
        (folder / "authorities.pem").write_text("".join(authorities))
        yield Lab(folder, responder_url, backend_url, chains)


@contextlib.contextmanager
def stapleproxy(lab: Lab, prefix: Sequence[str], name: str = "stapleproxy") -> Iterator[Server]:
    """Run the real command, with everything at its default but the number of workers."""
    port = free_port()
    lines = [
        f'listen = ["{HOST}:{port}"]',
        "workers = 1",
        "[stapling]",
        "warmup_timeout_s = 120",  # under valgrind the first fetch takes its time
        "[[site]]",
        f"upstream = {json.dumps(lab.backend_url)}",
    ]
    for chain in lab.chains.values():
        key = chain.with_suffix(".key")
        lines += ["[[site.certificate]]", f"chain = {json.dumps(str(chain))}", f"key = {json.dumps(str(key))}"]
    config = lab.folder / f"{name}.toml"
    config.write_text("\n".join(lines) + "\n")
    with running(name, [*prefix, sys.executable, "-P", "-m", "proxy", "run", str(config)], lab) as child:
        staples = wait_for_staples(child, port, lab)
        keepers = {int(pid) for pid in re.findall(r"keeper\[(\d+)\]", child.log.read_text(errors="replace"))}
        yield Server(name, port, _only(set(children(only_child(child.process.pid))) - keepers), staples)


def chain_with_key(lab: Lab) -> Path:
    """Both in one file, as some want it."""
    chain = lab.chains["ec"]
    both = lab.folder / "chain-and-key.pem"
    both.write_text(chain.read_text() + chain.with_suffix(".key").read_text())
    return both


@contextlib.contextmanager
def started(
    name: str,
    lab: Lab,
    command: Callable[[int], Sequence[str]],
    prefix: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run `command`, made for a port, until it answers; `environment` takes the place of PYTHONPATH, which is ours."""
    port = free_port()
    clean = ["env", "-u", "PYTHONPATH", *(f"{key}={value}" for key, value in (environment or {}).items())]
    with running(name, [*clean, *prefix, *command(port)], lab) as child:
        server = Server(name, port, 0, {})
        give_up_at = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                connection = Client(server, "ec", "1.3").connect()
                get(connection)
                break
            except (LoadError, OSError) as error:
                child.check_alive()
                if time.monotonic() > give_up_at:
                    raise LabError(f"{name} does not answer ({error}). It said:\n{child.last_lines()}") from error
            time.sleep(POLL_INTERVAL_S)
        # The worker is the process that works.
        pids = descendants(only_child(child.process.pid))
        before = {pid: cpu_s(pid) for pid in pids}
        for _ in range(LOOK_REQUESTS):
            get(connection)
        connection.close()
        spent = {pid: cpu_s(pid) - before[pid] for pid in pids}
        worker_pid = max(pids, key=spent.__getitem__)
        if not spent[worker_pid]:
            raise LabError(f"{name}: none of its processes works: {pids}")
        yield Server(name, port, worker_pid, {})


@contextlib.contextmanager
def running(name: str, command: Sequence[str], lab: Lab) -> Iterator[Child]:
    child = Child.start(name, ["-m", "proxy.lab.leash", *command], lab.folder)
    try:
        yield child
    finally:
        child.stop()


def wait_for_staples(child: Child, port: int, lab: Lab) -> dict[Kind, bytes]:
    """Connect until good staples come: nginx fetches one only after somebody has asked for it."""
    give_up_at = time.monotonic() + READY_WITHIN_S
    staples: dict[Kind, bytes] = {}
    why = ""
    while len(staples) < len(KINDS):
        child.check_alive()
        if time.monotonic() > give_up_at:
            raise LabError(f"{child.name} does not staple ({why}). It said:\n{child.last_lines()}")
        kind = KINDS[len(staples)]
        try:
            result = probe(HOST, port, SERVER_NAME.decode(), roots=lab.folder / "root.pem", kind=kind)
        except ProbeError as error:
            why = str(error)
        else:
            if result.staple is not None and result.staple_der is not None:
                staples[kind] = result.staple_der
                continue
            why = result.staple_refusal or "no staple was sent"
        time.sleep(POLL_INTERVAL_S)
    return staples


def only_child(pid: int) -> int:
    """Such as the command of a leash, or nginx's worker."""
    return _only(set(children(pid)))


def children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(below for child in children(pid) for below in descendants(child))]


def _only(pids: set[int]) -> int:
    if len(pids) != 1:
        raise LabError(f"one process was expected, there are: {sorted(pids)}")
    return pids.pop()


def free_port() -> int:
    with socket.socket() as finder:
        finder.bind((HOST, 0))
        return int(finder.getsockname()[1])
