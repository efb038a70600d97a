"""Master, keeper and workers: what dies is replaced, what stops stops in order, and nothing stays behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from integration.clients import curl
from integration.conftest import free_port
from integration.front import children_of, is_alive, run, site, toml, wait_until

from proxy.lab.client import ProbeError, probe


@pytest.fixture
def stapled(lab):
    with lab.responder():
        yield lab.issue("localhost")


def staple(front, lab):
    return probe("127.0.0.1", front.port, "localhost", roots=lab.root, request_path="/").staple


def test_a_killed_worker_is_replaced_and_the_other_goes_on(lab, stapled, backend, tmp_path):
    """And the new one staples from the same memory."""
    with run(tmp_path, toml(site(backend, stapled), workers=2)) as front:
        victim = front.pids("worker")[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in front.pids("worker") and len(front.pids("worker")) == 2)
        front.wait_for_log(r"worker-0\[\d+\] was ended by SIGKILL; replaced in")
        for _ in range(8):
            assert staple(front, lab) is not None


def test_a_worker_gives_the_master_no_orders(lab, stapled, backend, tmp_path):
    """Of all pipes that it shares with the master, it writes to one alone: on it the keeper hears what is missed."""

    def pipes(pid, flags):
        found = set()
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                name, told = str(fd.readlink()), Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text()
                if name.startswith("pipe:") and int(re.search(r"flags:\s+(\d+)", told)[1], 8) & 0o3 in flags:
                    found.add(name)
        return found

    with run(tmp_path, toml(site(backend, stapled), admin={"socket": str(tmp_path / "admin.sock")})) as front:
        (worker,), (keeper,) = front.pids("worker"), front.pids("keeper")
        of_master = pipes(front.process.pid, {os.O_RDONLY, os.O_WRONLY})
        assert len(of_master & pipes(keeper, {os.O_WRONLY})) == 2, "orders, and what is missed"
        assert len(of_master & pipes(worker, {os.O_WRONLY})) == 1


@pytest.mark.slow
def test_while_a_worker_is_not_replaced_the_other_has_all_clients(lab, stapled, backend, tmp_path):
    """It dies again and again, so the pause grows; nobody is left to wait for it in its queue, and it comes back."""
    with run(tmp_path, toml(site(backend, stapled), workers=2)) as front:
        for number in range(4):
            victim = int(re.findall(r"worker-0\[(\d+)\] started", front.log)[number])
            os.kill(victim, signal.SIGKILL)
            if number < 3:
                wait_until(lambda number=number: len(re.findall(r"worker-0\[\d+\] started", front.log)) == number + 2)
        wait_until(lambda: "replaced in 0.8 s" in front.log)
        for _ in range(12):
            assert staple(front, lab) is not None
        assert len(re.findall(r"worker-0\[\d+\] started", front.log)) == 4, "all within the pause"
        wait_until(lambda: len(front.pids("worker")) == 2)
        for _ in range(8):
            assert staple(front, lab) is not None


@pytest.mark.slow
def test_without_a_keeper_the_workers_go_on_stapling(lab, stapled, backend, tmp_path):
    """The keeper is killed again and again; its successor finds the responses in the cache and asks for nothing."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        for _ in range(3):
            (keeper,) = wait_until(lambda: front.pids("keeper"))
            os.kill(keeper, signal.SIGKILL)
            assert staple(front, lab) is not None
            wait_until(lambda keeper=keeper: front.pids("keeper") and front.pids("keeper") != [keeper])
        wait_until(lambda: len(re.findall("from the cache", front.log)) >= 1)
        assert '"total": 1' in curl(f"http://127.0.0.1:{lab.port}/-/requests", ca=lab.root).stdout


def test_a_cache_file_cut_short_costs_one_restart(lab, stapled, backend, tmp_path):
    """What touches the memory behind the file's end dies; the file is made whole before the next one starts."""
    stapling = {"cache": f"shmcb:{tmp_path / 'cache'}"}
    with run(tmp_path, toml(site(backend, stapled), stapling=stapling)) as front:
        assert staple(front, lab) is not None
        os.truncate(tmp_path / "cache", 0)

        def is_mended_and_stapled():
            with contextlib.suppress(ProbeError):
                return staple(front, lab) is not None and "the stapling cache's file was cut short" in front.log

        wait_until(is_mended_and_stapled)
        deaths = front.log.count("SIGBUS")
        for _ in range(8):
            assert staple(front, lab) is not None
        assert front.log.count("SIGBUS") == deaths <= 2


def test_the_pause_before_a_replacement_grows(lab, stapled, backend, tmp_path):
    """A child that cannot live must not keep the machine busy with starting it."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        for number in range(3):
            (worker,) = wait_until(lambda: front.pids("worker"))
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda number=number: len(re.findall("worker-0.* replaced in", front.log)) == number + 1)
        pauses = [float(each) for each in re.findall(r"worker-0.* replaced in ([\d.]+) s", front.log)]
        assert pauses == [0.1, 0.2, 0.4]


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True])
def test_no_orphan_stays_when_the_master_is_killed(lab, stapled, backend, tmp_path, busy):
    """kill -9 on the master: the children notice and leave, and the port is free for the next."""
    configuration = toml(site(backend, stapled), workers=2, drain_timeout_s=2)
    with run(tmp_path, configuration) as front:
        children = children_of(front.process.pid)
        assert len(children) == 3
        open_connection = socket.create_connection(("127.0.0.1", front.port)) if busy else None
        front.process.kill()
        front.process.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in children), 8, "the children's end")
        if open_connection:
            open_connection.close()
        assert "the master is gone" in front.log


@pytest.fixture
def slow_backend():
    """Answers each request when told to; gives (port, number asked so far, the gate)."""
    gate, asked = threading.Event(), []

    def serve(sock):
        with sock:
            sock.recv(65536)
            asked.append(1)
            gate.wait(30)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    def accept():
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(sock,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        yield listening.getsockname()[1], asked, gate
        gate.set()
        listening.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def request(port, root):
    """Send a request; gives the connection, whose answer is yet to come."""
    connection = http.client.HTTPSConnection(
        "localhost", port, context=ssl.create_default_context(cafile=root), timeout=20
    )
    connection.request("GET", "/")
    return connection


def is_refused(port: int) -> bool:
    """Refused by the kernel, at once: not accepted and left to wait."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, 3])
def test_sigterm_lets_open_requests_finish(lab, stapled, slow_backend, tmp_path, workers):
    """New connections are refused meanwhile, idle ones closed at once, and the status is 0."""
    port, asked, gate = slow_backend
    with run(tmp_path, toml(site(f"http://127.0.0.1:{port}", stapled), workers=workers)) as front:
        connection = request(front.port, lab.root)
        wait_until(lambda: asked)
        idle = ssl.create_default_context(cafile=lab.root).wrap_socket(
            socket.create_connection(("127.0.0.1", front.port), timeout=10), server_hostname="localhost"
        )
        front.process.terminate()
        assert idle.recv(100) == b""
        idle.close()

        wait_until(lambda: is_refused(front.port))
        assert front.process.poll() is None
        gate.set()
        assert connection.getresponse().read() == b"done"
        connection.close()
        assert front.process.wait(10) == 0


@pytest.mark.slow
def test_the_drain_has_a_deadline(lab, stapled, slow_backend, tmp_path):
    """A request that takes longer is cut, and the log says so."""
    port, asked, _ = slow_backend
    with run(tmp_path, toml(site(f"http://127.0.0.1:{port}", stapled), drain_timeout_s=1)) as front:
        connection = request(front.port, lab.root)
        wait_until(lambda: asked)
        begin = time.monotonic()
        assert front.stop() == 0
        assert 0.5 < time.monotonic() - begin < 6
        with pytest.raises((ConnectionError, ssl.SSLError, http.client.HTTPException)):
            connection.getresponse()
        connection.close()
        assert "1 connections cut" in front.log


def test_sigint_ends_it_as_ctrl_c_should(lab, stapled, slow_backend, tmp_path):
    """Once: as SIGTERM, with the status that shells expect. Twice: at once, whatever is open."""
    port, asked, _ = slow_backend
    configuration = toml(site(f"http://127.0.0.1:{port}", stapled))
    with run(tmp_path, configuration) as front:
        assert front.stop(signal.SIGINT) == 130
    with run(tmp_path, configuration) as front:
        children = children_of(front.process.pid)
        connection = request(front.port, lab.root)
        wait_until(lambda: asked)
        front.process.send_signal(signal.SIGINT)
        front.wait_for_log("stopping")
        begin = time.monotonic()
        assert front.stop(signal.SIGINT) == 130
        assert time.monotonic() - begin < 5
        assert not any(is_alive(pid) for pid in children)
        connection.close()


def test_a_signal_in_the_middle_of_the_start_is_obeyed(lab, backend, tmp_path):
    """SIGTERM while the first fetches are under way: it stops, without having served."""
    with socket.create_server(("127.0.0.1", lab.port)):
        configuration = toml(site(backend, lab.issue("localhost")), stapling={"warmup_timeout_s": 30})
        with run(tmp_path, configuration, until_ready=False) as front:
            front.wait_for_log(r"keeper\[\d+\] started")
            begin = time.monotonic()
            assert front.stop() == 0
            assert time.monotonic() - begin < 5
            assert "ready" not in front.log


# Mistakes that only the machine can tell.


def fails(tmp_path, configuration: str) -> str:
    """Run what cannot start; what it says, which is one sentence and no traceback."""
    path = tmp_path / "broken.toml"
    path.write_text(configuration)
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "run", str(path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_in_use_is_said(lab, stapled, backend, tmp_path):
    """By any program, by another stapleproxy of the same user too, although that one shares its port among workers."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = fails(tmp_path, toml(site(backend, stapled), listen=[f"127.0.0.1:{port}"]))
        assert f"cannot listen on 127.0.0.1:{port}: another program listens there already" in said
    with run(tmp_path, toml(site(backend, stapled))) as front:
        said = fails(tmp_path, toml(site(backend, stapled), listen=[f"127.0.0.1:{front.port}"]))
        assert "another program listens there already" in said
        assert curl(f"https://localhost:{front.port}/", ca=lab.root).returncode == 0


def test_an_address_of_another_machine_is_said(stapled, backend, tmp_path):
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    said = fails(tmp_path, toml(site(backend, stapled), listen=["192.0.2.1:8443"]))
    assert "cannot listen on 192.0.2.1:8443: this machine has no such address" in said


def test_a_port_that_needs_rights_is_said():
    """Asked for by a user without them: in a child that gives up root's, if it has them."""
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if limit <= 1:
        pytest.skip("this machine lets anybody have any port")
    # Everything is imported before the rights are given up, since the interpreter may be where only root can read.
    program = """
import encodings.idna, os
from proxy.errors import StartError
from proxy.listening import open_ports
from proxy.settings.values import ListenAddress
if os.getuid() == 0:
    os.setuid(65534)
try:
    open_ports([ListenAddress("127.0.0.1", 1)], 1, {})
except StartError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert "cannot listen on 127.0.0.1:1: permission denied; ports below 1024 need root" in done.stdout


def test_a_cache_file_in_use_is_said(lab, stapled, backend, tmp_path):
    """Two instances on one file would write over each other."""
    stapling = {"cache": f"shmcb:{tmp_path}/staples(128000)"}
    with run(tmp_path, toml(site(backend, stapled), stapling=stapling)) as front:
        said = fails(tmp_path, toml(site(backend, stapled), stapling=stapling, listen=[f"127.0.0.1:{free_port()}"]))
        assert "staples" in said
        assert staple(front, lab) is not None


def test_a_killed_instance_does_not_keep_its_cache_file(lab, stapled, slow_backend, tmp_path):
    """Although its workers still finish what is open: the next one starts at once."""
    port, asked, gate = slow_backend
    configuration = toml(site(f"http://127.0.0.1:{port}", stapled), stapling={"cache": f"shmcb:{tmp_path}/s(128000)"})
    with run(tmp_path, configuration) as front:
        connection = request(front.port, lab.root)
        wait_until(lambda: asked)
        workers, keepers = front.pids("worker"), front.pids("keeper")
        front.process.kill()
        front.process.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in keepers), 8, "the keeper's end")
        assert all(is_alive(pid) for pid in workers)
        (tmp_path / "second").mkdir()
        with run(tmp_path / "second", configuration) as second:
            assert probe("127.0.0.1", second.port, "localhost", roots=lab.root).staple is not None
        gate.set()
        assert connection.getresponse().read() == b"done"
        connection.close()
        wait_until(lambda: not any(is_alive(pid) for pid in workers), 8, "the workers' end")
