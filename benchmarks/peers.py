"""The servers that are compared, with the lab's CA, responder and backend: same certificates, same work, one worker."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
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

from load import HOST, SERVER_NAME

from proxy.lab.ca import LabCA
from proxy.lab.client import ProbeError, probe
from proxy.lab.stack import Child, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from load import Kind

VALIDITY_S = 7 * 86400  # so that no server refreshes a staple during the run
READY_WITHIN_S = 90.0  # a server under valgrind is fifty times slower than it is
POLL_INTERVAL_S = 0.1
MAX_CONNECTIONS = 4096
KINDS: tuple[Kind, ...] = ("ec", "rsa")


@dataclass(frozen=True, slots=True)
class Lab:
    """What stands around a server."""

    folder: Path
    responder_url: str
    backend_url: str
    chains: dict[Kind, Path]
    """PEM with the leaf and the intermediate; the key is beside it, ending ``.key``."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers and staples."""

    name: str
    port: int
    worker_pid: int
    staples: dict[Kind, bytes]
    """Verified: signature, certificate, times."""


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
    with contextlib.ExitStack() as children:

        def start(name: str, *options: str) -> str:
            child = Child.start(name, ["-m", f"proxy.lab.{name}", "--exit-with-stdin", *options], folder)
            children.callback(child.stop)
            return child.url()

        responder_url = start("responder", "--folder", str(folder), "--validity-s", str(VALIDITY_S))
        backend_url = start("backend")
        chains: dict[Kind, Path] = {}
        for kind in KINDS:
            issued = ca.issue([SERVER_NAME.decode()], key=kind, ocsp_urls=[responder_url])
            chains[kind] = folder / f"{issued.stem}.pem"
        ca.write(folder)
        authorities = [(folder / f"{name}.pem").read_text() for name in ("root", "intermediate")]
        (folder / "authorities.pem").write_text("".join(authorities))
        yield Lab(folder, responder_url, backend_url, chains)


@contextlib.contextmanager
def stapleproxy(lab: Lab, prefix: Sequence[str]) -> Iterator[Server]:
    """Run the real command, with everything at its default but the number of workers."""
    port = _free_port()
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
    config = lab.folder / "stapleproxy.toml"
    config.write_text("\n".join(lines) + "\n")
    with _running("stapleproxy", [*prefix, sys.executable, "-m", "proxy", "run", str(config)], lab) as child:
        staples = _wait_for_staples(child, port, lab)
        keepers = {int(pid) for pid in re.findall(r"keeper\[(\d+)\]", child.log.read_text(errors="replace"))}
        yield Server("stapleproxy", port, _only(set(_children(_child(child.process.pid))) - keepers), staples)


@contextlib.contextmanager
def nginx(lab: Lab, prefix: Sequence[str]) -> Iterator[Server]:
    """Run nginx as its documentation says for stapling and for a kept-alive backend."""
    port = _free_port()
    folder = lab.folder / "nginx"
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_nginx_config(lab, folder, port))
    program = nginx_program()
    if program is None:
        raise LabError("nginx is not installed")
    with _running("nginx", [*prefix, program, "-c", str(config), "-e", str(folder / "error.log")], lab) as child:
        staples = _wait_for_staples(child, port, lab)
        yield Server("nginx", port, _only(set(_children(_child(child.process.pid)))), staples)


def nginx_program() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def _nginx_config(lab: Lab, folder: Path, port: int) -> str:
    certificates = "".join(
        f"    ssl_certificate {chain}; ssl_certificate_key {chain.with_suffix('.key')};\n"
        for chain in lab.chains.values()
    )
    temporary = "".join(
        f"  {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root it would change to another user, who may not write profiles here.
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    return f"""{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {MAX_CONNECTIONS * 2};
pid {folder}/nginx.pid;
events {{ worker_connections {MAX_CONNECTIONS}; }}
http {{
{temporary}  access_log off;
  keepalive_requests 1000000000;
  upstream backend {{
    server {lab.backend_url.removeprefix("http://")};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {HOST}:{port} ssl;
    server_name localhost;
{certificates}    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    ssl_stapling on;
    ssl_stapling_verify on;
    ssl_trusted_certificate {lab.folder}/authorities.pem;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"""


@contextlib.contextmanager
def _running(name: str, command: Sequence[str], lab: Lab) -> Iterator[Child]:
    child = Child.start(name, ["-m", "proxy.lab.leash", *command], lab.folder)
    try:
        yield child
    finally:
        child.stop()


def _wait_for_staples(child: Child, port: int, lab: Lab) -> dict[Kind, bytes]:
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


def _child(pid: int) -> int:
    """Give the only child: the command that the leash runs."""
    return _only(set(_children(pid)))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _only(pids: set[int]) -> int:
    if len(pids) != 1:
        raise LabError(f"one process was expected, there are: {sorted(pids)}")
    return pids.pop()


def _free_port() -> int:
    with socket.socket() as finder:
        finder.bind((HOST, 0))
        return int(finder.getsockname()[1])
