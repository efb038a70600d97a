"""The list of all servers that a proxied load can be compared on: what each is, whether it is there, how to get it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import peers_native as native
import peers_python as python

from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from peers import Start

_PYTHON = f"{platform.python_implementation()} {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Peer:
    """`program` is looked for on the path, or else `package` in this environment; `install` says how to get it."""

    name: str
    start: Start
    install: str
    program: str = ""
    package: str = ""
    is_worth_valgrind: bool = False
    """It starts under it in reasonable time."""

    def version(self) -> str | None:
        """In its own words; None: it is not installed."""
        if self.package:
            try:
                return f"{version(self.package)}, {_PYTHON}"
            except PackageNotFoundError:
                return None
        try:
            program = native.find(self.program)
        except LabError:
            return None
        option = "--version" if self.name in PYTHON_PROXIES else "-v"
        said = subprocess.run([program, option], env=_clean(), capture_output=True, text=True, check=False)
        return (said.stdout + said.stderr).partition("\n")[0].strip()


def _clean() -> dict[str, str]:
    """Without PYTHONPATH, by which another Python's program would find our `proxy`."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


PYTHON_PROXIES = ("aiohttp proxy", "proxy.py", "mitmdump")

PEERS = (
    Peer("nginx", native.nginx, "apt install nginx", "nginx", is_worth_valgrind=True),
    Peer("Apache", native.apache, "apt install apache2-bin", "apache2", is_worth_valgrind=True),
    Peer("HAProxy", native.haproxy, "apt install haproxy", "haproxy", is_worth_valgrind=True),
    Peer("aiohttp proxy", python.aiohttp_proxy, "pip install aiohttp", package="aiohttp", is_worth_valgrind=True),
    Peer("proxy.py", python.proxy_py, "pip install proxy.py in an environment of its own, on PATH", "proxy"),
    Peer("mitmdump", python.mitmdump, "pip install mitmproxy in an environment of its own, on PATH", "mitmdump"),
    Peer("uvicorn", python.uvicorn, "pip install uvicorn", package="uvicorn"),
    Peer("hypercorn", python.hypercorn, "pip install hypercorn", package="hypercorn"),
)


def installed() -> tuple[list[Peer], dict[str, str], list[str]]:
    """Those that are there, their versions, and a sentence for each that is not (see `left_out`)."""
    found: list[Peer] = []
    versions: dict[str, str] = {}
    missing: list[str] = []
    for peer in PEERS:
        said = peer.version()
        if said is None:
            missing.append(left_out(peer.name, f"it is not installed ({peer.install})"))
        else:
            found.append(peer)
            versions[peer.name] = said
    return found, versions, missing


def left_out(name: str, why: str) -> str:
    """Say so; LabError where all are required."""
    sentence = f"{name} is left out: {why}"
    if os.environ.get("REQUIRE_PEERS") == "1":
        raise LabError(sentence)
    return sentence
