"""What one handshake costs the load generator itself, beside ``openssl s_time``: ``python benchmarks/generator.py``.

Both connect to the same ``openssl s_server`` with the same versions, cipher, group and (none) server name, one
connection after the other. What each does beside that is told under the table.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click
from counting import USER, CountingError, instruction_counter, parse_perf
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates, ocsp
from OpenSSL import SSL

from proxy.bench.arrivals import Names
from proxy.bench.outcomes import StapleOutcome
from proxy.bench.plan import Phase, Timeouts, Tls, Work
from proxy.bench.process import Order, Progress, serve
from proxy.bench.tally import Tally
from proxy.lab.answers import right_answer
from proxy.lab.ca import LabCA
from proxy.lab.signing import Signing
from proxy.tls.offer import KeyKind, TlsVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from counting import Counter

LIMIT = 1.3
"""How much more of the processor a verified handshake may cost here than in C."""
NAMES = {"ec": "ECDSA P-256", "rsa": "RSA-2048"}
GROUPS = "X25519:P-256"
CIPHERS = {
    "1.3": {"ec": "TLS_AES_128_GCM_SHA256", "rsa": "TLS_AES_128_GCM_SHA256"},
    "1.2": {"ec": "ECDHE-ECDSA-AES128-GCM-SHA256", "rsa": "ECDHE-RSA-AES128-GCM-SHA256"},
}
WARM_UP = 60
ENOUGH = 20
TRIES = 4
READY_WITHIN_S = 120.0
PATIENCE = Timeouts(60, 60, 60)
"""Under callgrind everything takes fifty times as long."""

Role = Literal["taken as it comes", "verified"]
"""What becomes of the server's chain."""


@dataclass(frozen=True, slots=True)
class Server:
    """An ``openssl s_server`` with one certificate and its staple."""

    kind: KeyKind
    port: int
    root: Path


@dataclass(frozen=True, slots=True)
class Row:
    """User instructions for one full handshake."""

    kind: KeyKind
    version: TlsVersion
    chain: Role
    unasked: float
    """Of this program, without asking for a staple."""
    verified: float
    """Of this program; every handshake brought the staple, which was verified or compared."""
    in_openssl: float | None
    """Of `verified`, what is spent within OpenSSL; None if the counter cannot tell."""
    yardstick: float
    """Of ``openssl s_time``, which asks for none."""

    @property
    def ratio(self) -> float:
        return self.verified / self.yardstick


@contextmanager
def running_server(kind: KeyKind, folder: Path) -> Iterator[Server]:
    """Make a CA, a certificate and its staple, and serve them."""
    now = datetime.now(UTC).replace(microsecond=0)
    ca = LabCA.create(now)
    issued = ca.issue(["localhost"], key=kind)
    ca.write(folder)
    stem = folder / issued.stem
    request = ocsp.OCSPRequestBuilder().add_certificate(issued.leaf, ca.intermediate.certificate, hashes.SHA256())
    answer = right_answer(
        request.build().public_bytes(Encoding.DER),
        Signing.of(ca, "issuer"),
        now,
        validity=timedelta(days=1),
        revoked_at={},
        reasons=None,
    )
    staple = folder / "staple.der"
    staple.write_bytes(answer if isinstance(answer, bytes) else answer.encoded)
    options = ["-cert", f"{stem}.pem", "-key", f"{stem}.key", "-cert_chain", f"{stem}.pem", "-status_file", str(staple)]
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.match(r"ACCEPT .*:(\d+)$", line):
                    yield Server(kind, int(found[1]), folder / "root.pem")
                    break
            else:
                raise CountingError("openssl s_server did not start")
        finally:
            process.kill()


def generator_costs(
    server: Server, version: TlsVersion, chain: Role, count: int, counter: Counter, folder: Path
) -> tuple[float, float, float | None]:
    """Cost of a handshake of one process of this program's load: without and with a staple, and within OpenSSL."""
    (root,) = load_pem_x509_certificates(server.root.read_bytes())
    roots = (root.public_bytes(Encoding.DER),) if chain == "verified" else ()
    work = Work(
        address=("127.0.0.1", server.port),
        names=Names.of([("", 1.0)]),
        authority="localhost",
        tls=Tls(version, groups=GROUPS, ciphers=CIPHERS[version][server.kind], roots=roots),
        timeouts=PATIENCE,
    )
    with Listener(str(folder / "pipe"), "AF_UNIX") as listener:
        command = [*counter.prefix, sys.executable, __file__, "--member", str(folder / "pipe")]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            try:
                with listener.accept() as pipe:
                    pipe.send(work)
                    hear(pipe)
                    unasked = measure(pipe, process.pid, count, counter, asks=False)
                    verified = measure(pipe, process.pid, count, counter, asks=True)
                    return unasked, verified, within_openssl(folder, process.pid, count)
            finally:
                process.kill()


def measure(pipe: Connection, pid: int, count: int, counter: Counter, *, asks: bool) -> float:
    phase = Phase(handshakes=WARM_UP, concurrency=1, asks_staple=asks)
    run_round(pipe, phase)
    totals = counter.count(pid, partial(run_round, pipe, replace(phase, handshakes=count)))
    return totals[USER] / count


def within_openssl(folder: Path, pid: int, count: int) -> float | None:
    """What callgrind's last dump tells of the library that OpenSSL is part of; None if there is no dump."""
    dumps = sorted(folder.glob(f"callgrind.out.{pid}.*"), key=lambda path: int(path.suffix[1:]))
    if not dumps:
        return None
    command = ["callgrind_annotate", "--threshold=100", str(dumps[-1])]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # cryptography's wheel has OpenSSL within its one library.
    found = re.findall(r"^ *([\d,]+) \(.*\[.*/cryptography/\S*\.so\]$", said, re.MULTILINE)
    return sum(int(each.replace(",", "")) for each in found) / count


def run_round(pipe: Connection, phase: Phase) -> None:
    """Let it make its handshakes; CountingError if one of them was not what is measured."""
    pipe.send(Order(phase, phase.part(0, 1), time.monotonic_ns()))
    while isinstance(said := hear(pipe), Progress):
        pass
    wanted = StapleOutcome.GOOD if phase.asks_staple else StapleOutcome.NOT_ASKED
    if said.staples != {(wanted, ""): phase.handshakes} or said.failed or said.resumed:
        raise CountingError(f"not all handshakes were full and {wanted}: {said.staples}, {said.failures}")


def hear(pipe: Connection) -> Progress | Tally:
    if not pipe.poll(READY_WITHIN_S):
        raise CountingError("the process of the load says nothing")
    said = pipe.recv()
    if not isinstance(said, Progress | Tally):
        raise CountingError(str(said))
    return said


def yardstick_cost(
    server: Server, version: TlsVersion, chain: Role, seconds: int, counter: Counter, folder: Path
) -> float:
    """Cost of a handshake of ``openssl s_time``: of a long run less a short one, so that its start is left out."""
    cipher = CIPHERS[version][server.kind]
    command = ["openssl", "s_time", "-new", "-connect", f"127.0.0.1:{server.port}"]
    command += ["-ciphersuites" if version == "1.3" else "-cipher", cipher, f"-tls{version.replace('.', '_')}"]
    if chain == "verified":
        command += ["-CAfile", str(server.root), "-verify", "5"]
    else:
        command += ["-no-CAfile"]
    command += ["-no-CApath", "-no-CAstore"]
    few, cost_of_few = s_time([*command, "-time", "1"], counter, folder)
    for _ in range(TRIES):
        many, cost_of_many = s_time([*command, "-time", str(seconds)], counter, folder)
        if many - few >= ENOUGH:
            return (cost_of_many - cost_of_few) / (many - few)
        seconds *= 2  # the machine has much else to do
    raise CountingError(f"openssl s_time made {many - few} handshakes more in {seconds // 2} s than in one")


def s_time(command: Sequence[str], counter: Counter, folder: Path) -> tuple[int, float]:
    """Run it; how many handshakes it made, and what all of it cost."""
    prefix = counter.prefix or ("perf", "stat", "-x", ",", "-e", "instructions:u,instructions:k")
    before = set(folder.glob("callgrind.out.*"))
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    found = re.search(r"^(\d+) connections in \d+ real seconds", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise CountingError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    if not counter.prefix:
        return int(found[1]), parse_perf(done.stderr)[USER]
    (dump,) = set(folder.glob("callgrind.out.*")) - before
    totals = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
    if totals is None:
        raise CountingError(f"{dump} has no totals")
    return int(found[1]), float(totals[1])


def table(rows: Sequence[Row], method: str, theirs: str) -> str:
    ours = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    lines = [
        "| full handshake | chain | no staple | staple verified | of it in OpenSSL | openssl s_time | ratio |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        costs = (row.unasked, row.verified, row.in_openssl, row.yardstick)
        figures = " | ".join("-" if cost is None else f"{cost / 1000:,.0f}" for cost in costs)
        lines.append(f"| {NAMES[row.kind]}, TLS {row.version} | {row.chain} | {figures} | {row.ratio:.2f} |")
    drawn = "\n".join(lines)
    return f"""Thousands of user instructions of the client for one full handshake; the ratio is of a verified one here
to one of `openssl s_time`: at most {LIMIT} is the goal. Counted by {method}.

{drawn}

- This program: {ours}, in Python {sys.version.split()[0]}; `openssl s_time`: {theirs}.
- Both: no server name, group X25519, {CIPHERS["1.3"]["ec"]} or its like of TLS 1.2, one connection at a time.
- Newer OpenSSLs need less: with this program's, a client in C would need what is spent *in OpenSSL* and more.
- *Chain taken as it comes*: neither has a root; both look for one in vain, and go on. *Verified*: both have the root,
  and verify two signatures of the chain in each handshake.
- This program also takes the time at each step, asks for the staple, verifies its signature when it is new and
  compares its bytes else, counts, sends close_notify and waits for the server's end. `s_time` closes its socket after
  its Finished, asks for no staple, and measures nothing but the whole run."""


def be_member(address: str) -> None:
    """Be one process of a load, as `proxy.bench.team` starts them."""
    with Client(address, "AF_UNIX") as pipe:
        serve(pipe.recv(), pipe)


@click.command()
@click.option("--handshakes", default=200, show_default=True, help="Of this program, for each figure.")
@click.option("--seconds", default=10, show_default=True, help="Of openssl s_time, for each figure.")
@click.option("--only", type=click.Choice(get_args(TlsVersion)), help="Only this version of TLS, and only ECDSA.")
@click.option("--member", hidden=True)
def main(*, handshakes: int, seconds: int, only: TlsVersion | None, member: str | None) -> None:
    """Count what a handshake costs the load generator, and print a table (Markdown)."""
    if member is not None:
        be_member(member)
        return
    kinds: tuple[KeyKind, ...] = ("ec",) if only else ("ec", "rsa")
    versions: tuple[TlsVersion, ...] = (only,) if only else ("1.3", "1.2")
    if shutil.which("openssl") is None:
        raise click.ClickException("openssl is not installed")
    theirs = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout.strip()
    rows: list[Row] = []
    method = ""
    try:
        for kind in kinds:
            with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as name:
                folder = Path(name)
                counter = instruction_counter(folder)
                if counter is None:
                    raise click.ClickException("neither perf nor valgrind counts instructions here")
                method = counter.method
                with running_server(kind, folder) as server:
                    for version in versions:
                        for chain in get_args(Role):
                            costs = generator_costs(server, version, chain, handshakes, counter, folder)
                            yardstick = yardstick_cost(server, version, chain, seconds, counter, folder)
                            rows.append(Row(kind, version, chain, *costs, yardstick))
    except CountingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(table(rows, method, theirs))


if __name__ == "__main__":
    main()
