"""What goes between keeper and master."""

from __future__ import annotations

import os

import pytest

from proxy.control import MAX_TEXT_BYTES, Bulletin, Control

NEWS = {
    "generation": 1,
    "started": "2026-01-01T00:00:00Z",
    "reloads": 0,
    "last_reload": None,
    "master_pid": 1,
    "config": "x.toml",
}


def with_mistakes(*mistakes):
    return NEWS | {"reloads": 1, "last_reload": {"at": "2026-01-01T00:00:00Z", "ok": False, "mistakes": [*mistakes]}}


def test_orders_arrive_once_each():
    control = Control()
    assert control.receive() == set()
    for order in ("reload", "reload", "stop"):
        assert control.ask(order)
    assert control.receive() == {"reload", "stop"}
    assert control.receive() == set()


def test_a_full_pipe_holds_nobody_up():
    """The order is in it already, thousands of times."""
    control = Control()
    while control.ask("reload"):
        pass
    assert control.receive() == {"reload"}


def test_a_forked_process_reads_what_is_written_after_it():
    """And in the order of writing."""
    bulletin = Bulletin(NEWS)
    to_child, to_parent = os.pipe(), os.pipe()
    if not (pid := os.fork()):
        os.read(to_child[0], 1)
        os.write(to_parent[1], bytes([bulletin.read()["generation"]]))
        os._exit(0)
    bulletin.write(NEWS | {"generation": 7})
    os.write(to_child[1], b"x")
    assert os.read(to_parent[0], 1) == b"\x07"
    os.waitpid(pid, 0)


def test_it_holds_what_was_written():
    bulletin = Bulletin(NEWS)
    assert bulletin.read() == NEWS
    for news in (with_mistakes("a: b", "é"), with_mistakes(), NEWS):
        bulletin.write(news)
        assert bulletin.read() == news


def test_names_of_files_can_be_written_as_json():
    """Whatever bytes are in them; else nobody could be told anything."""
    bulletin = Bulletin(NEWS | {"config": os.fsdecode(b"/etc/caf\xe9.toml")})
    assert bulletin.read()["config"] == "/etc/caf?.toml"
    bulletin.write(with_mistakes(os.fsdecode(b"/etc/caf\xe9: not found")))
    assert bulletin.read()["last_reload"]["mistakes"] == ["/etc/caf?: not found"]


@pytest.mark.parametrize(("count", "length"), [(1, MAX_TEXT_BYTES * 2), (100_000, 50), (3_000, 900)])
def test_too_many_mistakes_are_counted(count, length):
    """The bound holds, and the first of them are told."""
    bulletin = Bulletin(NEWS)
    bulletin.write(with_mistakes(*["é" * length] * count))
    mistakes = bulletin.read()["last_reload"]["mistakes"]
    assert mistakes[0][:50] == "é" * 50
    told = len(mistakes) if count == 1 else len(mistakes) - 1
    assert count == 1 or mistakes[-1] == f"and {count - told} more: see the log"


def test_who_was_stopped_while_writing_is_not_waited_for():
    """The sequence number stays odd: the reader is told that there is nothing to read now."""
    bulletin = Bulletin(NEWS)
    bulletin._memory[0] = 3
    with pytest.raises(BlockingIOError):
        bulletin.read()
