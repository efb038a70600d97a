"""The access log's file: whole lines whatever happens to the disk, and a loop that never waits for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from integration.front import wait_until

from proxy.accesslog.file import LogFile, open_log
from proxy.errors import StartError
from proxy.log import Seldom

AT_ONCE_S = 0.2


@contextlib.contextmanager
def writing(path, **options):
    log = LogFile(path, **options)
    try:
        yield log
    finally:
        log.close()


def test_lines_go_behind_what_is_there(tmp_path):
    path = tmp_path / "log"
    path.write_text("old\n")
    with writing(path) as log:
        log.add(b"one\n")
        log.add(b"two\n")
        assert path.read_text() == "old\n", "they wait for the second to be over"
        log.flush()
        wait_until(lambda: path.read_text() == "old\none\ntwo\n")
        log.add(b"three\n")
    assert path.read_text() == "old\none\ntwo\nthree\n"


def test_a_full_batch_does_not_wait_for_the_second(tmp_path):
    with writing(tmp_path / "log") as log:
        for _ in range(70):
            log.add(b"x" * 1023 + b"\n")
        wait_until(lambda: (tmp_path / "log").stat().st_size == 65_536)


def test_it_goes_on_in_a_new_file(tmp_path):
    """What was added before stands in the old one."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    with writing(path) as log:
        log.add(b"one\n")
        path.rename(old)
        log.reopen()
        log.add(b"two\n")
    assert (old.read_text(), path.read_text()) == ("one\n", "two\n")


def test_a_folder_that_is_gone_leaves_the_old_file(tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    with writing(folder / "log") as log:
        folder.rename(tmp_path / "moved")
        log.reopen()
        log.add(b"one\n")
    assert (tmp_path / "moved" / "log").read_text() == "one\n"
    assert "No such file or directory; going on in the old file" in caplog.text


def test_a_folder_that_comes_later(tmp_path, caplog):
    """A worker that is started again while somebody tidies up the folder serves all the same."""
    path = tmp_path / "logs" / "log"
    with writing(path) as log:
        log.add(b"one\n")
        log.flush()
        wait_until(lambda: "cannot be opened: No such file or directory; trying again" in caplog.text)
        path.parent.mkdir()
        wait_until(lambda: path.exists() and path.read_text() == "one\n")


def test_a_full_disk_costs_lines_and_no_time(caplog):
    """/dev/full says ENOSPC to each write: what waits is bounded, and the log tells it once."""
    with writing("/dev/full", max_waiting_bytes=10_000) as log:
        began = time.monotonic()
        for _ in range(100):
            for _ in range(10):
                log.add(b"x" * 99 + b"\n")
            log.flush()
        assert time.monotonic() - began < AT_ONCE_S
        assert log.dropped == 900
        wait_until(lambda: "No space left on device; trying again" in caplog.text)
    assert caplog.text.count("trying again") == 1
    assert caplog.text.count("were dropped") == 1
    assert "10000 bytes could not be written" in caplog.text


@contextlib.contextmanager
def small_disk(folder, size: str):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.skip("no right to mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_full_for_a_while(tmp_path):
    """Meanwhile the file has whole lines only; then each line is there once, in order."""
    lines = [b"line %06d %b\n" % (number, b"x" * 50) for number in range(1000)]
    with small_disk(tmp_path / "disk", "96k") as disk:
        path, filler = disk / "log", disk / "filler"
        filler.write_bytes(b"\0" * 65_536)
        with writing(path) as log:
            for line in lines:
                log.add(line)
            log.flush()
            wait_until(lambda: path.stat().st_size > 30_000)
            written = path.read_bytes()
            assert b"".join(lines).startswith(written)
            assert written.endswith(b"\n")
            filler.unlink()
            wait_until(lambda: path.stat().st_size == sum(map(len, lines)))
            assert path.read_bytes() == b"".join(lines)


WRITER = """
import sys
from proxy.accesslog.file import LogFile
log = LogFile(sys.argv[1])
for number in range(5000):
    log.add(b"%s %05d %b\\n" % (sys.argv[2].encode(), number, b"y" * (number % 300)))
    if not number % 50:
        log.flush()
log.close()
"""


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_processes_share_it_with_whole_lines(tmp_path, kind):
    """Four of them: every line once, whole, and those of one process in their order."""
    path = tmp_path / "log"
    read: list[bytes] = []
    if kind == "pipe":
        os.mkfifo(path)
        keep_open = os.open(path, os.O_RDWR)
        end = os.open(path, os.O_RDONLY)

        def drain():
            while data := os.read(end, 65_536):
                read.append(data)

        reader = threading.Thread(target=drain)
        reader.start()
    children = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in "abcd"]
    assert [child.wait(30) for child in children] == [0] * 4
    if kind == "pipe":
        os.close(keep_open)
        reader.join()
        os.close(end)
    else:
        read.append(path.read_bytes())
    lines = b"".join(read).splitlines()
    assert len(lines) == 20_000
    assert all(re.fullmatch(rb"[abcd] \d{5} y*", line) and len(line) == 8 + int(line[2:7]) % 300 for line in lines)
    for name in b"abcd":
        numbers = [line[2:7] for line in lines if line[0] == name]
        assert numbers == sorted(numbers)


def test_a_stuck_pipe_holds_nobody_up(tmp_path):
    """Not even the end of the worker."""
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = LogFile(path, max_waiting_bytes=200_000)
    began = time.monotonic()
    for _ in range(5000):
        log.add(b"x" * 99 + b"\n")
    log.flush()
    assert time.monotonic() - began < AT_ONCE_S
    assert log.dropped > 0
    log.close()
    assert time.monotonic() - began < 3
    os.close(reader)


def test_a_lock_that_somebody_holds_holds_up_no_loop(tmp_path):
    path = tmp_path / "log"
    with writing(path) as log, path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        log.add(b"one\n")
        began = time.monotonic()
        log.flush()
        assert time.monotonic() - began < AT_ONCE_S
        fcntl.flock(other, fcntl.LOCK_UN)
        wait_until(lambda: path.read_text() == "one\n")


def test_what_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(StartError, match="cannot be opened: Is a directory"):
        open_log(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StartError, match="nobody reads from this pipe"):
        open_log(tmp_path / "pipe")


def test_seldom_is_once_in_a_while():
    seldom = Seldom(10.0)
    assert [seldom.is_due(now) for now in (0.0, 9.9, 10.0, 19.9, 25.0)] == [True, False, True, False, True]
