"""``stapleproxy bench``: many TLS handshakes that ask for the staple and verify it, and what came of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.bench.context import client_offer
from proxy.bench.plan import MAX_OPEN, MAX_RATE, Phase, Timeouts, Tls, Work, sensible_processes
from proxy.bench.samples import begin_samples
from proxy.bench.steps import read_goal, read_steps
from proxy.bench.target import find_target
from proxy.cli.bench_options import (
    SectionedCommand,
    a_number,
    check_together,
    checked,
    longer_than_nothing,
    names_of,
    option_name,
    request_path,
)
from proxy.cli.bench_runs import Run, run_alternating, run_once, run_steps
from proxy.cli.compare import check_page
from proxy.cli.console import make_console
from proxy.cli.faults import find_duration
from proxy.errors import ConfigError, Problem
from proxy.names import host_name
from proxy.pem import read_certificates
from proxy.settings.values import host_port

if TYPE_CHECKING:
    from proxy.bench.steps import Goal
    from proxy.tls.offer import KeyKind, TlsVersion

CONCURRENCY = 16
ROUNDS = 10
_NOT_OF_THE_LOAD = ("target", "as_json", "html", "samples", "i_may_load")
"""What the report need not repeat."""


@click.command(
    cls=SectionedCommand, short_help="Load a server with handshakes that verify the staple, and measure them."
)
@click.argument("target", metavar="HOST:PORT", callback=checked(host_port))
@click.option(
    "--rate",
    type=click.FloatRange(0, MAX_RATE, min_open=True),
    callback=a_number,
    help="Open loop: so many clients begin in a second.",
)
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
    callback=longer_than_nothing,
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
    callback=a_number,
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
    "--name", callback=checked(host_name), help="The server name to ask for.  [default: HOST, unless it is an address]"
)
@click.option(
    "--names",
    "names_path",
    type=click.Path(path_type=Path),
    help="A file of server names, one a line, each with its weight behind it if it has one.",
)
@click.option("--no-status", is_flag=True, help="Do not ask for the staple.")
@click.option(
    "--cafile",
    type=click.Path(path_type=Path),
    help="Roots (PEM): every chain must lead to one, and the certificate be for the name that was asked for.  "
    "[default: chains are taken as they come]",
)
@click.option(
    "--issuer",
    type=click.Path(path_type=Path),
    help="The issuer's certificate (PEM), to verify staples by where the server does not send it.",
)
@click.option("--cert", type=click.Path(path_type=Path), help="The client's certificate, then the intermediates (PEM).")
@click.option("--key", type=click.Path(path_type=Path), help="Its private key (PEM).")
@click.option(
    "--request", "path", metavar="PATH", callback=checked(request_path), help="Make an HTTP request on each connection."
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
    callback=checked(read_steps),
    help="One rate after the other, until the goal is missed.",
)
@click.option(
    "--goal",
    metavar="pN=TIME",
    default="p99=50ms",
    show_default=True,
    callback=checked(read_goal),
    help="Of --stepped: a quantile, and the longest it may be.",
)
@click.option("--ab", is_flag=True, help="What stapling costs: rounds with and without asking for it, in turn.")
@click.option(
    "--rounds",
    type=click.IntRange(2, 1000),
    help=f"Of --ab, of either kind; they share --duration.  [default: {ROUNDS}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--samples",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a line (CSV) for each connection there: its port, when it began, how long each step took.",
)
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
    cafile: Path | None,
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
    samples: Path | None,
    i_may_load: str | None,
) -> None:
    """Load a server on this machine with TLS handshakes, each of which asks for the staple and verifies it.

    Without --rate, --concurrency clients at once begin anew as soon as they are done (a closed loop): this finds what
    a server can do. With --rate, clients come on schedule whether or not those before them were served (an open loop),
    and latencies count from when each was due, so that a server that stalls cannot hide it: this finds how long
    clients wait.

    A staple is verified once (signature, signer, certificate, dates), with the issuer out of the chain that the server
    sends, and compared byte for byte after.

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
    check_together(given)
    if html is not None:
        check_page(html)
    host, port = target
    roots = _certificates(cafile, "--cafile")
    tls = Tls(version, key_type, groups, ciphers, str(cert or ""), str(key or ""), roots)
    client_offer(tls)  # what OpenSSL refuses is told before any process starts
    work = Work(
        address=find_target(host, port, i_may_load),
        names=names_of(host, name, names_path),
        authority=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        tls=tls,
        resume=resume,
        path=path or "",
        requests=(requests or 1) if path else 0,
        timeouts=Timeouts(connect_timeout, handshake_timeout, answer_timeout),
        more_certificates=(*_certificates(issuer, "--issuer"), *roots),
        samples=str(samples or ""),
    )
    if samples is not None:
        _begin_samples(samples)
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
        target=work.authority if host == work.address[0] else f"{work.authority} ({work.address[0]})",
        options={option_name(each): value for each, value in given.items() if each not in _NOT_OF_THE_LOAD},
        begun=datetime.now(UTC),
        processes=processes or (os.cpu_count() or 1 if steps else sensible_processes(os.cpu_count() or 1, phase)),
        html=html,
        as_json=as_json,
    )
    console = make_console(to_stderr=as_json)
    if steps:
        status = run_steps(console, run, steps, goal)
    elif ab:
        status = run_alternating(console, run, rounds or ROUNDS)
    else:
        status = run_once(console, run)
    ctx.exit(status)


def _certificates(path: Path | None, option: str) -> tuple[bytes, ...]:
    """In DER, since other processes are to have them."""
    found = read_certificates(path, where=option) if path else ()
    return tuple(each.public_bytes(Encoding.DER) for each in found)


def _begin_samples(path: Path) -> None:
    try:
        begin_samples(path)
    except OSError as error:
        raise ConfigError(Problem("--samples", f"cannot write {path}: {error.strerror}")) from error
