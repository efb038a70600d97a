"""SIGHUP: a new generation on the same sockets, or all mistakes told and nothing changed."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from integration.clients import curl
from integration.conftest import free_port
from integration.front import children_of, is_alive, run, site, toml, wait_until
from integration.httpd_responder import says_good, scripted
from integration.steady import Load, leaf_and_issuer

from proxy.lab.client import ProbeError, probe

DONE = r"reloaded, generation|reload refused"


@pytest.fixture
def stapled(lab):
    with lab.responder():
        yield lab.issue("localhost")


def reload(front, configuration: str | None = None) -> str:
    """Give it another configuration and SIGHUP; what it has logged until that was over."""
    if configuration is not None:
        (front.log_path.parent / "front.toml").write_text(configuration)
    before, count = len(front.log), len(re.findall(DONE, front.log))
    front.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(re.findall(DONE, front.log)) > count, what=f"a reload in:\n{front.log}\n")
    return front.log[before:]


def look(front, lab, name="localhost", **more):
    return probe("127.0.0.1", front.port, name, roots=lab.root, request_path="/", **more)


def workers_of(front) -> list[int]:
    """Those of all generations that still live."""
    return front.pids("worker")


# What is taken in.


@pytest.mark.slow
def test_certificates_sites_backends_and_workers_are_those_of_the_file(lab, stapled, backend, tmp_path):
    """All at once: another certificate, one site more, more workers, on the same port."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        serial = look(front, lab).leaf.serial_number
        old = workers_of(front)
        other = lab.issue("localhost", "other.example")
        third = site(backend, lab.issue("third.example"))
        said = reload(front, toml(site(backend, other) + third, workers=2))
        assert "reloaded, generation 2: 2 workers accept connections on 127.0.0.1:" in said
        wait_until(lambda: not set(old) & set(workers_of(front)))
        assert len(workers_of(front)) == 2
        result = look(front, lab)
        assert result.leaf.serial_number != serial
        assert result.staple is not None
        assert look(front, lab, "third.example").staple is not None


@pytest.mark.slow
def test_what_is_kept_is_stapled_without_asking_again(lab, stapled, backend, tmp_path):
    """The cache stays as it is, and so does the worker's first handshake."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        first = look(front, lab).staple_der
        for _ in range(3):
            reload(front)
            assert look(front, lab).staple_der == first
        assert '"total": 1' in curl(f"http://127.0.0.1:{lab.port}/-/requests", ca=lab.root).stdout


@pytest.mark.slow
def test_fewer_workers_leave_nobody_in_a_queue(lab, stapled, backend, tmp_path):
    """Who was given to a socket whose worker there is no more is served by another; and again when there are more."""
    with run(tmp_path, toml(site(backend, stapled), workers=3)) as front:
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        with load.running(full=2, kept=1, resumed=0):
            for workers in (1, 2, 3):
                reload(front, toml(site(backend, stapled), workers=workers))
                wait_until(lambda workers=workers: len(workers_of(front)) == workers)
        assert (load.failures, load.without_staple) == ([], [])


def test_an_address_more_and_one_less(lab, stapled, backend, tmp_path):
    """The new one accepts, the old one refuses."""
    ports = [free_port() for _ in range(3)]

    def listening(*which):
        return toml(site(backend, stapled), listen=[f"127.0.0.1:{ports[number]}" for number in which])

    def accepts(number):
        with contextlib.suppress(ProbeError):
            return probe("127.0.0.1", ports[number], "localhost", roots=lab.root).staple is not None
        return False

    with run(tmp_path, listening(0, 1)) as front:
        reload(front, listening(1, 2))
        assert accepts(1)
        assert accepts(2)
        wait_until(lambda: not accepts(0))


def test_the_log_level_is_the_new_one(lab, stapled, backend, tmp_path):
    """In the master too."""
    with run(tmp_path, toml(site(backend, stapled), log_level="error"), until_ready=False) as front:
        wait_until(lambda: len(children_of(front.process.pid)) == 2)
        (tmp_path / "front.toml").write_text(toml(site(backend, stapled)))
        front.process.send_signal(signal.SIGHUP)
        front.wait_for_log(r"INFO master\[\d+\] reloaded, generation 2")
        assert "reading the configuration again" not in front.log


@pytest.mark.slow
@pytest.mark.parametrize("second", ["shmcb:{}(128000)", "shmcb:{}-other", "shmcb:"])
def test_another_cache_is_filled_before_it_is_used(lab, stapled, backend, tmp_path, second):
    """Another size of the same file, another file, none at all: and the file that was left is free for others."""
    first = toml(site(backend, stapled), stapling={"cache": f"shmcb:{tmp_path}/cache(512000)"})
    with run(tmp_path, first) as front:
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        with load.running():
            reload(front, toml(site(backend, stapled), stapling={"cache": second.format(f"{tmp_path}/cache")}))
            assert "reloaded, generation 2" in front.log
            assert look(front, lab).staple is not None
        assert (load.failures, load.without_staple) == ([], [])
        wait_until(lambda: len(children_of(front.process.pid)) == 2)
        if "(128000)" not in second:
            (tmp_path / "second").mkdir()
            with run(tmp_path / "second", first):
                pass


@pytest.mark.slow
def test_an_admin_socket_goes_on_and_another_is_opened(lab, stapled, backend, tmp_path):
    """The same path is never away; a new one is there after the reload, and the old one's file is gone."""

    def ask(path):
        return subprocess.run(
            ["curl", "-s", "--unix-socket", str(path), "http://localhost/healthz"], capture_output=True, check=False
        )

    one, other = tmp_path / "one.sock", tmp_path / "other.sock"
    with run(tmp_path, toml(site(backend, stapled), admin={"socket": str(one)})) as front:
        inode = one.stat().st_ino
        reload(front)
        assert one.stat().st_ino == inode
        assert b"ok" in ask(one).stdout
        reload(front, toml(site(backend, stapled), admin={"socket": str(other)}))
        assert b"ok" in ask(other).stdout
        assert not one.exists()
        reload(front, toml(site(backend, stapled)))
        assert not other.exists()


# What is refused.


def test_all_mistakes_are_told_and_nothing_changes(lab, stapled, backend, tmp_path):
    """Of the file, of a key; then of the machine. The workers are the same as before."""
    with run(tmp_path, toml(site(backend, stapled))) as front, socket.create_server(("127.0.0.1", 0)) as taken:
        children = sorted(children_of(front.process.pid))
        (tmp_path / "broken.key").write_text("no key")
        said = reload(front, "wokers = 1\n" + toml(site(backend, (stapled[0], tmp_path / "broken.key"))))
        for where in ("wokers", r"site\[0\]\.certificate\[0\]\.key"):
            assert re.search(rf"ERROR master\[\d+\] reload: {tmp_path}/front.toml: {where}: ", said), said
        assert "reload refused: nothing was changed, generation 1 goes on" in said

        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = reload(front, toml(site(backend, stapled), listen=["127.0.0.1:0", address]))
        assert f"reload: cannot listen on {address}: another program listens there already" in said
        said = reload(front, toml(site(backend, stapled), access_log={"path": f"{tmp_path}/none/a.log"}))
        assert "reload: access_log.path" in said
        said = reload(front, toml(site(backend, stapled), stapling={"cache": f"shmcb:{tmp_path}/none/cache"}))
        assert "its folder does not exist" in said
        (tmp_path / "front.toml").unlink()
        assert "cannot read the configuration" in reload(front)

        assert sorted(children_of(front.process.pid)) == children
        assert look(front, lab).staple is not None
        assert "Traceback" not in front.log
        # And what is right again is taken in.
        assert "reloaded, generation 2" in reload(front, toml(site(backend, stapled)))


@pytest.mark.slow
def test_a_reload_for_which_descriptors_do_not_suffice_is_refused(lab, stapled, backend, tmp_path):
    """Wherever they run out: a sentence says so, no traceback, and who served serves on."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        master = front.process.pid
        opened = max(int(each.name) for each in Path(f"/proc/{master}/fd").iterdir()) + 1
        (worker,) = workers_of(front)
        for more in range(40):
            resource.prlimit(master, resource.RLIMIT_NOFILE, (opened + more, 4096))
            said = reload(front, toml(site(backend, stapled), workers=3))
            assert "Traceback" not in said
            if "reloaded" in said:
                break
            assert "not ready within" not in said
            wait_until(lambda: front.pids("keeper") and workers_of(front) == [worker])
        assert more > 3
        assert "reloaded" in said
        assert "Too many open files" in front.log
        assert "[Errno" not in front.log


@pytest.mark.slow
def test_a_thousand_signals_are_a_few_reloads(lab, stapled, backend, tmp_path):
    """The last of them is obeyed: what the file says then is what is served."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        for number in range(1_000):
            if number == 900:
                (tmp_path / "front.toml").write_text(toml(site(backend, stapled), workers=3))
            front.process.send_signal(signal.SIGHUP)
        front.wait_for_log("3 workers accept", 20)
        wait_until(lambda: len(children_of(front.process.pid)) == 4)
        assert len(re.findall("reading the configuration again", front.log)) < 10
        assert look(front, lab).staple is not None


def test_a_cache_of_another_size_is_as_it_was_when_the_reload_is_refused(lab, stapled, backend, tmp_path):
    """Its file was set aside for the new one, and is put back."""
    cache = tmp_path / "cache"

    def configuration(size, **more):
        return toml(site(backend, stapled), stapling={"cache": f"shmcb:{cache}({size})"}, **more)

    with run(tmp_path, configuration(512000)) as front, socket.create_server(("127.0.0.1", 0)) as taken:
        inode = cache.stat().st_ino
        listen = ["127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"]
        assert "refused" in reload(front, configuration(128000, listen=listen))
        assert cache.stat().st_ino == inode
        assert list(tmp_path.glob("cache.bad-*")) == []
        assert look(front, lab).staple is not None


def test_a_generation_that_does_not_come_up_is_rolled_back(lab, stapled, backend, tmp_path):
    """Its keeper is killed as often as it starts: the old one is started again, and the old workers never stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a responder that never answers: the warm-up takes its time
        chain = lab.issue("slow.example", with_uri=False)
        slow = site(backend, chain, stapling={"responder_url": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        with run(tmp_path, toml(site(backend, stapled))) as front:
            load = Load(front.port, leaf_and_issuer(stapled[0]))
            old = workers_of(front)
            with load.running(full=1, kept=1, resumed=0):
                (tmp_path / "front.toml").write_text(toml(site(backend, stapled) + slow))
                (keeper,) = front.pids("keeper")
                front.process.send_signal(signal.SIGHUP)
                (next_one,) = wait_until(lambda: [pid for pid in front.pids("keeper") if pid != keeper])
                os.kill(next_one, signal.SIGKILL)
                front.wait_for_log("reload refused: nothing was changed", 20)
                wait_until(lambda: len(front.pids("keeper")) == 1)
                assert workers_of(front) == old
                assert "reload: the keeper did not come up" in front.log
                assert look(front, lab).staple is not None
            assert (load.failures, load.without_staple) == ([], [])


def test_signals_during_a_reload_are_remembered_once(lab, stapled, backend, tmp_path):
    """Ten in a row: one reload after the one under way takes in what the last of them wanted."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        (tmp_path / "front.toml").write_text(toml(site(backend, lab.issue("localhost")), workers=2))
        for _ in range(10):
            front.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "2 workers accept" in front.log)
        wait_until(lambda: len(children_of(front.process.pid)) == 3)
        assert len(re.findall("reading the configuration again", front.log)) <= 3


@pytest.mark.slow
def test_a_signal_during_a_reload_is_obeyed_when_nothing_else_happens_after_it(lab, stapled, backend, tmp_path):
    """The old workers stay, with an idle connection each: nobody's end wakes the master."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        chain = lab.issue("slow.example", with_uri=False)
        slow = site(backend, chain, stapling={"responder_url": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        warmup = {"warmup_timeout_s": 1}
        with run(tmp_path, toml(site(backend, stapled), stapling=warmup)) as front, connect(front, lab) as idle:
            (keeper,) = front.pids("keeper")
            (tmp_path / "front.toml").write_text(toml(site(backend, stapled) + slow, stapling=warmup))
            front.process.send_signal(signal.SIGHUP)
            wait_until(lambda: [pid for pid in front.pids("keeper") if pid != keeper])
            (tmp_path / "front.toml").write_text(toml(site(backend, stapled), workers=2))
            front.process.send_signal(signal.SIGHUP)
            front.wait_for_log("reloaded, generation 3: 2 workers", 15)
            assert b"connection: close" in ask(idle)


def test_a_stop_in_the_middle_of_a_reload_is_obeyed(lab, stapled, backend, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        chain = lab.issue("slow.example", with_uri=False)
        slow = site(backend, chain, stapling={"responder_url": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        with run(tmp_path, toml(site(backend, stapled))) as front:
            (keeper,) = front.pids("keeper")
            (tmp_path / "front.toml").write_text(toml(site(backend, stapled) + slow))
            front.process.send_signal(signal.SIGHUP)
            wait_until(lambda: [pid for pid in front.pids("keeper") if pid != keeper])
            children = children_of(front.process.pid)
            begin = time.monotonic()
            assert front.stop() == 0
            assert time.monotonic() - begin < 8
            assert not any(is_alive(pid) for pid in children)


# While much is read.


def many(stapled, backend, count=800) -> str:
    """As many sites: to read them takes seconds."""
    return "".join(site(backend, stapled, names=[f"s{number}.example"]) for number in range(count))


@pytest.mark.slow
def test_a_worker_that_dies_while_many_sites_are_read_is_replaced_at_once(lab, stapled, backend, tmp_path):
    """The master looks after those who serve between two sites."""
    few = toml(site(backend, stapled))
    with run(tmp_path, few) as front:
        (tmp_path / "front.toml").write_text(few + many(stapled, backend))
        (worker,) = workers_of(front)
        front.process.send_signal(signal.SIGHUP)
        front.wait_for_log("reading the configuration again")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: front.log.count("worker-0") >= 3)
        assert "reloaded" not in front.log
        front.wait_for_log("reloaded, generation 2", 30)


@pytest.mark.slow
def test_a_stop_while_many_sites_are_read_is_obeyed_at_once(lab, stapled, backend, tmp_path):
    """What is being built is of no use any more."""
    few = toml(site(backend, stapled))
    with run(tmp_path, few) as front:
        (tmp_path / "front.toml").write_text(few + many(stapled, backend))
        front.process.send_signal(signal.SIGHUP)
        front.wait_for_log("reading the configuration again")
        assert front.stop() == 0
        assert len(re.findall(r"keeper\[\d+\] started", front.log)) == 1
        assert "Traceback" not in front.log


# What is open.


@pytest.fixture
def slow_backend():
    """Answers each request when told to; gives (URL, number asked so far, the gate)."""
    gate, asked = threading.Event(), []

    def serve(sock):
        with sock:
            while sock.recv(65536):
                asked.append(1)
                gate.wait(30)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    def accept():
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(sock,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked, gate
        gate.set()
        listening.shutdown(socket.SHUT_RDWR)


def connect(front, lab):
    return ssl.create_default_context(cafile=lab.root).wrap_socket(
        socket.create_connection(("127.0.0.1", front.port), timeout=20), server_hostname="localhost"
    )


def ask(connection) -> bytes:
    """Send a request; gives the head of the answer."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.recv(65536).lower()


@pytest.mark.slow
def test_an_idle_connection_has_one_request_more(lab, stapled, backend, tmp_path):
    """Whoever sends in the moment of the reload loses nothing: the answer says that it was the last."""
    with run(tmp_path, toml(site(backend, stapled))) as front, connect(front, lab) as idle, connect(front, lab) as used:
        assert b"connection: close" not in ask(used)
        (old,) = workers_of(front)
        reload(front)
        for connection in (idle, used):
            assert is_alive(old)
            assert b"connection: close" in ask(connection)
        wait_until(lambda: not is_alive(old))


@pytest.mark.slow
def test_an_answer_under_way_says_that_it_is_the_last(lab, stapled, slow_backend, tmp_path):
    """The request came before the reload, its answer begins after it."""
    url, asked, gate = slow_backend
    with run(tmp_path, toml(site(url, stapled))) as front, connect(front, lab) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: asked)
        (old,) = workers_of(front)
        reload(front)
        assert is_alive(old)
        gate.set()
        assert b"connection: close" in connection.recv(65536).lower()
        wait_until(lambda: not is_alive(old))


def test_handshakes_that_wait_for_a_staple_are_answered_by_the_next_keeper(lab, backend, tmp_path):
    """As in Apache: what was asked of the keeper that ended is asked again, of the one that knows both generations."""
    pair = lab.issue("localhost")
    configuration = toml(site(backend, pair), workers=2, stapling={"profile": "httpd-2.4"})
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration) as front,
        ThreadPoolExecutor() as pool,
    ):
        responder.gate.clear()
        results = [pool.submit(look, front, lab, timeout_s=30) for _ in range(4)]
        wait_until(lambda: responder.requests)
        old = workers_of(front)
        reload(front)
        responder.gate.set()
        assert all(result.result().staple_der is not None for result in results)
        wait_until(lambda: not set(old) & set(workers_of(front)))
        assert look(front, lab).staple_der is not None


@pytest.mark.slow
def test_the_old_ones_have_a_deadline(lab, stapled, slow_backend, tmp_path):
    """What is still open then is cut, and an idle connection closed; the new ones go on."""
    url, asked, _ = slow_backend
    configuration = toml(site(url, stapled), drain_timeout_s=2)
    with run(tmp_path, configuration) as front, connect(front, lab) as busy, connect(front, lab) as idle:
        busy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: asked)
        (old,) = workers_of(front)
        reload(front)
        assert idle.recv(100) == b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert busy.recv(100) == b""
        wait_until(lambda: not is_alive(old))
        assert "1 connections cut" in front.log


@pytest.mark.slow
def test_old_generations_do_not_pile_up(lab, stapled, backend, tmp_path):
    """Each has an idle connection: of more than eight the oldest is cut, and says so."""
    with run(tmp_path, toml(site(backend, stapled))) as front, contextlib.ExitStack() as stack:
        idle = []
        for _ in range(10):
            idle.append(stack.enter_context(connect(front, lab)))
            reload(front)
        front.wait_for_log("more than 8 earlier generations have something open: the oldest is cut")
        wait_until(lambda: len(workers_of(front)) <= 9)
        assert idle[0].recv(100) == b""
        assert b"connection: close" in ask(idle[-1])


# Files that are replaced.


@pytest.mark.slow
def test_a_renewed_certificate_is_taken_in_by_itself(lab, stapled, backend, tmp_path):
    """As certbot does it: links are turned, one after the other."""
    live = tmp_path / "live"
    live.mkdir()

    numbers = itertools.count()

    def turn(*files):
        for file in files:
            kept = live / f"{next(numbers)}{file.suffix}"
            shutil.copy(file, kept)
            new = live / "new"
            new.symlink_to(kept)
            new.rename(live / f"live{file.suffix}")

    turn(*stapled)
    configuration = toml(site(backend, (live / "live.pem", live / "live.key")), reload={"watch_certificates_s": 0.2})
    with run(tmp_path, configuration) as front:
        before = look(front, lab).leaf.serial_number
        turn(*lab.issue("localhost"))
        front.wait_for_log("certificates or keys have changed")
        front.wait_for_log("reloaded, generation 2")
        result = look(front, lab)
        assert result.leaf.serial_number != before
        assert result.staple is not None

        # A key that does not fit is a mistake, told once; the next change is tried again.
        chain, key = lab.issue("localhost")
        turn(chain)
        front.wait_for_log("reload refused")
        turn(key)
        front.wait_for_log("reloaded, generation 3")
        assert front.log.count("reload refused") == 1
