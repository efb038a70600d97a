"""``stapleproxy bench`` as a process, against the real proxy and against OpenSSL's own server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from bench.scripted import Scripted
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from integration.front import children_of, is_alive, run, site, toml, wait_until
from lab.servers import build_response, openssl_server

from proxy.lab.signing import Signing


def bench(target, *options, status=0):
    """What it says, and what it says beside; ends with the status that is expected."""
    command = [sys.executable, "-m", "proxy", "bench", str(target), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def measured(port, *options):
    said, _ = bench(f"127.0.0.1:{port}", "--warmup", "0s", "--json", *options)
    return json.loads(said)


@pytest.fixture
def front(lab, backend, tmp_path):
    """The proxy with a stapled certificate and an access log, each line of which is one request or one refusal."""
    pair = lab.issue("localhost")
    log = tmp_path / "access.log"
    with (
        lab.responder(),
        run(tmp_path, toml(site(backend, pair), access_log={"path": str(log), "format": "json"})) as running,
    ):
        running.wait_for_log("staple")
        yield running, log


def test_what_it_counts_is_what_the_proxy_logs(front):
    """Connections, requests, answers, and by the log's word for each how it was stapled."""
    running, log = front
    data = measured(
        running.port, "--handshakes", 60, "--resume", 0.5, "--request", "/", "--requests", 2, "--name", "localhost"
    )
    assert (data["handshakes"], data["failed"], data["answers"]) == (60, 0, {"200": 120})

    def lines():
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    logged = wait_until(lambda: len(lines()) >= 120 and lines(), what="the lines of 120 requests")
    assert len(logged) == 120
    words = [line["staple"] for line in logged]
    assert words.count("fresh") == 2 * data["staples"]["good"]
    assert words.count("resumed") == 2 * data["staples"]["resumed"] == 2 * data["resumed"]
    assert sum(data["staples"].values()) == 60


def test_every_staple_is_good_and_was_verified_once_by_each_process(front):
    running, _ = front
    data = measured(running.port, "--handshakes", 50, "--processes", 2, "--tls", "1.3", "--name", "localhost")
    assert data["staples"]["good"] == data["handshakes"] == 50
    assert data["responses"]["distinct"] == 1
    assert data["signatures_verified"] == 2
    assert data["responses"]["least_life_s"] > 0
    assert {each["tls"] for each in data["protocols"]} == {"TLSv1.3"}


def test_the_table_tells_the_same(front):
    running, _ = front
    said, _ = bench(
        f"127.0.0.1:{running.port}", "--handshakes", 20, "--warmup", "0s", "--no-status", "--name", "localhost"
    )
    assert f"127.0.0.1:{running.port}\nhandshakes       20 in " in said
    assert "not-asked  20       100.00%" in said
    assert "p99.9" in said
    assert said.endswith("\n")


def test_steps_end_where_the_goal_is_missed(front):
    running, _ = front
    data = measured(
        running.port, "--stepped", "20:60:20", "--goal", "p50=1us", "--duration", "0.3s", "--name", "localhost"
    )
    assert data["highest_rate"] is None
    assert len(data["steps"]) == 1
    assert data["steps"][0]["broken"].startswith("p50 was ")
    data = measured(
        running.port, "--stepped", "20:40:20", "--goal", "p50=9s", "--duration", "0.3s", "--name", "localhost"
    )
    assert data["highest_rate"] == 40
    assert [step["handshakes"] for step in data["steps"]] == [6, 12]


def test_the_cost_of_stapling_is_told_with_an_interval(front):
    """The bytes are sure: a staple more or less in every handshake, and little else."""
    running, _ = front
    data = measured(
        running.port, "--ab", "--rounds", 3, "--duration", "1.2s", "--concurrency", 2, "--name", "localhost"
    )
    (received,) = [each for each in data["differences"] if each["measure"] == "received"]
    assert received["is_sure"]
    size = data["responses"]["bytes_min"]
    assert size <= received["low"] <= received["difference"] <= received["high"] <= size + 40
    assert len(data["rounds"]) == 3
    assert all(each["without"]["staples"]["not-asked"] == each["without"]["handshakes"] for each in data["rounds"])
    assert data["handshakes"] == sum(each["with"]["handshakes"] for each in data["rounds"])


def test_a_staple_of_another_certificate_is_told_by_its_reason(lab):
    """OpenSSL's own server staples any bytes that it is given."""
    lab.issue("lab.test")
    other = lab.ca.issue(["other.test"])
    intermediate = lab.ca.intermediate.certificate
    request = ocsp.OCSPRequestBuilder().add_certificate(other.leaf, intermediate, hashes.SHA256()).build()
    der = build_response(
        request.public_bytes(Encoding.DER),
        Signing.of(lab.ca, "issuer"),
        datetime.now(UTC),
        validity=timedelta(hours=1),
        revoked={},
    )
    wrong, stem = lab.folder / "wrong.der", lab.folder / "lab.test.ec"
    wrong.write_bytes(der)
    options = ("-cert", f"{stem}.pem", "-key", f"{stem}.key", "-cert_chain", f"{stem}.pem", "-status_file", wrong)
    with openssl_server(*options) as port:
        data = measured(port, "--handshakes", 10, "--request", "/")
    assert data["staple_reasons"] == {"invalid: certid-mismatch": 10}
    assert (data["staples"]["invalid"], data["answers"]) == (10, {"200": 10})


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["192.0.2.1:443"], 1, "192.0.2.1 is not this machine"),
        (["192.0.2.1:443", "--i-may-load", "192.0.2.2"], 1, "--i-may-load 192.0.2.1"),
        (["127.0.0.1:1", "--rate", "5", "--concurrency", "5"], 2, "--rate and --concurrency contradict each other"),
        (["127.0.0.1:1", "--requests", "5"], 2, "--requests needs --request"),
        (["127.0.0.1:1", "--ciphers", "nonsense"], 2, "--ciphers: this OpenSSL knows nothing, or not all, of"),
        (["127.0.0.1:1", "--groups", "nonsense"], 2, "--groups: "),
        (["127.0.0.1:1", "--names", "/nowhere/names"], 2, "--names: cannot read /nowhere/names"),
        (["127.0.0.1:1", "--cert", "/nowhere/a.pem", "--key", "/nowhere/a.key"], 2, "--cert: /nowhere/a.pem holds no"),
        (["127.0.0.1"], 2, "HOST:PORT"),
        (["127.0.0.1:1", "--html", "/nowhere/page.html"], 2, "/nowhere/page.html: no file can be written there"),
        (["127.0.0.1:1", "--stepped", "5:1:1"], 2, "TO at least FROM"),
        (["no-such-name.invalid:1"], 1, "the name no-such-name.invalid has no address"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_a_sentence(options, status, sentence):
    _, said = bench(*options, status=status)
    assert sentence in said


@contextlib.contextmanager
def endless(lab):
    """A load that has begun and would go on for an hour: its process, and the server's port."""
    issued = lab.ca.issue(["lab.test"])
    scripted = Scripted((issued.leaf, lab.ca.intermediate.certificate), issued.key)
    with scripted.running():
        options = ["--rate", "50", "--duration", "1h", "--warmup", "0s", "--processes", "2", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "bench", f"127.0.0.1:{scripted.port}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                wait_until(lambda: scripted.handshakes >= 10, what="the tenth handshake")
                yield process
            finally:
                process.kill()


def test_ctrl_c_ends_it_early_and_what_there_is_is_told(lab):
    """The terminal sends it to all processes; the children leave it to the parent."""
    with endless(lab) as process:
        os.killpg(process.pid, signal.SIGINT)
        said, beside = process.communicate(timeout=30)
    data = json.loads(said)
    assert (process.returncode, beside) == (130, "")
    assert data["handshakes"] >= 10
    assert data["failed"] == 0


def test_no_load_goes_on_without_its_parent(lab):
    """kill -9 of the parent: its children see the pipe's end."""
    with endless(lab) as process:
        children = children_of(process.pid)
        assert len(children) >= 2
        process.kill()
        wait_until(lambda: not any(map(is_alive, children)), what="the end of the children")
