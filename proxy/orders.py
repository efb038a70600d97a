"""What the master is asked for: by signals, and through the keeper by whoever asks at the admin interface."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.control import Control

_log = logging.getLogger("stapleproxy.master")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Those that the master hears."""


class Orders:
    """What is wanted and not done yet: the same order given twice before its turn comes is one."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.stop_signal = 0
        """0: none."""
        self._stops = 0
        self.wants_reload = False
        self.wants_upgrade = False
        self.wants_reopen = False
        """The access log is to be opened again."""

    @property
    def is_any_waiting(self) -> bool:
        """Something is wanted that is done between other things: its signal has woken nobody if it came during one."""
        return self.wants_reload or self.wants_upgrade

    @property
    def is_urgent(self) -> bool:
        """A stop was asked for a second time."""
        return self._stops > 1

    @property
    def fds(self) -> tuple[int, ...]:
        """Give what there is something to `receive` on when it can be read."""
        return (self._wake_read, self._control.reading_fd)

    def listen(self) -> None:
        """From now on signals are orders."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def receive(self, fd: int) -> None:
        """Take what is there, on one of `fds`; a signal itself has been heard when it came."""
        if fd == self._wake_read:
            _read_all(fd)
            return
        orders = self._control.receive()
        if "reload" in orders:
            self.wants_reload = True
        if "stop" in orders:
            _log.info("a stop was asked for on the admin socket")
            self._stop(signal.SIGTERM)

    def are_not_for_us(self) -> None:
        """Hear none any more: in a child."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Ctrl-C and a closed terminal reach every process of the group; the master tells its children what to do.
        # SIGUSR1 and SIGUSR2 are for workers, from when they can take them.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._stop(number)
        elif number == signal.SIGHUP:
            self.wants_reload = True
        elif number == signal.SIGUSR2:
            self.wants_upgrade = True
        elif number == signal.SIGUSR1:
            self.wants_reopen = True

    def _stop(self, number: int) -> None:
        self.stop_signal = number
        self._stops += 1


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass
