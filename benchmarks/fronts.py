"""The five TLS fronts that are compared: each with the same sites, and at its own defaults else (`front_configs`)."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import front_configs as configs
from counting import proportional_kib
from load import HOST, Client, LoadError
from peers import Server, children, descendants, free_port, running
from peers_native import find

from proxy.lab.client import ProbeError, probe
from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from certificates import Site
    from front_configs import Setup
    from load import Kind
    from peers import Lab

    from proxy.lab.stack import Child

OURS, PEER = "stapleproxy", "nginx"
READY_WITHIN_S = 300.0
"""Ten thousand sites, or one under valgrind, take their time."""
POLL_INTERVAL_S = 0.005


@dataclass(frozen=True, slots=True)
class Front(Server):
    """A front that serves. Of `Server`, `worker_pid` is the first of `pids`, and `staples` has the only site's."""

    pids: tuple[int, ...]
    """Those that do handshakes."""
    tree: tuple[int, ...]
    """All of its processes."""
    start_s: float
    """From when its program was started to the end of the first good handshake."""

    def memory_kib(self) -> int:
        return sum(map(proportional_kib, self.tree))


@dataclass(frozen=True, slots=True)
class Program:
    """How to get, to configure and to start one front."""

    name: str
    program: str
    package: str
    """Of Debian."""
    files: Callable[[Setup], dict[str, str]]
    command: Callable[[Path], list[str]]
    """Given the folder with the files."""
    version_option: str
    stapling: configs.Stapling = "fetched"
    """How it comes to a staple as its documentation says."""
    reads_staples: bool = True
    """From files, too."""

    def version(self) -> str | None:
        """Give its own words, with its OpenSSL where it tells; None: it is not installed."""
        try:
            program = find(self.program)
        except LabError:
            return None
        done = subprocess.run([program, self.version_option], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        openssl = re.search(r"running with (OpenSSL \S+)|Running on OpenSSL version : (OpenSSL \S+)", said)
        first = said.partition("\n")[0].strip()
        if openssl:
            return f"{first}, {openssl[1] or openssl[2]}"
        return f"{first}, this machine's libssl" if "libssl" in linked or self.name == "Apache" else first


PROGRAMS = (
    Program(
        OURS,
        sys.executable,
        "",
        lambda setup: {"config.toml": configs.stapleproxy(setup)},
        lambda folder: [sys.executable, "-P", "-m", "proxy", "run", str(folder / "config.toml")],
        "--version",
    ),
    Program(
        PEER,
        "nginx",
        "nginx",
        lambda setup: {"nginx.conf": configs.nginx(setup)},
        lambda folder: [find("nginx"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
        "-V",
    ),
    Program(
        "Apache",
        "apache2",
        "apache2-bin",
        lambda setup: {"apache2.conf": configs.apache(setup)},
        lambda folder: [find("apache2"), "-DFOREGROUND", "-f", str(folder / "apache2.conf")],
        "-v",
        reads_staples=False,
    ),
    Program(
        "HAProxy",
        "haproxy",
        "haproxy",
        lambda setup: {"haproxy.cfg": configs.haproxy(setup), "sites.txt": configs.haproxy_list(setup)},
        lambda folder: [find("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")],
        "-vv",
        "file",
    ),
    Program(
        "hitch",
        "hitch",
        "hitch",
        lambda setup: {"hitch.conf": configs.hitch(setup)},
        lambda folder: [find("hitch"), f"--config={folder / 'hitch.conf'}"],
        "--version",
        "file",
    ),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the fronts of one measurement are to be started."""

    sites: Sequence[Site]
    kind: Kind
    workers: int = 1
    connections: int = 1024
    stapling: configs.Stapling | None = None
    """None: as the program's documentation says."""
    cache: str = "shmcb:"
    prefix: Sequence[str] = ()
    """Before each command."""


@contextlib.contextmanager
def serving(program: Program, plan: Plan, lab: Lab) -> Iterator[Front]:
    """Run it until the block ends; it has done a good handshake with the first of its sites."""
    stapling = plan.stapling or program.stapling
    folder = Path(tempfile.mkdtemp(prefix=f"{program.name}-", dir=lab.folder))
    folder.chmod(0o711)  # what Apache's worker writes, it writes as another user
    setup = configs.Setup(
        folder,
        free_port(),
        plan.sites,
        stapling,
        plan.workers,
        plan.connections,
        lab.backend_url.removeprefix("http://"),
        lab.folder / "authorities.pem",
        os.getuid() == 0,
        plan.cache,
    )
    for name, text in program.files(setup).items():
        (folder / name).write_text(text)
    here = replace(lab, folder=folder)  # for its log
    with running(program.name, [*plan.prefix, *program.command(folder)], here) as child:
        site = plan.sites[0]
        bare = Server(program.name, setup.port, 0, {})
        client = Client(bare, plan.kind, "1.3", sites={site.name.encode(): None})
        _until(child, lambda: client.full(1))
        root = children(child.process.pid)[0]
        start_s = time.clock_gettime(time.CLOCK_BOOTTIME) - _started_at(root)
        staple = b"" if stapling == "off" else _verified(child, bare.port, site, plan.kind, lab)
        tree = tuple(descendants(root))
        pids = _workers(child, tree, plan.workers)
        yield Front(bare.name, bare.port, pids[0], {plan.kind: staple}, pids, tree, start_s)


def _until(child: Child, attempt: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            attempt()
        except (LoadError, ProbeError, OSError) as error:
            child.check_alive()
            if time.monotonic() > give_up_at:
                raise LabError(f"{child.name} does not serve ({error}). It said:\n{child.last_lines()}") from error
            time.sleep(POLL_INTERVAL_S)
        else:
            return


def _verified(child: Child, port: int, site: Site, kind: Kind, lab: Lab) -> bytes:
    """Connect until a good staple comes: nginx fetches one only after somebody has asked for it."""
    found: list[bytes] = []

    def attempt() -> None:
        result = probe(HOST, port, site.name, roots=lab.folder / "root.pem", kind=kind)
        if result.staple is None or result.staple_der is None:
            raise ProbeError(result.staple_refusal or "no staple was sent")
        found.append(result.staple_der)

    _until(child, attempt)
    return found[0]


def _workers(child: Child, tree: Sequence[int], count: int) -> tuple[int, ...]:
    """Those without children of their own; of ours, those that are not the keeper."""
    keepers = {int(pid) for pid in re.findall(r"keeper\[(\d+)\] started", child.log.read_text(errors="replace"))}
    found = tuple(pid for pid in tree if not children(pid) and pid not in keepers)
    if len(found) not in {1, count}:  # 1: threads of one process, as with HAProxy
        raise LabError(f"{child.name}: {count} workers were expected, there are {found}")
    return found


def _started_at(pid: int) -> float:
    """By the clock that counts since the machine was started, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
