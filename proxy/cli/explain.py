"""``stapleproxy explain``: what stapling needs, and with --live whether it works."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from proxy.cache.entries import whole_entries
from proxy.cache.layout import parse_argument
from proxy.cache.segment import Segment
from proxy.cli.console import busy, make_console
from proxy.cli.httpd_options import httpd_options
from proxy.configuration import read_file
from proxy.errors import ConfigError, FetchFailed, Problem, StartError
from proxy.explain import (
    Answer,
    Explained,
    Leaf,
    Responder,
    Verdict,
    explain_leaf,
    firewall_rule,
    judge,
    leaves_of,
    refused,
    remarks,
    to_json,
)
from proxy.forecast import forecasts
from proxy.forecast import lines as forecast_lines
from proxy.keeper.fetch import Fetcher
from proxy.keeper.issuers import Issuers
from proxy.lab.client import ProbeError, probe
from proxy.log_lines import printable
from proxy.names import host_name
from proxy.ocsp.request import NONCE_BYTES, build_request
from proxy.ocsp.response import Rules
from proxy.ocsp.signer import PARSE_ERRORS
from proxy.pem import read_certificates
from proxy.settings.model import StaplingSettings
from proxy.settings.source import CONF_SUFFIX
from proxy.settings.values import host_port
from proxy.sites import NotStapled, on_revoked, responder_urls, why_not_stapled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryptography import x509
    from rich.console import Console

    from proxy.forecast import Forecast
    from proxy.settings.model import Settings
    from proxy.settings.source import HttpdOptions
    from proxy.sites import LoadedSite

CONNECT_WITHIN_S = 10.0
HTTPS_PORT = 443
FILE_SUFFIXES = (".cer", ".crt", ".der", ".key", ".p12", ".pem", ".pfx")
"""None of them is a top-level domain."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the command was given, read."""

    kind: str
    leaves: tuple[Leaf, ...]
    stapling: StaplingSettings
    staple_der: bytes | None = None
    """What a server sent."""
    forecast: tuple[Forecast, ...] | None = None
    """Of a configuration's sites, by what its cache holds now; None: that has no file, or it cannot be read."""


@click.command(short_help="Tell what stapling needs, and whether it would work.")
@click.argument("target")
@click.option(
    "--live", is_flag=True, help="Ask each responder now; without the issuer's certificate only connect to it."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option("--name", help="Server name to ask HOST:PORT for.  [default: HOST]")
@httpd_options("target")
@click.pass_context
def explain(
    ctx: click.Context, target: str, *, live: bool, as_json: bool, name: str | None, httpd: HttpdOptions | None
) -> None:
    """Tell what stapling needs and whether it has it.

    TARGET is a PEM file, a configuration (.toml, or .conf for Apache's), HOST:PORT or an https URL; a HOST
    alone means port 443.

    \b
    Examples:
      stapleproxy explain chain.pem
      stapleproxy explain --live /etc/stapleproxy/stapleproxy.toml
      stapleproxy explain --live --json www.example.com:443
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    with busy("Asking the responders …" if live else "Reading …"):
        read = read_target(target, name, httpd)
        explained = asyncio.run(examine(read, live=live))
    if as_json:
        click.echo(json.dumps(to_json(target, read.kind, explained, read.forecast), indent=2))
    else:
        show(make_console(), read, explained)
        for line in forecast_lines(read.forecast or ()):
            click.echo(line)
    ctx.exit(1 if live and any(each.is_failing for each in explained) else 0)


def read_target(target: str, name: str | None, httpd: HttpdOptions | None) -> Target:
    """Find out what the target is, and read it. Raises ConfigError."""
    path = Path(target)
    if path.suffix in {".toml", CONF_SUFFIX}:
        return read_configuration(path, httpd)
    if exists(path):
        chain = read_certificates(path, where="")
        with certificate_readable(target):
            return Target("pem", tuple(leaves_of(chain, target, "the same file")), StaplingSettings())
    address = server_address(target)
    if address is None:
        raise ConfigError(
            Problem(target, "no such file, and not HOST:PORT: give a PEM file, a .toml or .conf file, or HOST:PORT")
        )
    return read_server(target, *address, name)


def server_address(target: str) -> tuple[str, int] | None:
    """Read HOST:PORT, a host name, or an https URL, of which host and port count; None: it is none of them."""
    is_url = target.lower().startswith("https://")
    text = re.split(r"[/?#]", target[len("https://") :])[0] if is_url else target
    try:
        host, port = host_port(text, default_port=HTTPS_PORT)
        if text == host and not is_url:
            # What has no port may as well be a file that is not there, and somebody mistyped its name.
            host_name(host)
            host = "" if host.lower().endswith(FILE_SUFFIXES) else host
    except ValueError:
        return None
    return (host, port) if host else None


def exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file, say
        return False


@contextmanager
def certificate_readable(source: str) -> Iterator[None]:
    """Translate what cryptography raises when a certificate's fields are first looked at."""
    try:
        yield
    except PARSE_ERRORS as error:
        what = " ".join(f"a certificate holds something that cannot be read: {error}".split())
        raise ConfigError(Problem(source, what)) from error


def read_configuration(path: Path, httpd: HttpdOptions | None) -> Target:
    read = read_file(path, httpd)
    settings, sites = read.settings, read.sites
    leaves = []
    for index, site in enumerate(sites):
        for number, identity in enumerate(site.identities):
            urls = responder_urls(identity, site.settings, settings)
            in_chain = identity.issuer in identity.intermediates
            leaves.append(
                Leaf(
                    identity.leaf,
                    identity.issuer,
                    None if identity.issuer is None else "the chain file" if in_chain else "the issuer file",
                    f"site[{index}].certificate[{number}]: {identity.label}",
                    configured_urls=urls if urls != identity.ocsp_uris else (),
                    is_disabled=why_not_stapled(identity, site.settings, settings) is NotStapled.DISABLED,
                    identity=identity,
                    fetches_issuer=settings.stapling.fetch_issuer and bool(identity.ca_issuers),
                    on_revoked=on_revoked(site.settings, settings),
                )
            )
    return Target("config", tuple(leaves), settings.stapling, forecast=forecast_now(settings, sites))


def forecast_now(settings: Settings, sites: tuple[LoadedSite, ...]) -> tuple[Forecast, ...] | None:
    """Look into the cache's file, if there is one: before the first start there is none."""
    path = parse_argument(settings.stapling.local_cache).path
    if not path:
        return None
    try:
        segment = Segment.attach_read_only(path)
    except StartError:
        return None
    try:
        held = {entry.key: entry.serve_until_s for entry in whole_entries(segment)}
    finally:
        segment.close()
    return tuple(forecasts(sites, settings, held, datetime.now(UTC)))


def read_server(target: str, host: str, port: int, name: str | None) -> Target:
    try:
        seen = probe(host, port, name or host, roots=None, timeout_s=CONNECT_WITHIN_S)
    except ProbeError as error:
        raise ConfigError(Problem("", str(error))) from error
    source = f"{target}, over {seen.tls_version}"
    leaf = Leaf(seen.leaf, seen.issuer, "the server's chain" if seen.issuer else None, source)
    return Target("server", (leaf,), StaplingSettings(), seen.staple_der)


async def examine(target: Target, *, live: bool) -> list[Explained]:
    """Explain every leaf; with `live` ask all their responders, some at a time."""
    rules = Rules.from_settings(target.stapling)
    explained = []
    for leaf in target.leaves:
        with certificate_readable(leaf.source):
            explained.append(explain_leaf(leaf))
    if target.staple_der is not None:
        now = datetime.now(UTC)
        explained = [
            replace(each, server_staple=judge(target.staple_der, leaf, now, rules))
            for each, leaf in zip(explained, target.leaves, strict=True)
        ]
    if not live:
        return explained
    gate = asyncio.Semaphore(target.stapling.max_fetches_per_responder)  # more would wait inside the time measured
    async with Fetcher(target.stapling) as fetcher:
        issuers = Issuers(fetcher, None, logging.getLogger("stapleproxy.explain"))

        async def asked(responder: Responder, leaf: Leaf) -> Responder:
            async with gate:
                if leaf.issuer is None and leaf.identity is not None and leaf.fetches_issuer:
                    try:
                        leaf = replace(leaf, issuer=await issuers.find(leaf.identity))
                    except FetchFailed as error:
                        return replace(responder, answer=Answer(refused(error)))
                if leaf.issuer is None:
                    return replace(responder, answer=await reach(responder, target.stapling.fetch_timeout_s))
                nonce = secrets.token_bytes(NONCE_BYTES) if target.stapling.nonce else None
                return replace(responder, answer=await ask(fetcher, responder.uri, leaf, leaf.issuer, rules, nonce))

        return [
            replace(each, responders=tuple(await asyncio.gather(*(asked(one, leaf) for one in each.responders))))
            for each, leaf in zip(explained, target.leaves, strict=True)
        ]


async def ask(
    fetcher: Fetcher, uri: str, leaf: Leaf, issuer: x509.Certificate, rules: Rules, nonce: bytes | None
) -> Answer:
    started_at = time.monotonic()
    try:
        fetched = await fetcher.fetch(uri, build_request(leaf.certificate, issuer, nonce))
    except FetchFailed as error:
        return Answer(refused(error), elapsed_s=seconds_since(started_at))
    assert fetched.body is not None  # no etag was given
    elapsed_s = seconds_since(started_at)
    return Answer(judge(fetched.body, leaf, datetime.now(UTC), rules, nonce), fetched.method, elapsed_s)


async def reach(responder: Responder, timeout_s: float) -> Answer:
    """Only connect: a request is made of the issuer's name and key, and here they are not known."""
    started_at = time.monotonic()
    method = None
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(responder.host, responder.port)
        writer.close()
        method, how = "connect", "it accepts connections"
    except TimeoutError:
        how = f"it does not accept connections within {timeout_s:g} s"
    except (OSError, UnicodeError) as error:  # UnicodeError: the name is none that DNS could be asked for
        how = f"it cannot be reached ({reason_of(error)})"
    detail = f"{how}; a response can only be asked for with the issuer's certificate"
    return Answer(Verdict(False, NotStapled.NO_ISSUER, detail), method, seconds_since(started_at))


def reason_of(error: OSError | UnicodeError) -> str:
    # asyncio puts words of its own around the system's, or joins those of several addresses.
    if isinstance(error, socket.gaierror):
        return "its name has no address"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split())


def seconds_since(started_at: float) -> float:
    return round(time.monotonic() - started_at, 4)


def show(console: Console, target: Target, explained: Iterable[Explained]) -> None:
    for number, each in enumerate(explained):
        if number:
            console.print()
        console.print(Text(printable(each.source), style="bold"), soft_wrap=True)
        facts = Table.grid(padding=(0, 2))
        facts.add_column(no_wrap=True, style="dim")
        facts.add_column(overflow="fold")
        for title, value in facts_of(target, each):
            facts.add_row(
                f"  {title}", Text(value) if isinstance(value, str) else value
            )  # a str would be read as markup
        console.print(facts)
        for remark in remarks(each, datetime.now(UTC)):
            console.print(Text(f"  {remark}"))


def facts_of(target: Target, explained: Explained) -> Iterator[tuple[str, str | Text]]:
    """List the lines of one certificate, title and value."""
    yield "subject", explained.subject
    yield "names", ", ".join(explained.names) or "none"
    yield "valid", f"{clock(explained.not_before)} to {clock(explained.not_after)}"
    yield "key", explained.key
    found = "self-signed" if explained.self_signed else "not found"
    if not explained.issuer_found and explained.not_stapled is None and explained.ca_issuers:
        found = "fetched from where the certificate says"
    if explained.issuer_found:
        found = f"found in {explained.issuer_source}"
    yield "issuer", f"{explained.issuer_name} ({found})"
    yield "must-staple", "yes" if explained.must_staple else "no"
    for responder in explained.responders:
        origin = " (by the configuration)" if responder.origin == "configuration" else ""
        yield "OCSP responder", f"{responder.uri}{origin}"
        yield "  firewall", firewall_rule(responder)
        if responder.answer is not None:
            yield "  answer", answer_text(responder.answer)
    if explained.staple_file:
        yield "staple file", explained.staple_file
    if not explained.responders:
        yield "OCSP responder", "none"
    for uri in explained.ca_issuers:
        yield "CA issuers", uri
    if target.kind == "server":
        staple = explained.server_staple
        yield "stapled now", "no" if staple is None else verdict_text(staple, "verified", "not good")


def answer_text(answer: Answer) -> Text:
    text = verdict_text(answer.verdict, "would be stapled", "would not be stapled")
    if answer.elapsed_s is not None:
        method = f"{answer.method}, " if answer.method else ""
        text = Text(f"{method}{answer.elapsed_s * 1000:.0f} ms; ") + text
    return text


def verdict_text(verdict: Verdict, yes: str, no: str) -> Text:
    text = Text()
    if verdict.status is not None and verdict.this_update is not None:
        until = clock(verdict.next_update) if verdict.next_update else "none"
        text.append(f"{verdict.status}, thisUpdate {clock(verdict.this_update)}, nextUpdate {until}, ")
        text.append(f"signed by {verdict.signer}; ")
    if verdict.would_staple:
        return text.append(yes, style="green")
    return text.append(printable(f"{no}: {verdict.reason}: {verdict.detail}"), style="red")


def clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"
