"""Keeps processes alive: forks, replaces what dies, ends what is to go. No event loop and no threads: so it can fork.

Children are told that the master is gone by a pipe that only the master holds the writing end of: whatever ends it,
kill -9 too, the kernel closes that end, and the children leave. Each child says that it is ready by a byte on a pipe of
its own.

A child is *kept* (it is replaced when it dies), or *on trial* (a new one, of which `wait_until` tells whether it came
up), or *leaving* (it has a time by which it is killed).
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from proxy.children import KEEPER, QUEUE_FOR_S, Child, Listener, restart_pause_s
from proxy.errors import StartError
from proxy.forking import Pipe, fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.orders import Orders
    from proxy.pulse import Watchdog

_log = logging.getLogger("stapleproxy.master")

READY = b"r"
"""What a child writes when it is ready. Something else may come before it."""
GRACE_S = 2.0
"""Beyond what the children allow themselves: then they hang, and are killed."""
_LONGEST_NAP_S = 3600.0
"""What the kernel counts in milliseconds is bounded; waking up for nothing once an hour costs nothing."""


class Supervisor:
    """The children. While it waits for anything it takes `orders`, and keeps the children going."""

    def __init__(self, orders: Orders, watchdog: Watchdog) -> None:
        self._orders = orders
        self._watchdog = watchdog
        self._children: list[Child] = []
        self._life = Pipe(*os.pipe())
        self.before_reopen: Callable[[], None] = lambda: None
        """What is to be done before the workers open the access log again; raises StartError."""

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Tend the children until `condition` holds; False: too late, or a stop was asked for."""
        end = time.monotonic() + timeout_s
        while not condition():
            if self._orders.stop_signal or time.monotonic() >= end:
                return False
            self.tend(end)
        return True

    def tend(self, end: float = math.inf) -> None:
        """Wait for whatever comes first (a signal, a child's word, something that is due, `end`), and act on it."""
        due = min([end, *(child.start_at or math.inf for child in self._children), *self._ends()])
        due = min(due, self._watchdog.due_at)
        nap_s = min(max(0.0, due - time.monotonic()), _LONGEST_NAP_S)
        saying = {child.ready_fd: child for child in self._children if child.ready_fd >= 0}
        poll = select.poll()  # not select, which takes no descriptor above 1023: of sockets alone there may be more
        for fd in (*self._orders.fds, *saying):
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(math.ceil(nap_s * 1000)):
            if fd in saying:
                _hear(saying[fd])
            else:
                self._orders.receive(fd)
        self._reap()
        if self._orders.wants_reopen:
            self._reopen_logs()
        now = time.monotonic()
        self._watchdog.look(now, (child.line for child in self.workers() if child.is_ready and child.is_kept))
        self._kill([child for child in self._children if child.leave_by <= now])
        for child in self._children:
            if child.start_at and child.start_at <= now and not self._orders.stop_signal:
                self.start(child)

    def _reopen_logs(self) -> None:
        self._orders.wants_reopen = False
        try:
            self.before_reopen()
        except StartError as error:
            _log.error("%s", error)
        for child in self.workers():
            if child.pid:
                os.kill(child.pid, signal.SIGUSR1)

    def _ends(self) -> Iterable[float]:
        return (child.leave_by for child in self._children)

    # --- beginning

    def add(self, children: Iterable[Child]) -> None:
        """Know them before the first of a generation starts: it must have no copy of the others' sockets."""
        self._children += children

    def start(self, child: Child) -> None:
        """Fork it. If that cannot be, a kept one is put off, and another is as if it had died."""
        try:
            child.prepare()
            ready = Pipe(*os.pipe())
        except (StartError, OSError) as error:
            self._put_off(child, error)
            return
        try:
            pid = fork(child, self._children, self._orders, self._life, ready)
        except OSError as error:
            os.close(ready.reading)
            self._put_off(child, error)
            return
        finally:
            os.close(ready.writing)
        child.pid, child.ready_fd, child.said = pid, ready.reading, b""
        child.started_at, child.start_at = time.monotonic(), 0.0
        _log.info("%s[%d] started", child.role, pid)

    def _put_off(self, child: Child, error: StartError | OSError) -> None:
        """Try again later: a machine that is out of memory or descriptors now is no reason to end what still runs."""
        why = (isinstance(error, OSError) and error.strerror) or error
        if not child.is_kept:
            _log.error("%s cannot be started (%s)", child.role, why)
            return
        child.pause_s = restart_pause_s(child.pause_s, 0.0)
        child.start_at = time.monotonic() + child.pause_s
        _log.error("%s cannot be started (%s); trying again in %.1f s", child.role, why, child.pause_s)

    # --- going on

    def keep(self, children: Iterable[Child]) -> None:
        """Replace them from now on when they die; one that is not running is due at once."""
        for child in children:
            child.is_kept, child.leave_by = True, math.inf
            if child not in self._children:
                self._children.append(child)
            if not child.pid and not child.start_at:
                child.start_at = time.monotonic()

    def _reap(self) -> None:
        for child in [child for child in self._children if child.pid]:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            _is_gone(child)
            if not child.is_kept:
                if child.leave_by == math.inf:
                    _log.error("%s[%d] %s", child.role, pid, _how(status))
                self._children.remove(child)
            elif not self._orders.stop_signal:
                self._replace(child, pid, status)

    def _replace(self, child: Child, pid: int, status: int) -> None:
        now = time.monotonic()
        child.pause_s = restart_pause_s(child.pause_s, now - child.started_at)
        if isinstance(child, Listener) and not self._others_accept(child):
            child.pause_s = min(child.pause_s, QUEUE_FOR_S)  # nobody else is there for its clients
        child.start_at = now + child.pause_s
        _log.error("%s[%d] %s; replaced in %.1f s", child.role, pid, _how(status), child.pause_s)
        if isinstance(child, Listener) and child.pause_s > QUEUE_FOR_S:
            in_use = {id(sock) for other in self._children if other is not child for sock in other.sockets()}
            for slot in child.slots():
                if slot.is_shared and id(slot.sock) not in in_use:
                    slot.close()

    def _others_accept(self, child: Child) -> bool:
        return any(each.is_ready and each.is_kept for each in self.workers() if each is not child)

    # --- ending

    def dismiss(self, children: Iterable[Child], within_s: float, how: int = signal.SIGTERM) -> None:
        """Tell them to go, and kill what has not gone in time; nothing replaces them."""
        leave_by = time.monotonic() + within_s
        for child in children:
            child.is_kept, child.start_at = False, 0.0
            child.leave_by = min(child.leave_by, leave_by)
            if child.pid:
                # One that is not ready yet would not hear anything else.
                os.kill(child.pid, how if child.is_ready else signal.SIGTERM)
            elif child in self._children:
                self._children.remove(child)

    def end(self, children: Iterable[Child], within_s: float = 0.0) -> None:
        """Dismiss them, and wait until they have gone. A second signal to stop ends the patience."""
        group = list(children)
        self.dismiss(group, within_s + GRACE_S)
        while any(child.pid for child in group):
            if self._orders.is_urgent:
                self._kill(group)
            else:
                self.tend()

    def end_all(self, within_s: float) -> None:
        """End the keepers last; the others have the time that they need."""
        for child in self.workers():
            for slot in child.slots():
                slot.close()  # and each worker closes its own: then new clients are refused
        self.end([child for child in self._children if child.role != KEEPER], within_s)
        self.end(self._children)

    def let_go(self, child: Child) -> None:
        """Have no more to do with a process, which goes on."""
        _close_ready(child)
        self._children.remove(child)

    def workers(self) -> list[Listener]:
        """Of all generations, those that are there or will be again."""
        return [child for child in self._children if isinstance(child, Listener)]

    def kill_all(self) -> None:
        self._kill(self._children)

    @property
    def is_stopping(self) -> bool:
        return bool(self._orders.stop_signal)

    def is_alone(self) -> bool:
        return not self._children

    def _kill(self, children: Iterable[Child]) -> None:
        for child in list(children):
            if child.pid:
                _log.warning("%s[%d] killed: it did not leave in time", child.role, child.pid)
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                _is_gone(child)
            if child in self._children:
                self._children.remove(child)


def _hear(child: Child) -> None:
    """It has written, or died without."""
    said = os.read(child.ready_fd, 1)
    child.said += said
    child.is_ready = said == READY
    if not said or child.is_ready:
        _close_ready(child)


def _close_ready(child: Child) -> None:
    if child.ready_fd >= 0:
        os.close(child.ready_fd)
        child.ready_fd = -1


def _is_gone(child: Child) -> None:
    _close_ready(child)
    child.pid, child.is_ready = 0, False


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
