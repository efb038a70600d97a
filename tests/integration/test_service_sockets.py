"""Socket activation: real inherited sockets, which outlive the service."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import sys

import pytest
from integration.conftest import free_port
from integration.front import site, toml, wait_until
from integration.service import ROOT, service
from lab.servers import require_peer

from proxy.lab.client import probe


@pytest.fixture
def sock():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def stapled(lab):
    with lab.responder():
        yield lab.issue("localhost")


def staple(port, lab):
    return probe("127.0.0.1", port, "localhost", roots=lab.root, request_path="/").staple


def listening_at(sock, site_text, **settings):
    """A configuration with the address of this socket."""
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    return toml(site_text, **settings).replace("127.0.0.1:0", address)


@pytest.mark.slow
def test_workers_share_what_the_manager_has_opened(lab, stapled, backend, tmp_path, sock):
    """Each accepts from it, so none of them can be missed; the queue lasts when all are gone."""
    port = sock.getsockname()[1]
    with service(listening_at(sock, site(backend, stapled), workers=2), tmp_path, sockets=[sock]) as front:
        for _ in range(4):
            assert staple(port, lab) is not None
        front.process.send_signal(1)
        front.wait_for_log("reloaded, generation 2")
        for _ in range(4):
            assert staple(port, lab) is not None
        assert front.stop() == 0
    with socket.create_connection(("127.0.0.1", port)) as client:  # not refused: it waits for the next start
        client.settimeout(20)
        with service(listening_at(sock, site(backend, stapled)), tmp_path, sockets=[sock]):
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400"), "TLS was wanted"


def test_siblings_are_not_bound_beside_it(lab, stapled, backend, tmp_path):
    """With ReusePort=yes, too: clients would wait in the manager's queue while its one worker is replaced."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with service(listening_at(sock, site(backend, stapled), workers=2), tmp_path, sockets=[sock]) as front:
            for _ in range(4):
                assert staple(sock.getsockname()[1], lab) is not None
            command = ["ss", "-Hltn", f"sport = :{sock.getsockname()[1]}"]
            table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert len(table.splitlines()) == 1, front.log


def test_every_kind_of_address(lab, stapled, backend, tmp_path, sock):
    """Those of `listen`, of `redirect.listen`, and the admin socket; what else is configured is opened as ever."""
    admin = tmp_path / "admin.sock"
    own = free_port()
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(admin))
        unix.listen()
        port = plain.getsockname()[1]
        configuration = listening_at(sock, site(backend, stapled))
        configuration = configuration.replace('"]', f'", "127.0.0.1:{own}"]', 1)
        tables = f'[redirect]\nlisten = ["127.0.0.1:{port}"]\n[admin]\nsocket = "{admin}"\n[[site]]'
        configuration = configuration.replace("[[site]]", tables, 1)
        with service(configuration, tmp_path, sockets=[plain, unix, sock]) as front:
            assert staple(sock.getsockname()[1], lab) is not None
            assert staple(own, lab) is not None
            redirected = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            redirected.request("GET", "/")
            assert redirected.getresponse().status == 301
            redirected.close()
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(str(admin))
                client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.0 200")
            assert front.stop() == 0
        assert admin.is_socket(), "it is the manager's, who goes on listening there"


def test_a_socket_for_nothing_is_a_mistake(lab, backend, tmp_path, sock):
    """Clients would wait there for ever. Each is told, with status 2: no restart mends it."""
    address = "{}:{}".format(*sock.getsockname())
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "other"))
        unix.listen()
        configuration = toml(site(backend, lab.issue("localhost")))
        with service(configuration, tmp_path, sockets=[sock, unix]) as front:
            assert front.process.wait(20) == 2
        said = "which the configuration does not have: add it here, or take it out of the unit"
        assert f"listen: the socket unit has opened {address}, {said}\n" in front.log
        assert f"admin.socket: the socket unit has opened {tmp_path}/other, {said}\n" in front.log
        assert "Traceback" not in front.log


def test_one_socket_for_both_families_is_a_mistake(lab, backend, tmp_path):
    """Limits and logs would see IPv4 clients under other addresses than elsewhere."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        configuration = toml(site(backend, lab.issue("localhost"))).replace("127.0.0.1:0", f":{sock.getsockname()[1]}")
        with service(configuration, tmp_path, sockets=[sock]) as front:
            assert front.process.wait(20) == 2
        assert "for IPv4 as well: write BindIPv6Only=ipv6-only in it\n" in front.log


def test_as_systemd_does_it(lab, stapled, backend, tmp_path):
    """With systemd's own tool for trying this out: it starts the service at the first connection."""
    require_peer("systemd-socket-activate")
    port = free_port()
    path = tmp_path / "front.toml"
    path.write_text(toml(site(backend, stapled), workers=2).replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-E", "PATH", sys.executable, "-m", "proxy"]
    command[0] = shutil.which(command[0])
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, "run", path], stdout=log, stderr=log, cwd=ROOT)
    try:
        wait_until(lambda: "Listening on" in (tmp_path / "log").read_text())
        assert staple(port, lab) is not None, (tmp_path / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0
