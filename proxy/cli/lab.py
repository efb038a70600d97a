"""``stapleproxy lab``: a CA, a responder, a backend and the proxy on this machine, and the proof that it staples."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from proxy.cli.compare import PAGE, SECONDS, check_page, compare, find_profiles, make_plan
from proxy.cli.console import aligned, make_console
from proxy.cli.faults import find_duration, find_fault, find_steps, play, print_faults
from proxy.lab.client import ProbeError, probe
from proxy.lab.control import FAULTS_PATH
from proxy.lab.stack import HOST, LabError, Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from proxy.lab.fault import Fault
    from proxy.ocsp.response import Staple

SERVER_NAME = "localhost"
VALIDITY_S = 3600
VALIDITY_WITH_FAULTS_S = 60
"""The proxy asks again at half of it: who sets a fault wants to see what comes of it."""


@click.command(short_help="Run everything on this machine, to look at and try out.")
@click.option("--once", is_flag=True, help="End after the proof: status 0 if it succeeded, else 1.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the CA, the configuration and the logs here, and use a CA that is there.  [default: a temporary folder]",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the proxy.  [default: any free one]")
@click.option(
    "--validity-s",
    type=click.IntRange(1),
    help=f"From thisUpdate to nextUpdate.  [default: {VALIDITY_S}; with faults {VALIDITY_WITH_FAULTS_S}; "
    "with --compare a fifth more than it lasts]",
)
@click.option("--fault", metavar="NAME", callback=find_fault, help="Let the responder do this wrong.")
@click.option(
    "--after",
    "after_s",
    metavar="TIME",
    callback=find_duration,
    help="When the fault begins, such as 30s.  [default: at once; with --compare after a fifth of the time]",
)
@click.option(
    "--for",
    "for_s",
    metavar="TIME",
    callback=find_duration,
    help="How long it lasts, such as 5m.  [default: for good; with --compare two fifths of the time]",
)
@click.option(
    "--scenario",
    "scenario_path",
    type=click.Path(path_type=Path),
    help="Many faults, one after the other, from a file such as config/lab.toml.",
)
@click.option("--list", "is_list", is_flag=True, help="Print all faults that there are, and end.")
@click.option(
    "--compare",
    "profiles",
    metavar="PROFILES",
    callback=find_profiles,
    help="Play a fault against a front of each, such as httpd-2.4,prefetch, tell what clients were served, and end.",
)
@click.option("--seconds", type=click.IntRange(10, 3600), help=f"How long to compare.  [default: {SECONDS}]")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Where the comparison's page with a plot goes.  [default: {PAGE}]",
)
@click.option("--json", "as_json", is_flag=True, help="The list, or the comparison, as JSON.")
def lab(
    *,
    once: bool,
    folder: Path | None,
    port: int,
    validity_s: int | None,
    fault: Fault | None,
    after_s: float | None,
    for_s: float | None,
    scenario_path: Path | None,
    is_list: bool,
    profiles: tuple[str, ...],
    seconds: int | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Run a CA, an OCSP responder, a backend and the proxy on loopback, and prove that the proxy staples.

    Stays up until Ctrl-C, then stops all of them. To revoke a certificate, change the V that begins its line in the
    folder's index.txt to R: the responder's next answer says so.

    \b
    Examples:
      stapleproxy lab
      stapleproxy lab --once
      stapleproxy lab --folder ./lab --port 8443 --validity-s 60
      stapleproxy lab --fault expired --after 30s --for 60s
      stapleproxy lab --scenario config/lab.toml
      stapleproxy lab --list
      stapleproxy lab --compare httpd-2.4,prefetch
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    if as_json and not is_list and not profiles:
        raise click.UsageError("--json is for --list and --compare")
    if not profiles and (seconds or html):
        raise click.UsageError("--seconds and --html are for --compare")
    if is_list:
        print_faults(as_json=as_json)
        return
    if profiles:
        if once or port:
            raise click.UsageError("--compare has ports of its own and ends by itself: leave out --once and --port")
        plan = make_plan(
            profiles,
            seconds or SECONDS,
            validity_s,
            fault=fault,
            after_s=after_s,
            for_s=for_s,
            scenario_path=scenario_path,
        )
        check_page(html or PAGE)
        console = make_console(to_stderr=as_json)
        with _ending_well(console), _folder(folder) as own_folder:
            compare(console, plan, own_folder, html or PAGE, as_json=as_json)
        return
    steps = find_steps(fault, after_s, for_s, scenario_path)
    if once and steps:
        raise click.UsageError("--once ends before a fault can begin: leave out one of them")
    validity_s = validity_s or (VALIDITY_WITH_FAULTS_S if steps else VALIDITY_S)
    console = make_console()
    with _ending_well(console), _folder(folder) as own_folder, ExitStack() as resources:
        with console.status("Starting CA, responder, backend and proxy …"):
            stack = resources.enter_context(running_stack(own_folder, port=port, validity_s=validity_s))
        show_places(console, stack)
        if not once:
            show_commands(console, stack)
        is_proven = prove(console, stack)
        if once:
            sys.exit(0 if is_proven else 1)
        console.print("\nRunning until Ctrl-C.")
        play(console, stack, steps)


@contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    """Give the folder that was named, or a temporary one that goes at the end."""
    if named is not None:
        yield named.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="stapleproxy-lab-") as name:
        yield Path(name)


@contextmanager
def _ending_well(console: Console) -> Iterator[None]:
    """Stop what was started whatever ends the lab, and say it in one sentence with its status."""
    _end_on_signals()
    try:
        yield
    except (LabError, ProbeError, OSError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        console.print(f"[bold red]The lab failed:[/] {escape(why)}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(128 + signal.SIGINT)


def _end_on_signals() -> None:
    """Let a signal end the lab as Ctrl-C does: what was started is stopped on the way out."""
    # SIGINT too: a script's background commands begin with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # An ignored SIGHUP is nohup's work, whose user wants the lab to outlive the terminal.
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))


def show_places(console: Console, stack: Stack) -> None:
    places = [
        ("proxy", f"https://{SERVER_NAME}:{stack.port}/"),
        ("OCSP responder", stack.responder_url),
        ("backend", stack.backend_url),
        ("root certificate", str(stack.root_pem)),
        ("configuration, logs", str(stack.folder)),
    ]
    console.print(aligned(places), markup=False, soft_wrap=True)


def show_commands(console: Console, stack: Stack) -> None:
    root, where = shlex.quote(str(stack.root_pem)), f"{HOST}:{stack.port}"
    console.print("\nTry in another terminal:")
    for command in (
        f"openssl s_client -connect {where} -servername {SERVER_NAME} -status -CAfile {root} </dev/null",
        f"curl --cacert {root} --cert-status https://{SERVER_NAME}:{stack.port}/",
        f"{own_command(sys.argv[0])} explain --live {where} --name {SERVER_NAME}",
    ):
        console.print(f"  {command}", soft_wrap=True, markup=False)
    control = f"{stack.responder_url}{FAULTS_PATH}"
    console.print("\nMake the responder do something wrong, and right again (--list has the names):")
    for command in (f"curl -X PUT --data expired {control}", f"curl -X DELETE {control}"):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def own_command(started_as: str) -> str:
    """Write the command that this process was started by as a shell in any folder takes it, once installed."""
    path = Path(started_as).absolute()
    if path.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m proxy"
    found = shutil.which(path.name)
    return shlex.quote(path.name if found and Path(found).absolute() == path else str(path))


def prove(console: Console, stack: Stack) -> bool:
    """Make one request for each of the two certificates; tell whether both were answered with a good staple."""
    rows = [("key", "HTTP", "OCSP", "thisUpdate", "nextUpdate", "signed by", "TLS", "time")]
    refusals = []
    is_proven = True
    for kind in ("ec", "rsa"):
        started_at = time.monotonic()
        result = probe(HOST, stack.port, SERVER_NAME, roots=stack.root_pem, kind=kind, request_path="/")
        taken_s = time.monotonic() - started_at
        is_proven &= result.http_status == 200 and result.staple is not None
        if result.staple_refusal is not None:
            refusals.append(f"{kind.upper()}: {result.staple_refusal}")
        rows.append(
            (
                kind.upper(),
                str(result.http_status),
                *describe_staple(result.staple),
                result.tls_version.removeprefix("TLSv"),
                f"{taken_s * 1000:.0f} ms",
            )
        )
    console.print("\nOne request through the proxy for each key, its staple verified by the client:")
    console.print("\n".join([aligned(rows), *refusals]), markup=False, soft_wrap=True)
    if is_proven:
        console.print("[bold green]Both staples are good.[/]")
    else:
        console.print("[bold red]Not as it should be.[/] The proxy said:")
        console.print(stack.proxy.last_lines(), markup=False, soft_wrap=True)
    return is_proven


def describe_staple(staple: Staple | None) -> tuple[str, str, str, str]:
    """Say what the staple is in the words of the table, which has to fit 80 columns: a date only where it is needed."""
    if staple is None:
        return "none", "-", "-", "-"
    begin, end = staple.this_update, staple.next_update
    if end is None:
        until = "none"
    else:
        until = f"{end:%H:%M:%SZ}" if end.date() == begin.date() else f"{end:%m-%d %H:%M:%SZ}"
    return str(staple.status), f"{begin:%H:%M:%SZ}", until, staple.signer
