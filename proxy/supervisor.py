"""Keeps processes alive: forks, replaces what dies, stops in order. No event loop and no threads: so it can fork.

Children are told that the master is gone by a pipe that only the master holds the writing end of: whatever ends it,
kill -9 too, the kernel closes that end, and the children leave. Each child says that it is ready by a byte on a pipe of
its own.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy import log
from proxy.errors import StartError
from proxy.listening import names_of, reopen

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from proxy.settings.model import Settings

_log = logging.getLogger("stapleproxy.master")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 60.0
# A worker that is back so soon finds the clients that came meanwhile in its queue; longer they should not wait there.
_QUEUE_FOR_S = 0.5
_START_TIMEOUT_S = 10.0
# Beyond what the children allow themselves: then they hang, and are killed.
_GRACE_S = 2.0

Entry = Callable[[int, int], int]
"""(life_fd, ready_fd) -> exit status: what a child does."""

Work = Callable[[int, "Sequence[socket.socket]", int, int], int]
"""The same for a worker, with its number and what it listens on."""


def restart_pause_s(last_pause_s: float, lived_s: float) -> float:
    """How long to wait before a child that died is replaced: at once if it had been steady, else ever longer."""
    if lived_s >= _STEADY_AFTER_S:
        return 0.0
    return min(max(last_pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)


class Child:
    """One process to be kept alive: what it does, and how it has been going."""

    sockets: Sequence[socket.socket] = ()

    def __init__(self, role: str, entry: Entry) -> None:
        self.role = role
        self.entry = entry
        self.pid = 0
        """0: not running."""
        self.ready_fd = -1
        """What it says that it is ready on; -1: it has, or is not running."""
        self.is_ready = False
        self.started_at = 0.0
        self.pause_s = 0.0
        self.start_at = 0.0


class Listener(Child):
    """A child that listens, on sockets that no other worker has a copy of."""

    def __init__(self, number: int, work: Work, sockets: list[socket.socket]) -> None:
        super().__init__(f"worker-{number}", lambda life_fd, ready_fd: work(number, self.sockets, life_fd, ready_fd))
        self.sockets = sockets
        self._names = names_of(sockets)

    def open(self) -> None:
        """Listen again after `close`; raises StartError."""
        if not self.sockets:
            self.sockets = reopen(self._names)

    def close(self) -> None:
        """Let the kernel give new clients to the others. Whoever was queued here is refused, and may try again."""
        for sock in self.sockets:
            sock.close()
        self.sockets = []


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        keeper: Child,
        workers: Sequence[Listener],
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        """Take `before_start` along to each start of a child: it sees to what all share, or raises StartError."""
        self._settings = settings
        self._before_start = before_start
        self._keeper = keeper
        self._workers = workers
        self._children: list[Child] = [keeper, *workers]
        self._life_read, self._life_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._stop_signal = 0
        self._stop_count = 0

    def serve(self, where: str) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # what is shared with the children stays shared: the collector does not write into it
        try:
            self._start(self._keeper)
            warmup_timeout_s = self._settings.stapling.warmup_timeout_s
            self._wait_until(lambda: self._keeper.is_ready, warmup_timeout_s + _GRACE_S)
            for child in self._workers:
                if not self._stop_signal:
                    self._start(child)
            if self._wait_until(lambda: all(child.is_ready for child in self._workers), _START_TIMEOUT_S):
                count = len(self._workers)
                _log.info(
                    "ready: %s connections on %s",
                    "1 worker accepts" if count == 1 else f"{count} workers accept",
                    where,
                )
            elif not self._stop_signal:
                _log.error("not all workers came up within %.0f s; going on with those that did", _START_TIMEOUT_S)
            while not self._stop_signal:
                self._tend()
            self._stop()
        finally:
            self._kill(self._children)
        return 128 + signal.SIGINT if self._stop_signal == signal.SIGINT else 0

    def _on_signal(self, number: int, _frame: object) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._stop_signal = number
            self._stop_count += 1
        elif number == signal.SIGUSR1:
            for child in self._workers:
                if child.pid:
                    os.kill(child.pid, signal.SIGUSR1)
        elif number == signal.SIGHUP:
            _log.warning("SIGHUP: a reload is not possible yet; stop and start again to take in a new configuration")

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Tend the children until `condition` holds; False: too late, or a stop was asked for."""
        end = time.monotonic() + timeout_s
        while not condition():
            if self._stop_signal or time.monotonic() >= end:
                return False
            self._tend(end)
        return True

    def _tend(self, end: float | None = None) -> None:
        """Wait for whatever comes first (a signal, a child's word, a restart that is due, `end`), and act on it."""
        due = [child.start_at for child in self._children if child.start_at]
        if end is not None:
            due.append(end)
        timeout_s = max(0.0, min(due) - time.monotonic()) if due else None
        waiting = {child.ready_fd: child for child in self._children if child.ready_fd >= 0}
        readable, _, _ = select.select([self._wake_read, *waiting], [], [], timeout_s)
        for fd in readable:
            if fd == self._wake_read:
                _read_all(fd)
            else:
                self._close_ready(waiting[fd])
        self._reap()
        if self._stop_signal:
            return
        now = time.monotonic()
        for child in self._children:
            if child.start_at and child.start_at <= now:
                self._start(child)

    def _start(self, child: Child) -> None:
        try:
            self._before_start()
            if isinstance(child, Listener):
                child.open()
        except StartError as error:
            self._put_off(child, error)
            return
        try:
            ready_read, ready_write = os.pipe()
        except OSError as error:
            self._put_off(child, error)
            return
        # A signal between the fork and the child's own handlers would run the master's handler in the child.
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            pid = os.fork()
            if pid == 0:
                self._become(child, ready_read, ready_write)
        except OSError as error:
            os.close(ready_read)
            self._put_off(child, error)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            os.close(ready_write)
        child.pid, child.ready_fd = pid, ready_read
        child.started_at, child.start_at = time.monotonic(), 0.0
        _log.info("%s[%d] started", child.role, pid)

    def _put_off(self, child: Child, why: Exception) -> None:
        """Try again later: a machine that is out of memory or descriptors now is no reason to end what still runs."""
        child.pause_s = restart_pause_s(child.pause_s, 0.0)
        child.start_at = time.monotonic() + child.pause_s
        _log.error("%s cannot be started (%s); trying again in %.1f s", child.role, why, child.pause_s)

    def _become(self, child: Child, ready_read: int, ready_write: int) -> None:
        """Be the child; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Ctrl-C and a closed terminal reach every process of the group; the master tells its children what to do.
            # SIGUSR1 is for workers with an access log, from when they can take it.
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)
            for fd in (self._life_write, self._wake_read, self._wake_write, ready_read):
                os.close(fd)
            for other in self._children:
                if other.ready_fd >= 0:
                    os.close(other.ready_fd)
                if other is not child:
                    # With a copy here, another worker's socket would go on taking clients that nobody accepts.
                    for sock in other.sockets:
                        sock.close()
            log.set_up(self._settings.log_level, child.role)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            status = child.entry(self._life_read, ready_write)
        except BaseException:  # noqa: BLE001  # a process' edge: nothing may get out into the master's stack
            _log.exception("%s failed: this is a bug in stapleproxy", child.role)
        finally:
            os._exit(status)

    def _close_ready(self, child: Child) -> None:
        """It has written its byte, or died without."""
        child.is_ready = os.read(child.ready_fd, 1) != b""
        os.close(child.ready_fd)
        child.ready_fd = -1

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            if child.ready_fd >= 0:
                self._close_ready(child)
            child.pid, child.is_ready = 0, False
            if self._stop_signal:
                continue
            now = time.monotonic()
            child.pause_s = restart_pause_s(child.pause_s, now - child.started_at)
            child.start_at = now + child.pause_s
            _log.error("%s[%d] %s; replaced in %.1f s", child.role, pid, _how(status), child.pause_s)
            if isinstance(child, Listener) and child.pause_s > _QUEUE_FOR_S:
                child.close()

    def _stop(self) -> None:
        """Workers first, with the time they need; then the keeper. A second signal ends the patience."""
        _log.info("stopping: open requests may take %.0f s", self._settings.drain_timeout_s)
        asked = self._stop_count
        for worker_ in self._workers:
            worker_.close()  # and each worker closes its own: then new clients are refused
        for group, timeout_s in ((self._workers, self._settings.drain_timeout_s), ([self._keeper], 0.0)):
            for child in group:
                if child.pid:
                    os.kill(child.pid, signal.SIGTERM)
            end = time.monotonic() + timeout_s + _GRACE_S
            while any(child.pid for child in group) and time.monotonic() < end and self._stop_count == asked:
                self._tend(end)
            self._kill(group)
        _log.info("stopped")

    def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            if child.pid:
                _log.warning("%s[%d] killed: it did not leave in time", child.role, child.pid)
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass
