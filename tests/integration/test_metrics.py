"""The workers' counts of the real proxy, against what real clients did: to the last one, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from integration.admin import ask
from integration.clients import curl, is_stapled, s_client
from integration.conftest import free_port
from integration.front import Front, run, site, toml, wait_until
from integration.peers import OK, PATIENCE_S, backend, request
from lab.servers import require_peer
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

WORKERS = 2
COUNTED = {
    f"stapleproxy_{name}_total"
    for name in (
        "connections",
        "handshakes",
        "refused_handshakes",
        "handshake_failures",
        "requests",
        "site_requests",
        "upstream_failures",
        "tunnels",
        "redirect_requests",
    )
}
"""All that no moment of is lost; bytes and latencies are told once a second."""


class World(NamedTuple):
    """A proxy with a site of each kind, and what a client needs to know."""

    front: Front
    root: Path
    admin: Path
    redirect_port: int

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Name and labels' values, in the order of the labels' names -> value; the worker's label is summed over."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in text_string_to_metric_families(ask(self.admin, "/metrics")[1]):
            for sample in family.samples:
                labels = [value for name, value in sorted(sample.labels.items()) if name != "worker"]
                found[(sample.name, *labels)] += sample.value
        return found

    def handshakes(self, name: str) -> dict[tuple[str, str], float]:
        """Of a site, by version and staple."""
        return {
            (key[4], key[3]): value
            for key, value in self.metrics().items()
            if key[0] == "stapleproxy_handshakes_total" and key[2] == name
        }

    def failures(self) -> dict[str, float]:
        metric = "stapleproxy_handshake_failures_total"
        return {key[1]: value for key, value in self.metrics().items() if key[0] == metric and value}

    def requests(self) -> dict[str, float]:
        return {key[1]: value for key, value in self.metrics().items() if key[0] == "stapleproxy_requests_total"}

    def context(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.root)
        context.minimum_version = context.maximum_version = version
        return context

    @contextlib.contextmanager
    def connected(self, context: ssl.SSLContext, name: str = "localhost", session: ssl.SSLSession | None = None):
        raw = socket.create_connection(("127.0.0.1", self.front.port), PATIENCE_S)
        with context.wrap_socket(raw, server_hostname=name, session=session) as sock:
            yield sock

    def get(self, sock: ssl.SSLSocket, target: str = "/") -> int:
        """One request; the status of its answer, whose body is two bytes or the rest."""
        sock.sendall(request(target))
        answer = sock.recv(65_536)
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(65_536)
        return int(answer.split()[1])

    def send(self, data: bytes, *, wait: bool) -> None:
        """Send bytes that are no handshake, and leave, after the proxy has if `wait`."""
        with socket.create_connection(("127.0.0.1", self.front.port), PATIENCE_S) as sock:
            sock.sendall(data)
            if wait:
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(65_536):
                        pass

    def wait_until_settled(self) -> dict[tuple[str, ...], float]:
        """Nobody is connected any more; each connection has had its one outcome."""
        found = self.metrics()

        def is_settled() -> bool:
            found.clear()
            found.update(self.metrics())
            return not found["stapleproxy_open_connections",] and not found["stapleproxy_open_handshakes",]

        wait_until(is_settled, what="an end of all connections")
        done = sum(value for key, value in found.items() if key[0] == "stapleproxy_handshakes_total")
        failed = sum(value for key, value in found.items() if key[0] == "stapleproxy_handshake_failures_total")
        assert found["stapleproxy_connections_total", "tls"] == done + failed
        return found


def answer(visit) -> None:
    """Answer with the status that the path asks for."""
    while head := visit.head():
        status = head.split()[1].strip(b"/") or b"200"
        visit.send(OK.replace(b"200 OK", status + b" As Asked"))


@pytest.fixture
def world(lab, tmp_path):
    with backend() as origin, lab.responder():
        dead = f"http://127.0.0.1:{free_port()}"
        strict = lab.ca.issue(["strict.test"], ocsp_urls=(dead,))
        lab.ca.write(lab.folder)
        sites = [
            site(origin.url, lab.issue("localhost")),
            site(origin.url, lab.issue("plain.test", with_uri=False)),
            site(dead, lab.issue("down.test", with_uri=False)),
            site(origin.url.replace("http:", "tcp:"), lab.issue("tcp.test", with_uri=False), mode="tcp"),
            site(
                origin.url,
                (lab.folder / f"{strict.stem}.pem", lab.folder / f"{strict.stem}.key"),
                stapling={"on_missing": "refuse"},
            ),
        ]
        redirect_port = free_port()
        configuration = toml(
            "".join(sites),
            workers=WORKERS,
            admin={"socket": str(tmp_path / "a.sock")},
            tls={"unknown_names": "refuse"},
            redirect={"listen": [f"127.0.0.1:{redirect_port}"]},
        )
        with run(tmp_path, configuration) as front, origin.does(answer):
            yield World(front, lab.root, tmp_path / "a.sock", redirect_port)


def do_all(world: World) -> None:
    """Some traffic of each kind."""
    first = world.context()
    with world.connected(first) as sock:
        assert world.get(sock) == 200
        session = sock.session
    with world.connected(first, session=session) as sock:
        assert sock.session_reused
        assert world.get(sock, "/404") == 404
    with world.connected(world.context(ssl.TLSVersion.TLSv1_2), "plain.test") as sock:
        assert world.get(sock, "/503") == 503
    with world.connected(world.context(), "down.test") as sock:
        assert world.get(sock) == 502
    with world.connected(world.context(), "tcp.test") as sock:
        assert world.get(sock) == 200
    assert is_stapled(s_client(world.front.port, "-status", ca=world.root))
    s_client(world.front.port, "-status", ca=world.root, name="strict.test")
    for _ in range(2):
        assert curl("-o", "/dev/null", f"http://127.0.0.1:{world.redirect_port}/", ca=world.root).returncode == 0
    world.send(b"GET / HTTP/1.1\r\n\r\n", wait=True)


def test_handshakes_are_counted_to_the_last(world):
    """Of each kind another number."""
    sessions = {}
    counts = {ssl.TLSVersion.TLSv1_2: (11, 5), ssl.TLSVersion.TLSv1_3: (17, 7)}
    for version, (full, resumed) in counts.items():
        context = world.context(version)
        for _ in range(full):
            with world.connected(context) as sock:
                assert world.get(sock) == 200
                sessions[version] = sock.session
        for _ in range(resumed):
            with world.connected(context, session=sessions[version]) as sock:
                assert sock.session_reused
                assert world.get(sock) == 200
                sessions[version] = sock.session  # a ticket of TLS 1.3 is good for one time
    for _ in range(3):
        assert is_stapled(s_client(world.front.port, "-status", "-tls1_3", ca=world.root))
    assert is_stapled(s_client(world.front.port, "-status", "-tls1_2", ca=world.root))
    world.wait_until_settled()
    assert world.handshakes("localhost") == {
        ("TLSv1.2", "fresh"): 1,
        ("TLSv1.2", "not-asked"): 11,
        ("TLSv1.2", "resumed"): 5,
        ("TLSv1.3", "fresh"): 3,
        ("TLSv1.3", "not-asked"): 17,
        ("TLSv1.3", "resumed"): 7,
    }
    assert world.handshakes("plain.test") == {}
    assert world.failures() == {}
    assert world.requests() == {"200": 40}


def test_failures_are_counted_by_why(world):
    """Each connection that came to nothing has one reason."""
    for _ in range(4):
        world.send(b"", wait=False)
    for _ in range(3):
        world.send(b"\x16\x03\x01\x02\x00\x01", wait=False)
    weak = world.context(ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("AES128-SHA")
    for _ in range(2):
        with pytest.raises(ssl.SSLError), world.connected(weak):
            pass
    world.send(b"GET / HTTP/1.1\r\n\r\n", wait=True)
    for _ in range(5):
        with pytest.raises(ssl.SSLError), world.connected(ssl.create_default_context()):
            pass
    with pytest.raises(ssl.SSLError), world.connected(world.context(), "nobody.test"):
        pass
    for _ in range(2):
        s_client(world.front.port, "-status", ca=world.root, name="strict.test")
    found = world.wait_until_settled()
    assert world.failures() == {
        "nothing-sent": 4,
        "client-left": 3,
        "protocol": 2,
        "plain-http": 1,
        "client-alert": 5,
        "unknown-name": 1,
        "no-staple": 2,
    }
    assert found["stapleproxy_refused_handshakes_total", "strict.test"] == 2


def test_whoever_finds_no_room_or_takes_too_long_is_counted(lab, tmp_path):
    """Also who shows no certificate where one is asked for, and a balancer that does not speak its protocol."""
    text = site("http://127.0.0.1:1", lab.issue("localhost", with_uri=False))
    text += f'[site.client_certificate]\nmode = "require"\nca = "{lab.root}"\n'
    configuration = toml(
        text,
        admin={"socket": str(tmp_path / "a.sock")},
        tls={"handshake_timeout_s": 6},
        limits={"max_connections": 2},
        proxy_protocol={"trusted": ["127.0.0.2/32"]},
    )
    with run(tmp_path, configuration) as front, contextlib.ExitStack() as stack:
        world = World(front, lab.root, tmp_path / "a.sock", 0)
        with pytest.raises(ssl.SSLError), world.connected(world.context(ssl.TLSVersion.TLSv1_2)):
            pass
        with socket.create_connection(("127.0.0.1", front.port), PATIENCE_S, ("127.0.0.2", 0)) as sock:
            sock.sendall(b"no PROXY header\r\n")
            assert sock.recv(1) == b""
        wait_until(lambda: sum(world.failures().values()) == 2, what="two failures")
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", front.port), 30)) for _ in range(2)]
        wait_until(lambda: world.metrics()["stapleproxy_open_connections",] == 2, what="two connections")
        world.send(b"", wait=True)
        for sock in silent:
            assert sock.recv(1) == b""
        expected = {"client-certificate": 1, "proxy-header": 1, "limit": 1, "timeout": 2}
        wait_until(lambda: world.failures() == expected, what="all failures")
        world.wait_until_settled()
        assert world.metrics()["stapleproxy_refused_connections_total", "max_connections"] == 1


def test_requests_are_counted_by_status_and_site(world):
    """The backend's, and ours; bytes, and how long the backend took, likewise."""
    asked = Counter({"200": 9, "204": 1, "302": 2, "404": 5, "500": 3})
    with world.connected(world.context()) as sock:
        for status, count in asked.items():
            for _ in range(count):
                assert world.get(sock, f"/{status}") == int(status)
    with world.connected(world.context(), "down.test") as sock:
        assert [world.get(sock) for _ in range(4)] == [502] * 4
    with world.connected(world.context(), "plain.test") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 400 ")
    with world.connected(world.context(), "tcp.test") as sock:
        assert world.get(sock) == 200
    found = world.wait_until_settled()
    assert world.requests() == {**asked, "502": 4, "400": 1}
    by_class = {key[1:]: value for key, value in found.items() if key[0] == "stapleproxy_site_requests_total"}
    assert by_class == {
        ("2xx", "localhost"): 10,
        ("3xx", "localhost"): 2,
        ("4xx", "localhost"): 5,
        ("5xx", "localhost"): 3,
        ("5xx", "down.test"): 4,
        ("4xx", "plain.test"): 1,
    }
    assert found["stapleproxy_upstream_failures_total",] == 4
    assert found["stapleproxy_tunnels_total", "relayed"] == 1
    sizes = [len(request(f"/{status}")) * count for status, count in asked.items()]
    tcp_and_bad = len(request("/")) + len(b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n")
    received = sum(sizes) + 4 * len(request("/")) + tcp_and_bad

    def told() -> tuple[float, float]:
        now = world.metrics()
        return now["stapleproxy_received_bytes_total",], now["stapleproxy_upstream_latency_seconds_count",]

    wait_until(lambda: told() == (received, asked.total()), what="all bytes and answers")
    # The loop's clock goes by milliseconds: of a few quick answers the sum may be nothing.
    assert 0 <= world.metrics()["stapleproxy_upstream_latency_seconds_sum",] < 60


def test_counts_outlive_the_processes(world):
    """A killed worker's counts stay, what it was in the middle of is a failure; and a killed keeper loses none."""
    do_all(world)
    before = world.wait_until_settled()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", world.front.port)))
        wait_until(lambda: world.metrics()["stapleproxy_open_handshakes",] == 10, what="ten connections")
        for pid in world.front.pids("worker"):
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: world.front.log.count("started") == 1 + 2 * WORKERS and len(world.front.pids("worker")) == WORKERS,
            what="new workers",
        )
        wait_until(lambda: world.failures().get("worker-ended") == 10, what="ten failures")
    (keeper,) = world.front.pids("keeper")
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: world.front.pids("keeper") not in ([], [keeper]), what="a new keeper")
    wait_until(lambda: ask(world.admin, "/healthz")[0] == 200, what="its answer")
    after = world.wait_until_settled()
    ours = {key: value for key, value in before.items() if key[0] in COUNTED}
    assert len(ours) > 30
    expected = Counter(ours)
    expected["stapleproxy_connections_total", "tls"] += 10
    expected["stapleproxy_handshake_failures_total", "worker-ended"] += 10
    assert {key: after[key] for key in ours} == expected
    do_all(world)
    twice = world.wait_until_settled()
    assert twice["stapleproxy_requests_total", "404"] == 2 * before["stapleproxy_requests_total", "404"] == 2


def test_counts_go_on_over_a_reload(world, lab, tmp_path):
    """A site's are found by its name, whatever its place is now; and a worker that drains still counts."""
    do_all(world)
    before = world.wait_until_settled()
    configuration = tmp_path / "front.toml"
    with world.connected(world.context(), "tcp.test") as sock:
        head, sites = configuration.read_text().split("[[site]]", 1)
        new = site("http://127.0.0.1:1", lab.issue("new.test", with_uri=False))
        configuration.write_text(f"{head}{new}[[site]]{sites}")
        world.front.process.send_signal(signal.SIGHUP)
        world.front.wait_for_log("reloaded, generation 2", 30)
        do_all(world)
        assert world.get(sock) == 200
        sock.unwrap().close()
    after = world.wait_until_settled()
    expected = Counter({key: 2 * value for key, value in before.items() if key[0] in COUNTED and value})
    expected["stapleproxy_connections_total", "tls"] += 1
    expected["stapleproxy_handshakes_total", "false", "tcp.test", "not-asked", "TLSv1.3"] += 1
    expected["stapleproxy_tunnels_total", "relayed"] += 1
    assert {key: value for key, value in after.items() if key[0] in COUNTED and value} == expected
    assert after["stapleproxy_generation",] == 2
    assert after["stapleproxy_reloads_total",] == after["stapleproxy_last_reload_successful",] == 1


def test_promtool_finds_nothing_to_say(world):
    """Prometheus' own judge of names, units and format, on a page with something of everything."""
    require_peer("promtool")
    do_all(world)
    world.wait_until_settled()
    text = ask(world.admin, "/metrics")[1]
    for name in ("handshakes_total{", "requests_total{", "redirect_requests_total{", "tunnels_total{"):
        assert f"stapleproxy_{name}" in text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
