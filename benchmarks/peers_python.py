"""The Python servers that a user would take instead: reverse proxies, and application servers with TLS of their own.

Each runs as its documentation starts it for production: one process, uvloop where it can, no access log. The
application servers answer by themselves: there is no second hop in their figures, nor an application's server.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from load import HOST
from peers import PEER_FILES, chain_with_key, started
from peers_native import find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from peers import Lab, Server

_FAR = 1_000_000_000


def aiohttp_proxy(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    chain, key = _files(lab)

    def command(port: int) -> list[str]:
        return [sys.executable, str(PEER_FILES / "aiohttp_proxy.py"), str(port), chain, key, lab.backend_url]

    return started("aiohttp proxy", lab, command, prefix)


def proxy_py(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    """Its package has the name of ours, so it lives in an environment of its own; its command is looked for.

    A thread for each connection: without --threaded, version 2.4.10 ends at the second request on a connection.
    """
    chain, key = _files(lab)

    def command(port: int) -> list[str]:
        program = find("proxy")
        options = (
            "--threaded --num-acceptors 1 --num-workers 1 --timeout 3600 --log-level WARNING --rewrite-host-header"
        )
        reverse = ["--enable-reverse-proxy", "--disable-http-proxy", "--rewrite-host-header"]
        plugin = ["--plugins", "proxy_py_route.Route"]
        listen = ["--hostname", HOST, "--port", str(port), "--cert-file", chain, "--key-file", key]
        return [program, *options.split(), *reverse, *plugin, *listen]

    environment = {"PYTHONPATH": str(PEER_FILES), "BACKEND_URL": lab.backend_url}
    return started("proxy.py", lab, command, prefix, environment)


def mitmdump(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    settings = {
        "confdir": str(lab.folder / "mitmproxy"),
        "stream_large_bodies": "1m",
        "keep_host_header": "true",
    }

    def command(port: int) -> list[str]:
        listen = ["--listen-host", HOST, "--listen-port", str(port), "--certs", f"*={chain_with_key(lab)}"]
        extra = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        mode = ["--quiet", "--mode", f"reverse:{lab.backend_url}"]
        return [find("mitmdump"), *mode, *listen, *extra]

    return started("mitmdump", lab, command, prefix)


def uvicorn(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    chain, key = _files(lab)

    def command(port: int) -> list[str]:
        tls = ["--ssl-certfile", chain, "--ssl-keyfile", key]
        listen = ["--host", HOST, "--port", str(port), "--timeout-keep-alive", "75"]
        quiet = ["--no-access-log", "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", "--app-dir", str(PEER_FILES), *listen, *tls, *quiet, "app:app"]

    return started("uvicorn", lab, command, prefix)


def hypercorn(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    chain, key = _files(lab)

    def command(port: int) -> list[str]:
        config = lab.folder / "hypercorn.toml"
        lines = [
            f'bind = "{HOST}:{port}"',
            f'certfile = "{chain}"',
            f'keyfile = "{key}"',
            'worker_class = "uvloop"',
            "workers = 0",  # in the process itself
            "keep_alive_timeout = 75",
            f"keep_alive_max_requests = {_FAR}",
            'loglevel = "warning"',
        ]
        config.write_text("\n".join(lines) + "\n")
        return [sys.executable, "-m", "hypercorn", "--config", str(config), "app:app"]

    return started("hypercorn", lab, command, prefix, {"PYTHONPATH": str(PEER_FILES)})


def _files(lab: Lab) -> tuple[str, str]:
    chain = lab.chains["ec"]
    return str(chain), str(chain.with_suffix(".key"))
