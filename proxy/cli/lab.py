"""``stapleproxy lab``: a CA, a responder, a backend and the proxy on this machine, and the proof that it staples."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from proxy.cli.console import make_console
from proxy.lab.client import ProbeError, ProbeResult, probe
from proxy.lab.stack import HOST, LabError, Stack, running_stack

if TYPE_CHECKING:
    from rich.console import Console

SERVER_NAME = "localhost"
LOOK_INTERVAL_S = 0.5


@click.command(short_help="Run everything on this machine, to look at and try out.")
@click.option("--once", is_flag=True, help="End after the proof: status 0 if it succeeded, else 1.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the CA, the configuration and the logs here, and use a CA that is there.  [default: a temporary folder]",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the proxy.  [default: any free one]")
@click.option(
    "--validity-s", type=click.IntRange(1), default=3600, show_default=True, help="From thisUpdate to nextUpdate."
)
def lab(*, once: bool, folder: Path | None, port: int, validity_s: int) -> None:
    """Run a CA, an OCSP responder, a backend and the proxy on loopback, and prove that the proxy staples.

    Stays up until Ctrl-C, then stops all of them.

    \b
    Examples:
      stapleproxy lab
      stapleproxy lab --once
      stapleproxy lab --folder ./lab --port 8443 --validity-s 60
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    console = make_console()
    # As Ctrl-C does: what was started is stopped on the way out.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    try:
        with ExitStack() as resources:
            if folder is None:
                folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="stapleproxy-lab-")))
            else:
                folder = folder.absolute()
                folder.mkdir(parents=True, exist_ok=True)
            with console.status("Starting CA, responder, backend and proxy …"):
                stack = resources.enter_context(running_stack(folder, port=port, validity_s=validity_s))
            show_places(console, stack)
            is_proven = prove(console, stack)
            if once:
                sys.exit(0 if is_proven else 1)
            console.print("\nRunning until Ctrl-C.")
            while True:
                stack.check_alive()
                time.sleep(LOOK_INTERVAL_S)
    except (LabError, ProbeError, OSError) as error:
        console.print(f"[bold red]The lab failed:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Stopped.")


def show_places(console: Console, stack: Stack) -> None:
    places = Table.grid(padding=(0, 2))
    for name, place in (
        ("proxy", f"https://{SERVER_NAME}:{stack.port}/"),
        ("OCSP responder", stack.responder_url),
        ("backend", stack.backend_url),
        ("root certificate", str(stack.root_pem)),
        ("configuration, logs", str(stack.folder)),
    ):
        places.add_row(name, escape(place))
    console.print(places)
    root, where = shlex.quote(str(stack.root_pem)), f"{HOST}:{stack.port}"
    console.print("\nTry in another terminal:")
    for command in (
        f"openssl s_client -connect {where} -servername {SERVER_NAME} -status -CAfile {root} </dev/null",
        f"curl --cacert {root} --cert-status https://{SERVER_NAME}:{stack.port}/",
        f"stapleproxy explain --live {where} --name {SERVER_NAME}",
    ):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def prove(console: Console, stack: Stack) -> bool:
    """Make one request for each of the two certificates; tell whether both were answered with a good staple."""
    table = Table("certificate", "HTTP", "OCSP", "thisUpdate", "nextUpdate", "signed by", "TLS", "time", box=None)
    is_proven = True
    for kind in ("ec", "rsa"):
        started_at = time.monotonic()
        result = probe(HOST, stack.port, SERVER_NAME, roots=stack.root_pem, kind=kind, request_path="/")
        taken_s = time.monotonic() - started_at
        is_proven &= result.http_status == 200 and result.staple is not None
        table.add_row(
            kind.upper(),
            str(result.http_status),
            *describe_staple(result),
            result.tls_version,
            f"{taken_s * 1000:.0f} ms",
        )
    console.print("\nOne request through the proxy for each certificate, its staple verified by the client:")
    console.print(table)
    if is_proven:
        console.print("[bold green]Both staples are good.[/]")
    else:
        console.print("[bold red]Not as it should be.[/] The proxy said:")
        console.print(stack.proxy.last_lines(), markup=False, soft_wrap=True)
    return is_proven


def describe_staple(result: ProbeResult) -> tuple[str, str, str, str]:
    """Say what the staple is in the words of the table."""
    staple = result.staple
    if staple is None:
        return escape(result.staple_refusal or ""), "", "", ""
    this_update, next_update = (
        f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else "none" for moment in (staple.this_update, staple.next_update)
    )
    return str(staple.status), this_update, next_update, escape(staple.signer)
