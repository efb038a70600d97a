"""``stapleproxy bench`` as a process, against the real proxy and against OpenSSL's own server."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bench.scripted import Scripted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from integration.front import children_of, is_alive, run, site, toml, wait_until
from lab.servers import build_response, openssl_server

from proxy.lab.ca import LabCA
from proxy.lab.signing import Signing


def bench(target, *options, status=0):
    """What it says, and what it says beside; ends with the status that is expected."""
    command = [sys.executable, "-m", "proxy", "bench", str(target), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def measured(port, *options):
    if "--warmup" not in options:
        options = ("--warmup", "0s", *options)
    command = [sys.executable, "-m", "proxy", "bench", f"127.0.0.1:{port}", "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    data = json.loads(done.stdout)
    assert done.returncode == (0 if data["handshakes"] else 1), "who measured nothing must not look like success"
    return data


@pytest.mark.slow
def test_nobody_there_is_told_by_the_status_too():
    """The report is complete all the same."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for options in (("--handshakes", 3), ("--stepped", "20:40:20", "--duration", "0.2s"), ("--ab", "--duration", "1s")):
        data = measured(port, *options)
        assert (data["handshakes"], data["connections"]) == (0, 0)
        assert data["failures"][0]["detail"] == "Connection refused"


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_cost_of_stapling_is_told_with_an_interval(front):
    """The bytes are sure: a staple more or less in every handshake, and little else."""
    running, _ = front
    options = ("--ab", "--rounds", 3, "--duration", "3s", "--concurrency", 2, "--warmup", "0.5s")
    data = measured(running.port, *options, "--name", "localhost")
    (received,) = [each for each in data["differences"] if each["measure"] == "received"]
    assert received["is_sure"]
    size = data["responses"]["bytes_min"]
    assert size <= received["low"] <= received["difference"] <= received["high"] <= size + 40
    assert len(data["rounds"]) == 3
    rounds = [each[kind] for each in data["rounds"] for kind in ("with", "without")]
    assert all(each["not_counted"]["handshakes"] > 0 for each in rounds), "each round has its own warm-up"
    assert all(each["without"]["staples"]["not-asked"] == each["without"]["handshakes"] for each in data["rounds"])
    assert data["handshakes"] == sum(each["with"]["handshakes"] for each in data["rounds"])


@pytest.mark.slow
def test_the_figures_of_both_kinds_of_rounds_add_up_to_the_servers_own(lab):
    """The report is of those with the staple, and says what the others did."""
    issued = lab.ca.issue(["lab.test"])
    with Scripted((issued.leaf, lab.ca.intermediate.certificate), issued.key).running() as scripted:
        options = ("--ab", "--rounds", 2, "--duration", "2s", "--concurrency", 2, "--warmup", "0.3s")
        said, _ = bench(f"127.0.0.1:{scripted.port}", *options)
    (with_staple,) = re.findall(r"^handshakes +(\d+) in", said, re.MULTILINE)
    (uncounted,) = re.findall(r"^not counted +(\d+) handshakes", said, re.MULTILINE)
    beside = "Those without opened ([0-9]+) connections, for ([0-9]+) handshakes and ([0-9]+) that were not counted"
    ((opened, *others),) = re.findall(beside, said)
    assert sum(map(int, (with_staple, uncounted, *others))) == scripted.handshakes
    assert int(opened) == sum(map(int, others))


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


@pytest.fixture
def both_kinds(lab):
    """OpenSSL's own server with an ECDSA and an RSA certificate; its port."""
    stems = {}
    for kind in ("ec", "rsa"):
        lab.issue("lab.test", key=kind)
        stems[kind] = lab.folder / f"lab.test.{kind}"
    ec, rsa = stems["ec"], stems["rsa"]
    options = ["-cert", f"{ec}.pem", "-key", f"{ec}.key", "-cert_chain", f"{ec}.pem"]
    options += ["-dcert", f"{rsa}.pem", "-dkey", f"{rsa}.key", "-dcert_chain", f"{rsa}.pem"]
    with openssl_server(*options) as port:
        yield port


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(("kind", "other", "word"), [("ec", "rsa", "ECDSA"), ("rsa", "ec", "RSA")])
def test_the_key_type_decides_which_certificate_comes(both_kinds, lab, version, kind, other, word):
    """In TLS 1.2 the cipher's name tells; and where there is only the other certificate, there is no handshake."""
    options = ("--handshakes", 5, "--tls", version, "--key-type", kind)
    data = measured(both_kinds, *options)
    assert (data["handshakes"], data["failed"]) == (5, 0)
    if version == "1.2":
        assert all(f"-{word}-" in each["cipher"] for each in data["protocols"])
    stem = lab.folder / f"lab.test.{other}"
    with openssl_server("-cert", f"{stem}.pem", "-key", f"{stem}.key") as port:
        data = measured(port, *options)
    assert data["failures"] == [{"kind": "alert", "detail": "handshake failure", "count": 5}]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_chain_is_verified_when_there_are_roots(both_kinds, lab, tmp_path, version):
    """By the roots and by the name that was asked for; without roots it is taken as it comes."""
    other = LabCA.create(datetime.now(UTC))
    (tmp_path / "other").mkdir()
    other.write(tmp_path / "other")
    names = tmp_path / "names"
    names.write_text("lab.test\nother.test\n")
    common = ("--handshakes", 6, "--tls", version)
    assert measured(both_kinds, *common, "--name", "other.test")["handshakes"] == 6
    assert measured(both_kinds, *common, "--cafile", lab.root)["handshakes"] == 6, (
        "without a name there is none to check"
    )
    data = measured(both_kinds, *common, "--names", names, "--cafile", lab.root)
    assert data["handshakes"] == 3
    assert data["failures"] == [{"kind": "untrusted", "detail": "hostname mismatch", "count": 3}]
    data = measured(both_kinds, *common, "--name", "lab.test", "--cafile", tmp_path / "other" / "root.pem")
    assert data["handshakes"] == 0
    (failure,) = data["failures"]
    assert (failure["kind"], failure["count"]) == ("untrusted", 6)
    assert "certificate" in failure["detail"]


def test_the_issuer_is_given_where_the_server_does_not_send_it(lab):
    """Then staples can be verified; else the reason says what is missing."""
    chain, key = lab.issue("lab.test")
    issued = x509.load_pem_x509_certificates(chain.read_bytes())
    request = ocsp.OCSPRequestBuilder().add_certificate(issued[0], lab.ca.intermediate.certificate, hashes.SHA256())
    staple = lab.folder / "good.der"
    staple.write_bytes(
        build_response(
            request.build().public_bytes(Encoding.DER),
            Signing.of(lab.ca, "issuer"),
            datetime.now(UTC),
            validity=timedelta(hours=1),
            revoked={},
        )
    )
    leaf = lab.folder / "leaf.pem"
    leaf.write_bytes(issued[0].public_bytes(Encoding.PEM))
    with openssl_server("-cert", leaf, "-key", key, "-status_file", staple) as port:
        assert measured(port, "--handshakes", 4)["staple_reasons"] == {"invalid: no-issuer": 4}
        data = measured(port, "--handshakes", 4, "--issuer", lab.intermediate, "--processes", 2)
    assert (data["staples"]["good"], data["signatures_verified"]) == (4, 2)


def test_each_connection_has_a_line_of_its_own(front, tmp_path):
    """With warm-up and failures; the ports are those that the connections had."""
    running, _ = front
    path = tmp_path / "samples.csv"
    options = (
        "--rate",
        100,
        "--handshakes",
        50,
        "--warmup",
        "0.2s",
        "--resume",
        0.5,
        "--samples",
        path,
        "--request",
        "/",
    )
    said, _ = bench(f"127.0.0.1:{running.port}", "--json", "--name", "localhost", "--samples", path, *options)
    data = json.loads(said)
    with path.open() as lines:
        found = list(csv.DictReader(lines))
    counted = [line for line in found if line["counted"] == "yes"]
    assert (len(counted), len(found)) == (50, data["connections"])
    assert Counter(line["staple"] for line in counted) == {
        "good": data["staples"]["good"],
        "resumed": data["staples"]["resumed"],
    }
    assert sum(line["resumed"] == "yes" for line in counted) == data["resumed"] > 0
    assert max(float(line["handshake_us"]) for line in counted) / 1e6 == pytest.approx(
        data["latency_s"]["handshake"]["max"], abs=1e-6
    )
    assert {1024 < int(line["port"]) < 65536 for line in found} == {True}
    assert all(float(line["first_byte_us"]) > 0 and not line["failure"] for line in found)
    begun = sorted(float(line["begun"]) for line in counted)
    assert begun[-1] - begun[0] == pytest.approx(0.49, abs=0.2)
    assert datetime.fromtimestamp(begun[0], UTC) - datetime.now(UTC) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["192.0.2.1:443"], 1, "192.0.2.1 is no loopback address"),
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
        (["0.0.0.0:1"], 1, "no address to connect to: write 127.0.0.1"),
        (["[::ffff:192.0.2.1]:1"], 1, "::ffff:192.0.2.1 is no loopback address"),
        (["127.0.0.1:1", "--cafile", "/nowhere/root.pem"], 2, "--cafile: "),
        (["127.0.0.1:1", "--samples", "/nowhere/s.csv"], 2, "--samples: cannot write /nowhere/s.csv"),
        (["no-such-name.invalid:1"], 1, "the name no-such-name.invalid has no address"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_a_sentence(options, status, sentence):
    _, said = bench(*options, status=status)
    assert sentence in said


@contextlib.contextmanager
def endless(lab, *options):
    """A load that has begun and would go on for an hour: its process, and the server's port."""
    issued = lab.ca.issue(["lab.test"])
    scripted = Scripted((issued.leaf, lab.ca.intermediate.certificate), issued.key)
    with scripted.running():
        options = [*(options or ("--rate", "50")), "--duration", "1h", "--warmup", "0s", "--processes", "2", "--json"]
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


def test_ctrl_c_in_the_first_pair_tells_what_there_is(lab):
    """Nothing can be compared yet, which is said; it is no error."""
    with endless(lab, "--ab", "--concurrency", "2") as process:
        os.killpg(process.pid, signal.SIGINT)
        said, beside = process.communicate(timeout=30)
    data = json.loads(said)
    assert (process.returncode, beside, data["differences"], data["rounds"]) == (130, "", [], [])
    assert data["handshakes"] >= 10


def test_a_disk_that_is_full_is_a_sentence(front, tmp_path):
    """Samples that cannot be written end the run: a file of which some is missing would be believed."""
    running, _ = front
    target = f"127.0.0.1:{running.port} --handshakes 100 --warmup 0s --samples {tmp_path / 'samples.csv'}"
    command = f"ulimit -f 1; exec {sys.executable} -m proxy bench {target}"
    uncounted = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60, env=uncounted)
    assert (done.returncode, done.stderr) == (1, "the load cannot go on: File too large\n")


def test_a_process_that_is_killed_ends_the_run_with_a_sentence(lab):
    """The others end too: half of a load is not what was asked for, and its figures would be believed."""
    with endless(lab) as process:
        members = [
            pid for pid in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(members[0], signal.SIGKILL)
        said, beside = process.communicate(timeout=30)
        assert (process.returncode, said) == (1, "")
        assert "a process of the load has ended by itself" in beside
        wait_until(lambda: not any(map(is_alive, members)), what="the end of the others")


def test_few_descriptors_are_a_sentence_and_no_hang(lab):
    """ulimit -n 64 and eight connections for each process."""
    command = f"ulimit -n 64; exec {sys.executable} -m proxy bench 127.0.0.1:1 --duration 1s --processes 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "raise the limit with ulimit -n" in done.stderr


@pytest.mark.slow
def test_fewer_handshakes_than_processes_are_made_as_they_are(front):
    running, _ = front
    assert measured(running.port, "--handshakes", 1, "--processes", 4)["connections"] == 1
    assert measured(running.port, "--handshakes", 2, "--processes", 3, "--rate", 50)["connections"] == 2


def test_no_load_goes_on_without_its_parent(lab):
    """kill -9 of the parent: its children see the pipe's end."""
    with endless(lab) as process:
        children = children_of(process.pid)
        assert len(children) >= 2
        process.kill()
        wait_until(lambda: not any(map(is_alive, children)), what="the end of the children")
