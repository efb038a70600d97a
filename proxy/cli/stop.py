"""``stapleproxy stop``: have a running stapleproxy finish what is open, and end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from proxy.cli.running import asks_running
from proxy.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 60.0
POLL_S = 0.1


@click.command(short_help="End a running stapleproxy, after it has finished what is open.")
@asks_running
@click.option(
    "--timeout-s",
    type=click.FloatRange(0.1, 3600),
    default=TIMEOUT_S,
    show_default=True,
    help="How long to wait until it has ended; it goes on ending itself after that.",
)
def stop(*, path: Path, timeout_s: float) -> None:
    """Have a running stapleproxy accept no more clients, finish what is open (`drain_timeout_s`), and end; wait for it.

    FILE is its configuration, which names `admin.socket`; or give --socket. SIGTERM to the master process does the
    same. Under systemd use systemctl stop: what ends by itself may be started again.

    \b
    Examples:
      stapleproxy stop stapleproxy.toml
      stapleproxy stop --socket /run/stapleproxy/admin.sock
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy.cli.adminclient import ask
    from proxy.cli.console import busy

    end = time.monotonic() + timeout_s
    ask(path, "/api/stop", "POST")
    with busy("Waiting until what is open is done …"):
        while _is_there(path):
            if time.monotonic() > end:
                raise StartError(f"it has not ended within {timeout_s:g} s: it still finishes what is open")
            time.sleep(POLL_S)
    click.echo("stopped")


def _is_there(path: Path) -> bool:
    """Whether the master still has the socket: it removes it in the end, and the kernel closes it in any case."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except (TimeoutError, BlockingIOError):  # it is there, and busy
            return True
        except OSError:
            return False
    return True
