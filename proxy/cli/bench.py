"""``stapleproxy bench``: many TLS handshakes that ask for the staple and verify it, and what came of them."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from proxy.bench.arrivals import Names, read_names
from proxy.bench.context import client_context
from proxy.bench.plan import MAX_OPEN, Phase, Timeouts, Tls, Work, sensible_processes
from proxy.bench.steps import read_goal, read_steps
from proxy.bench.target import find_target
from proxy.cli.bench_runs import Run, run_alternating, run_once, run_steps
from proxy.cli.compare import check_page
from proxy.cli.console import make_console
from proxy.cli.faults import find_duration
from proxy.errors import ConfigError, Problem
from proxy.names import host_name
from proxy.pem import read_certificates
from proxy.settings.values import host_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.bench.plan import KeyKind, TlsVersion
    from proxy.bench.steps import Goal

CONCURRENCY = 16
ROUNDS = 10
_NOT_OF_THE_LOAD = ("target", "as_json", "html", "i_may_load")
"""What the report need not repeat."""


def _checked(read: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str | None], object]:
    def callback(_ctx: click.Context, _param: click.Parameter, value: str | None) -> object:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _path(text: str) -> str:
    if not (text.startswith("/") and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("must begin with / and hold no blanks: /index.html")
    return text


@click.command(short_help="Load a server with handshakes that verify the staple, and measure them.")
@click.argument("target", metavar="HOST:PORT", callback=_checked(host_port))
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Open loop: so many clients begin in a second.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, MAX_OPEN),
    help=f"Closed loop: so many clients, each beginning anew when it is done.  [default: {CONCURRENCY}]",
)
@click.option(
    "--duration",
    metavar="TIME",
    default="10s",
    show_default=True,
    callback=find_duration,
    help="How long clients come; with --stepped for each rate.",
)
@click.option("--handshakes", type=click.IntRange(1), help="So many clients instead.")
@click.option(
    "--ramp",
    metavar="TIME",
    default="0s",
    callback=find_duration,
    help="So long the load rises to its full height, and nothing is counted.",
)
@click.option(
    "--warmup",
    metavar="TIME",
    default="1s",
    show_default=True,
    callback=find_duration,
    help="After the ramp; nothing of it is counted.",
)
@click.option("--processes", type=click.IntRange(1, 256), help="How many make the load.  [default: one for each CPU]")
@click.option(
    "--resume",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="The share of clients that resume a session: 1, or 0.7 for a mix.  [default: 0]",
)
@click.option("--tls", "version", type=click.Choice(["1.2", "1.3"]), help="Only this version.")
@click.option(
    "--key-type",
    type=click.Choice(["rsa", "ec"]),
    help="Ask for a certificate with such a key, by the signature algorithms.",
)
@click.option("--groups", default="", metavar="LIST", help="For the key exchange, in OpenSSL's names: X25519:P-256.")
@click.option(
    "--ciphers", default="", metavar="LIST", help="In OpenSSL's names; those that begin with TLS_ are for TLS 1.3."
)
@click.option(
    "--name", callback=_checked(host_name), help="The server name to ask for.  [default: HOST, unless it is an address]"
)
@click.option(
    "--names",
    "names_path",
    type=click.Path(path_type=Path),
    help="A file of server names, one a line, each with its weight behind it if it has one.",
)
@click.option("--no-status", is_flag=True, help="Do not ask for the staple.")
@click.option(
    "--issuer",
    type=click.Path(path_type=Path),
    help="The issuer's certificate (PEM), where the server does not send it.",
)
@click.option("--cert", type=click.Path(path_type=Path), help="The client's certificate, then the intermediates (PEM).")
@click.option("--key", type=click.Path(path_type=Path), help="Its private key (PEM).")
@click.option(
    "--request", "path", metavar="PATH", callback=_checked(_path), help="Make an HTTP request on each connection."
)
@click.option(
    "--requests", type=click.IntRange(1), help="So many, one after the other on the same connection.  [default: 1]"
)
@click.option("--connect-timeout", metavar="TIME", default="5s", show_default=True, callback=find_duration)
@click.option("--handshake-timeout", metavar="TIME", default="10s", show_default=True, callback=find_duration)
@click.option("--answer-timeout", metavar="TIME", default="10s", show_default=True, callback=find_duration)
@click.option(
    "--stepped",
    "steps",
    metavar="FROM:TO:STEP",
    callback=_checked(read_steps),
    help="One rate after the other, until the goal is missed.",
)
@click.option(
    "--goal",
    metavar="pN=TIME",
    default="p99=50ms",
    show_default=True,
    callback=_checked(read_goal),
    help="Of --stepped: a quantile, and the longest it may be.",
)
@click.option("--ab", is_flag=True, help="What stapling costs: rounds with and without asking for it, in turn.")
@click.option(
    "--rounds",
    type=click.IntRange(2, 1000),
    help=f"Of --ab, of either kind; they share --duration.  [default: {ROUNDS}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots there.")
@click.option("--i-may-load", metavar="HOST", help="Load HOST, which is another machine: its owner agrees.")
@click.pass_context
def bench(
    ctx: click.Context,
    *,
    target: tuple[str, int],
    rate: float | None,
    concurrency: int | None,
    duration: float,
    handshakes: int | None,
    ramp: float,
    warmup: float,
    processes: int | None,
    resume: float,
    version: TlsVersion | None,
    key_type: KeyKind | None,
    groups: str,
    ciphers: str,
    name: str | None,
    names_path: Path | None,
    no_status: bool,
    issuer: Path | None,
    cert: Path | None,
    key: Path | None,
    path: str | None,
    requests: int | None,
    connect_timeout: float,
    handshake_timeout: float,
    answer_timeout: float,
    steps: tuple[float, ...] | None,
    goal: Goal,
    ab: bool,
    rounds: int | None,
    as_json: bool,
    html: Path | None,
    i_may_load: str | None,
) -> None:
    """Load a server on this machine with TLS handshakes, each of which asks for the staple and verifies it.

    A staple is verified once, with the issuer out of the chain that the server sends, and compared byte for byte after.
    With --rate, latencies count from when a client is due, so that a server that stalls cannot hide it.

    Ctrl-C ends it early, and what there is is told.

    \b
    Examples:
      stapleproxy bench 127.0.0.1:8443 --name www.example.com --rate 500 --duration 30s
      stapleproxy bench localhost:8443 --concurrency 50 --resume 0.7 --tls 1.3 --html report.html
      stapleproxy bench localhost:8443 --stepped 200:4000:200 --goal p99=20ms
      stapleproxy bench localhost:8443 --ab --duration 20s
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    given = {
        parameter: "" if value is True else str(value)
        for parameter, value in ctx.params.items()
        if ctx.get_parameter_source(parameter) is ParameterSource.COMMANDLINE
    }
    _check_together(given)
    if html is not None:
        check_page(html)
    host, port = target
    tls = Tls(version, key_type, groups, ciphers, str(cert or ""), str(key or ""))
    client_context(tls)  # what OpenSSL refuses is told before any process starts
    work = Work(
        address=find_target(host, port, i_may_load),
        names=_names(host, name, names_path),
        authority=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        tls=tls,
        resume=resume,
        path=path or "",
        requests=(requests or 1) if path else 0,
        timeouts=Timeouts(connect_timeout, handshake_timeout, answer_timeout),
        more_certificates=read_certificates(issuer, where="--issuer") if issuer else (),
    )
    phase = Phase(
        seconds=0.0 if handshakes else duration,
        handshakes=handshakes or 0,
        rate=rate or 0.0,
        concurrency=0 if rate or steps else concurrency or CONCURRENCY,
        ramp_s=ramp,
        warmup_s=warmup,
        asks_staple=not no_status,
    )
    run = Run(
        work=work,
        phase=phase,
        target=work.authority,
        options={_option(each): value for each, value in given.items() if each not in _NOT_OF_THE_LOAD},
        begun=datetime.now(UTC),
        processes=processes or (os.cpu_count() or 1 if steps else sensible_processes(os.cpu_count() or 1, phase)),
        html=html,
        as_json=as_json,
    )
    console = make_console(to_stderr=as_json)
    if steps:
        is_stopped = run_steps(console, run, steps, goal)
    elif ab:
        is_stopped = run_alternating(console, run, rounds or ROUNDS)
    else:
        is_stopped = run_once(console, run)
    ctx.exit(128 + signal.SIGINT if is_stopped else 0)


def _check_together(given: dict[str, str]) -> None:
    """Refuse options that contradict each other, or that nothing would look at."""
    for one, other in (
        ("rate", "concurrency"),
        ("duration", "handshakes"),
        ("name", "names_path"),
        ("steps", "rate"),
        ("steps", "concurrency"),
        ("steps", "handshakes"),
        ("steps", "ab"),
        ("ab", "handshakes"),
        ("ab", "no_status"),
    ):
        if one in given and other in given:
            raise click.UsageError(f"{_option(one)} and {_option(other)} contradict each other: leave out one of them")
    for one, needed in (("requests", "path"), ("rounds", "ab"), ("goal", "steps"), ("cert", "key"), ("key", "cert")):
        if one in given and needed not in given:
            raise click.UsageError(f"{_option(one)} needs {_option(needed)}")


def _option(parameter: str) -> str:
    known = {"names_path": "--names", "path": "--request", "steps": "--stepped", "version": "--tls"}
    return known.get(parameter, f"--{parameter.replace('_', '-')}")


def _names(host: str, name: str | None, path: Path | None) -> Names:
    if path is not None:
        try:
            return read_names(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(Problem("--names", f"cannot read {path}: {error}")) from error
    if name is None:
        # RFC 6066 3: an address is no server name.
        is_address = ":" in host or host.replace(".", "").isdigit()
        name = "" if is_address else host
    return Names.of([(name, 1.0)])
