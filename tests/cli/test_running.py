"""Commands for a running stapleproxy: whom they ask, and what they say when nobody answers, or not well."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest
from cli.admin_socket import admin_socket
from click.testing import CliRunner

from proxy.cli import adminclient, main
from proxy.cli.adminclient import NotAnsweredError, ask
from proxy.cli.running import CONFIG_VARIABLE, SOCKET_VARIABLE

NOBODY = 65534
NEWS = {
    "generation": 1,
    "started": "2026-03-01T12:00:00Z",
    "reloads": 0,
    "last_reload": None,
    "master_pid": 1,
    "config": "x.toml",
}


def run(*arguments, **environment):
    given = {SOCKET_VARIABLE: None, CONFIG_VARIABLE: None} | environment
    result = CliRunner(env=given).invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", [["status"], ["reload"], ["stop"], ["staples", "refresh", "--all"]])
def test_which_one_is_meant_must_be_said(command):
    """And how to say it."""
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert "which stapleproxy is meant? Say it by one of: FILE, --socket PATH, STAPLEPROXY_CONFIG" in err


def test_whom_a_command_asks(tmp_path):
    """The socket that is given, the one that the file names, relative to its folder; then what the environment says."""
    config = tmp_path / "x.toml"
    config.write_text('listen = ["nonsense"]\n[admin]\nsocket = "s"\n')
    with admin_socket(
        tmp_path / "s", **{"POST /api/stop": [(503, {"error": "the master takes no orders now"})]}
    ) as one:
        for arguments, environment in (
            (["--socket", one.path], {}),
            ([config], {SOCKET_VARIABLE: "/nowhere"}),
            (["--socket", one.path, config.with_name("no.toml")], {}),
            ([], {SOCKET_VARIABLE: str(one.path), CONFIG_VARIABLE: "/nowhere.toml"}),
            ([], {CONFIG_VARIABLE: str(config)}),
        ):
            status, _, err = run("stop", *arguments, **environment)
            assert (status, err) == (1, f"admin.socket {one.path}: the master takes no orders now\n")
    assert len(one.asked) == 5


@pytest.mark.parametrize("command", ["status", "reload", "stop"])
@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        (
            "x.toml",
            "workers = 1\n",
            "x.toml: admin.socket: is not set, so there is nobody to ask: add [admin] with socket",
        ),
        ("x.toml", "workers = \n", "x.toml:1:11: not TOML"),
        ("x.conf", "Listen 443\n", "a file of Apache's names no admin socket: make TOML"),
        ("no.toml", None, "no.toml: "),
    ],
)
def test_a_configuration_that_names_no_socket(tmp_path, command, name, text, what):
    """It says what to add."""
    if text is not None:
        (tmp_path / name).write_text(text)
    status, out, err = run(command, tmp_path / name)
    assert (status, out) == (2, "")
    assert what in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [["status"], ["reload"], ["stop"], ["staples", "show"], ["staples", "refresh", "--all"]]
)
def test_when_nobody_answers_it_is_one_sentence_and_status_1(tmp_path, command):
    """No such file; nobody who listens; another kind of file; a name too long; another program."""
    gone = tmp_path / "gone"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(gone))
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "other"))
        for path, what in (
            (tmp_path / "none", "No such file or directory: is stapleproxy running with this configuration?"),
            (gone, "nobody listens there: is stapleproxy running with this configuration?"),
            (tmp_path / "file", "nobody listens there: "),
            (tmp_path / ("x" * 200), "AF_UNIX path too long"),
            (tmp_path / "other", "this socket is another program's"),
        ):
            status, out, err = run(*command, "--socket", path)
            assert (status, out) == (1, "")
            assert err.startswith(f"admin.socket {path}: {what}")
            assert len(err.splitlines()) == 1


def test_a_socket_that_may_not_be_opened(tmp_path):
    """It says whose it is. Root may open every socket, and is somebody else here."""
    is_root = os.geteuid() == 0
    with admin_socket(tmp_path / "s") as served:
        served.path.chmod(0)
        if is_root:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(NotAnsweredError, match="permission denied: only the user that it runs as may open it"):
                ask(served.path, "/x")
        finally:
            if is_root:
                os.seteuid(0)


@pytest.mark.parametrize("reply", [b"hello", b"", b"[1]", b"\xff\xfe", b"[" * 200_000])
def test_what_is_no_stapleproxy(tmp_path, reply):
    """Whatever it says."""
    with (
        admin_socket(tmp_path / "s", **{"GET /x": [(200, reply)]}) as served,
        pytest.raises(NotAnsweredError, match="what answers there is no stapleproxy"),
    ):
        ask(served.path, "/x")


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silence", "body", "head", "heads"],
)
def test_no_answer_takes_longer_than_it_may(tmp_path, begin, more):
    """Of one that says nothing, or a little again and again."""
    is_over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def trickle():
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(begin)
                while not is_over.wait(0.05):
                    client.sendall(more)

        thread = threading.Thread(target=trickle)
        thread.start()
        # One that never gives up must not hold up all tests.
        guard = threading.Timer(20, is_over.set)
        guard.start()
        try:
            with pytest.raises(NotAnsweredError, match=r"no answer within 0\.4 s"):
                ask(tmp_path / "s", "/x", timeout_s=0.4)
        finally:
            guard.cancel()
            is_over.set()
            thread.join()


def test_no_answer_is_longer_than_it_may_be(tmp_path, monkeypatch):
    """Of one that never ends."""
    monkeypatch.setattr(adminclient, "MAX_ANSWER_BYTES", 1000)
    with (
        admin_socket(tmp_path / "s", **{"GET /x": [(200, b"x" * 1001)]}) as served,
        pytest.raises(NotAnsweredError, match="too long"),
    ):
        ask(served.path, "/x")


def reloading(*outcomes):
    """A proxy whose reload ends so, after some looks."""
    return {"GET /api/reload": [(200, NEWS), *outcomes], "POST /api/reload": [(202, {"ordered": "reload"})]}


def test_a_reload_that_is_taken_in(tmp_path):
    """It waits until the master says so, also while the keeper, who answers, is replaced."""
    done = NEWS | {
        "generation": 2,
        "reloads": 1,
        "last_reload": {"at": "2026-03-01T13:00:00Z", "ok": True, "mistakes": []},
    }
    with admin_socket(tmp_path / "s", **reloading((200, NEWS), (500, b""), (200, done))) as served:
        assert run("reload", "--socket", served.path) == (0, "generation 2 serves\n", "")
    assert [what for what, _ in served.asked[:2]] == ["GET /api/reload", "POST /api/reload"]


def test_a_reload_with_mistakes(tmp_path):
    """All of them are told as `check` does, with its status."""
    last = {"at": "2026-03-01T13:00:00Z", "ok": False, "mistakes": ["x.toml: listen: one", "x.toml: workers: two"]}
    with admin_socket(tmp_path / "s", **reloading((200, NEWS | {"reloads": 1, "last_reload": last}))) as served:
        assert run("reload", "--socket", served.path) == (2, "", "x.toml: listen: one\nx.toml: workers: two\n")


def test_a_reload_that_does_not_end(tmp_path):
    """It waits no longer than it was told to."""
    with admin_socket(tmp_path / "s", **reloading((200, NEWS))) as served:
        status, out, err = run("reload", "--socket", served.path, "--timeout-s", "0.3")
    assert (status, out, err) == (1, "", "the reload did not end within 0.3 s: its log tells more\n")


def test_stop_waits_until_it_is_gone(tmp_path):
    """Until the socket is."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)

        def end():
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
            for _ in range(3):  # looks that find it still there
                listening.accept()[0].close()
            listening.close()

        thread = threading.Thread(target=end)
        thread.start()
        assert run("stop", "--socket", path) == (0, "stopped\n", "")
        thread.join()


def test_stop_waits_no_longer_than_it_was_told_to(tmp_path):
    """And says that it goes on."""
    with admin_socket(tmp_path / "s", **{"POST /api/stop": [(202, {})]}) as served:
        status, out, err = run("stop", "--socket", served.path, "--timeout-s", "0.3")
    assert (status, out, err) == (1, "", "it has not ended within 0.3 s: it still finishes what is open\n")
