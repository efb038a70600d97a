"""What the service manager is told, and the sockets it hands over: with real sockets."""

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest

from proxy.errors import StartError
from proxy.systemd import Manager, address_text, inherited

ME = 4321


@contextlib.contextmanager
def listening_manager(address):
    """The other end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(5)
        yield sock


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    """Both kinds that sd_notify(3) knows."""
    return str(tmp_path / "notify") if request.param == "path" else f"@stapleproxy-test-{os.getpid()}"


def told(sock):
    return dict(line.partition("=")[::2] for line in sock.recv(4096).decode().splitlines())


def test_what_is_told(address):
    """Each message is one datagram, with the times in microseconds."""
    with listening_manager(address) as sock:
        manager = Manager(address)
        manager.starting("fetching", 20.5)
        assert told(sock) == {"STATUS": "fetching", "EXTEND_TIMEOUT_USEC": "20500000"}
        manager.ready("two\nlines")
        assert told(sock) == {"READY": "1", "STATUS": "two?lines"}
        before = time.monotonic_ns() // 1000
        manager.reloading(3)
        message = told(sock)
        assert before <= int(message.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
        assert message == {"RELOADING": "1", "STATUS": "reloading", "EXTEND_TIMEOUT_USEC": "3000000"}
        manager.alive()
        assert told(sock) == {"WATCHDOG": "1"}
        manager.successor(77, "serving")
        assert told(sock) == {"MAINPID": "77", "STATUS": "serving"}
        manager.stopping(30)
        assert told(sock) == {
            "STOPPING": "1",
            "STATUS": "finishing open requests",
            "EXTEND_TIMEOUT_USEC": "30000000",
        }


def test_the_variables_are_taken_away():
    """Whatever the keeper runs must not find them."""
    environment = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(ME), "PATH": "/bin"}
    assert Manager.from_environment(environment, ME) == Manager("/run/n", 30.0)
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Manager()),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, Manager()),
        ({"NOTIFY_SOCKET": "relative"}, Manager()),
        ({"WATCHDOG_USEC": "1000000"}, Manager()),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1000000"}, Manager("@n", 1.0)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, Manager("@n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "0"}, Manager("@n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "soon"}, Manager("@n")),
    ],
)
def test_what_the_variables_say(variables, expected):
    """A watchdog that is for another process, or is no time, is not fed."""
    assert Manager.from_environment(variables, ME) == expected


def test_a_successor_finds_the_same_manager():
    """A new version of the program on the same sockets is the same service."""
    for manager in (Manager(), Manager("/run/n"), Manager("@n", 1.5)):
        assert Manager.from_environment(manager.environment(77), 77) == manager


def test_a_manager_that_is_gone_is_a_warning(tmp_path, caplog):
    """Serving goes on."""
    Manager(str(tmp_path / "gone")).ready("on")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "the service manager could not be told READY=1: No such file" in record.getMessage()


def test_without_a_manager_nobody_is_told(caplog):
    """Started from a shell."""
    Manager().ready("on")
    assert not caplog.records


# --- sockets


_TAKE = """
import os, sys
from proxy.errors import StartError
from proxy.systemd import address_text, inherited
try:
    for sock in inherited(os.environ, os.getpid()):
        print(address_text(sock), sock.getblocking(), os.get_inheritable(sock.fileno()))
except StartError as error:
    print(error)
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
"""


def take(sockets, **variables):
    """What a process says that was started with these sockets as descriptors 3, 4 …"""

    def hand_over():
        # Descriptors that are in the way are first moved out of it.
        moved = [os.dup2(sock.fileno(), 100 + number) for number, sock in enumerate(sockets)]
        for number, fd in enumerate(moved):
            os.dup2(fd, 3 + number)

    script = f"import os; os.environ['LISTEN_PID'] = os.environ['LISTEN_PID'] or str(os.getpid())\n{_TAKE}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LISTEN_PID": "", "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "a", **variables},
        close_fds=False,
        preexec_fn=hand_over,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture
def sockets(tmp_path):
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))]
        made.append(stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "admin"))
        unix.listen()
        yield [*made, unix]


def test_sockets_are_taken_over(sockets, tmp_path):
    """In their order, ready for an event loop, and not for commands that are run; the variables are gone."""
    ports = [sock.getsockname()[1] for sock in sockets[:2]]
    assert take(sockets) == [
        f"127.0.0.1:{ports[0]} False False",
        f"[::1]:{ports[1]} False False",
        f"{tmp_path / 'admin'} False False",
        "[]",
    ]


def test_sockets_for_another_process_are_left_alone(sockets):
    """LISTEN_PID says whom they are for; an environment is inherited by mistake easily."""
    assert take(sockets, LISTEN_PID="1") == ["[]"]


def test_what_is_no_listening_socket_is_told(sockets):
    """One sentence that says what to write."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        (told_, _) = take([sockets[0], datagram])
    assert told_.endswith("(descriptor 4): write ListenStream= and Accept=no in it")
    (told_, _) = take(sockets[:1], LISTEN_FDS="2")
    assert told_ == "LISTEN_FDS promises a socket as descriptor 4, and there is none"


@pytest.mark.parametrize("count", ["many", "-1", "99999"])
def test_a_number_of_sockets_that_is_none(count):
    """It is the environment's mistake, and no traceback."""
    with pytest.raises(StartError, match="LISTEN_FDS is"):
        inherited({"LISTEN_PID": str(ME), "LISTEN_FDS": count}, ME)


def test_addresses_are_written_as_in_the_configuration(sockets):
    """So that whoever compares them with `listen` sees the difference."""
    assert address_text(sockets[0]).startswith("127.0.0.1:")
    assert address_text(sockets[1]).startswith("[::1]:")
