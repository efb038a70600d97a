"""The load generator's latencies beside what a packet capture of the very same connections shows.

They cannot be the same: a packet is stamped when it passes, and this program reads the clock before it makes the
system call, or after the event loop has woken. What lies between is
some tens of microseconds; a latency that began or ended at the wrong packet would be off by much more.
"""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import socket
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from integration.front import wait_until
from lab.servers import openssl_server, require_peer

COUNT = 200
APART_US = 250
"""What the better quarter of all is within. A latency that began or ended at the wrong packet would be off for all of
them; on a machine that has other things to do, the others wait for a processor between clock and packet.
"""
FIELDS = ("frame.time_epoch", "tcp.srcport", "tcp.dstport", "tcp.flags.syn", "tcp.len")


@dataclass
class Connection:
    """When its packets passed, in microseconds: those that open it, and those that carry data."""

    syns: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)

    @property
    def connect(self):
        """From the SYN to the server's."""
        return self.syns[1] - self.syns[0]

    def handshake(self, version):
        """From the ClientHello to the client's Finished in TLS 1.3, or to the server's in TLS 1.2."""
        finished = self.client[1]
        return (finished if version == "1.3" else self._answer_to(finished)) - self.client[0]

    @property
    def first_byte(self):
        """From the third flight of TLS 1.2, the request, to what follows."""
        return self._answer_to(self.client[2]) - self.client[2]

    def _answer_to(self, sent):
        return next(at for at in self.server if at > sent)


def connections(text, port):
    """What tshark has printed, by the client's port."""
    found = defaultdict(Connection)
    for stamp, source, target, syn, length in csv.reader(text.splitlines()):
        # Without the first digits of the epoch: a float has no more than these.
        at = float(stamp[5:]) * 1e6
        is_client = int(target) == port
        seen = found[int(source if is_client else target)]
        if syn in {"1", "True"}:
            seen.syns.append(at)
        elif int(length):
            (seen.client if is_client else seen.server).append(at)
    return found


@contextlib.contextmanager
def capture(port, path):
    """Let tshark print there what passes to and from a port of loopback; all of it is there when the block is over."""
    require_peer("tshark")
    command = ["tshark", "-i", "lo", "-l", "-n", "-f", f"tcp port {port}", "-T", "fields", "-E", "separator=,"]
    command += [part for name in FIELDS for part in ("-e", name)]
    errors = path.with_suffix(".err")
    with (
        path.open("w") as said,
        errors.open("w") as beside,
        subprocess.Popen(command, stdout=said, stderr=beside) as process,
    ):

        def is_seen():
            if process.poll() is not None:
                pytest.skip(f"tshark may not capture here: {errors.read_text()}")
            with socket.create_connection(("127.0.0.1", port)) as knock:
                number = knock.getsockname()[1]
            knocks.add(f",{number},")
            text = path.read_text()
            return any(each in text for each in knocks)

        try:
            knocks = set()
            wait_until(is_seen, what="the beginning of the capture")
            yield
            with socket.create_connection(("127.0.0.1", port)) as last:
                end = f",{last.getsockname()[1]},"
            wait_until(lambda: end in path.read_text(), what="the end of the capture")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


@pytest.fixture
def stem(lab):
    lab.issue("lab.test")
    return lab.folder / "lab.test.ec"


def bench(port, samples, *options):
    command = [sys.executable, "-m", "proxy", "bench", f"127.0.0.1:{port}", "--warmup", "0s", "--json"]
    command += ["--samples", str(samples), "--processes", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    with samples.open() as lines:
        return json.loads(done.stdout), list(csv.DictReader(lines))


def quantile(values, part):
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("load", [("--concurrency", "1"), ("--rate", "50")], ids=["closed", "open"])
def test_latencies_are_those_of_the_packets(stem, tmp_path, version, load):
    """Of each connection, found by its port: connect, handshake, and in TLS 1.2 (no tickets between) first byte."""
    options = ("-cert", f"{stem}.pem", "-key", f"{stem}.key", "-cert_chain", f"{stem}.pem")
    printed, samples = tmp_path / "packets.csv", tmp_path / "samples.csv"
    with openssl_server(*options) as port, capture(port, printed):
        data, lines = bench(port, samples, "--handshakes", str(COUNT), "--tls", version, "--request", "/", *load)
    assert (data["handshakes"], data["failed"], len(lines)) == (COUNT, 0, COUNT)
    seen = connections(printed.read_text(), port)
    steps = {"connect_us": lambda one: one.connect, "handshake_us": lambda one: one.handshake(version)}
    if version == "1.2":
        steps["first_byte_us"] = lambda one: one.first_byte
    for step, of_packets in steps.items():
        ours = [float(line[step]) for line in lines]
        packets = [of_packets(seen[int(line["port"])]) for line in lines]
        apart = [a - b for a, b in zip(ours, packets, strict=True)]
        low, middle, high = (quantile(apart, part) for part in (0.01, 0.5, 0.99))
        told = (
            f"{step}: median {statistics.median(ours):.0f} here, {statistics.median(packets):.0f} in the capture; "
            f"apart by {middle:.0f} (median), {low:.0f} (1 %), {high:.0f} (99 %)"
        )
        sys.stdout.write(f"{told}\n")  # pytest -rP shows it
        assert quantile(list(map(abs, apart)), 0.25) < APART_US, told
