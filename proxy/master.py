"""The master: begins with one generation, replaces it by another when told to, and ends.

A reload changes nothing until all of the new generation is built, and the old workers go on until the new ones accept:

    build       configuration, certificates, contexts; sockets and cache are kept where they fit. A mistake ends it here
    keeper      the old one ends, then the new one begins: the cache has one writer. Workers staple from it meanwhile
    workers     the new ones accept from the same sockets as the old ones
    commit      the old workers are told, and have `drain_timeout_s` for what is open

What does not come up is ended, and the old generation, whose workers have never stopped, gets its keeper back.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import log, systemd
from proxy.activation import adopt
from proxy.cache.layout import MAX_READERS
from proxy.chronicle import Chronicle
from proxy.control import Control
from proxy.demand import Demands
from proxy.draining import Draining
from proxy.errors import ConfigError, StapleproxyError, StartError
from proxy.forking import share_memory, uncollected
from proxy.generation import Commons, Generation, build
from proxy.holdings import AdminSocket, Holdings
from proxy.orders import Orders
from proxy.pulse import Pulse, Watchdog
from proxy.starting import bring_up, start
from proxy.supervisor import GRACE_S, Supervisor
from proxy.systemd import Manager
from proxy.upgrade import hand_on, inherited
from proxy.watching import Watcher, files_of, marks_of

if TYPE_CHECKING:
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite

_log = logging.getLogger("stapleproxy.master")

_READING_TIMEOUT_S = 60.0
"""What the service manager is asked for: a hundred thousand certificates take most of it."""
_TOLD_EACH_TIME = log.about(is_over=True)
"""Who asks a second time gets an answer, and not a count of equal ones later."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration that was read, with all that it names."""

    settings: Settings
    sites: tuple[LoadedSite, ...]
    warnings: tuple[str, ...]
    located: Callable[[ConfigError], ConfigError]
    """Says of each mistake where it stands."""


Again = Callable[[Callable[[], None]], Reading]
"""Reads the configuration anew, and calls what it is given after each site."""


class _StopAskedError(Exception):
    """Whatever is being built is of no use any more."""


def run(first: Reading, again: Again, config: str = "") -> int:
    """Serve until SIGTERM or SIGINT; the exit status. `config` is the configuration's name.

    Raises ConfigError or StartError before anything has begun.
    """
    log.set_up(first.settings, "master")
    return _Master(first, again, config).serve()


class _Master:
    def __init__(self, first: Reading, again: Again, config: str) -> None:
        self._again = again
        self._manager = Manager.from_environment(os.environ, os.getpid())
        control = Control()
        pulse = Pulse(MAX_READERS)
        self._orders = Orders(control)
        self._supervisor = Supervisor(self._orders, Watchdog(self._manager, pulse))
        self._chronicle = Chronicle(config)
        self._commons = Commons(Demands(), control, self._chronicle.bulletin, pulse)
        self._draining = Draining(self._supervisor, self._commons)
        self._successor_pid = 0
        """Who serves now, as the next program; 0: nobody. It is a child of ours, so that the number stays its own."""
        self._inheritance = inherited(os.environ)
        self._is_in_charge = self._inheritance is None
        """It is this program's generation that serves."""
        self._watcher = Watcher(first.settings, marks_of(files_of(first.settings)), time.monotonic())
        _raise_descriptor_limit()
        before = self._inheritance.holdings if self._inheritance else _opened_for_us(first)
        self._generation = self._build(first, before)
        self._supervisor.before_reopen = self._give_log

    def serve(self) -> int:
        supervisor, orders = self._supervisor, self._orders
        try:
            if self._inheritance:
                self._inheritance.await_turn()
            orders.listen()
            self._begin()
            while not orders.stop_signal and not (self._successor_pid and supervisor.is_alone()):
                supervisor.tend(0.0 if orders.is_any_waiting else self._next_look())
                self._draining.forget()
                if orders.wants_upgrade:
                    orders.wants_upgrade = False
                    self._upgrade()
                elif orders.wants_reload or self._is_file_changed():
                    orders.wants_reload = False
                    self._reload()
            self._end()
        finally:
            supervisor.kill_all()
            if not self._is_in_charge:
                self._generation.undo.close()
            elif self._generation.admin:
                self._generation.admin.close()
        return 128 + signal.SIGINT if orders.stop_signal == signal.SIGINT else 0

    def _give_log(self) -> None:
        self._generation.give_log()

    # --- the first generation

    def _begin(self) -> None:
        generation, supervisor = self._generation, self._supervisor
        share_memory()
        supervisor.add([generation.keeper, *generation.workers])
        if self._inheritance:
            mistakes = bring_up(generation, supervisor, self._manager)
            if self._orders.stop_signal:
                return
            if mistakes:
                raise StartError("; ".join(mistakes))
            supervisor.keep([generation.keeper, *generation.workers])
            self._inheritance.take_over(generation)
        else:
            start(generation, supervisor, self._manager)
        self._is_in_charge = True
        generation.undo.pop_all()
        if all(each.is_ready for each in generation.workers):
            _log.info("ready: %s", generation.accepting)
        if any(each.is_ready for each in generation.workers):  # with none the manager's patience ends, rightly
            self._manager.ready(generation.accepting)

    # --- the next one

    def _reload(self) -> None:
        if self._successor_pid:
            _log.info("reload: passed on to process %d, which has taken over", self._successor_pid)
            os.kill(self._successor_pid, signal.SIGHUP)
            return
        _log.info("reload: reading the configuration again")
        self._manager.reloading(_READING_TIMEOUT_S)
        mistakes = self._try_reload()
        if self._orders.stop_signal:
            return
        self._chronicle.reloaded(mistakes)
        number = self._chronicle.generation
        for mistake in mistakes:
            _log.error("reload: %s", mistake, extra=_TOLD_EACH_TIME)
        if mistakes:
            _log.error("reload refused: nothing was changed, generation %d goes on", number, extra=_TOLD_EACH_TIME)
            self._manager.ready(f"{self._generation.accepting}; the last reload was refused: {mistakes[0]}")
        else:
            _log.info("reloaded, generation %d: %s", number, self._generation.accepting)
            self._manager.ready(self._generation.accepting)

    def _try_reload(self) -> list[str]:
        """Replace the generation; all mistakes, for which it was not."""
        marks = marks_of(files_of(self._generation.settings))
        try:
            reading = self._again(self._tend_between)
            log.find_form(reading.settings, os.environ, is_terminal=True)
            for warning in reading.warnings:
                _log.warning("%s", warning)
            new = self._build(reading, self._generation.holdings, self._tend_between)
        except _StopAskedError:
            return []
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        except StapleproxyError as error:
            return [str(error)]
        except Exception as error:  # noqa: BLE001  # whatever it is: who serves goes on serving
            _log.exception("the configuration could not be taken in: this is a bug in stapleproxy")
            return [f"{type(error).__name__}: {error}"]
        if mistakes := self._replace_by(new):
            return mistakes
        # What was changed while it was read is looked at once more.
        self._watcher = Watcher(new.settings, marks, time.monotonic())
        return []

    def _tend_between(self) -> None:
        """Keep alive what serves while the next generation is built, for which thousands of sites take many seconds."""
        self._supervisor.tend(0.0)
        if self._supervisor.is_stopping:
            raise _StopAskedError

    def _build(self, reading: Reading, before: Holdings, between: Callable[[], None] = lambda: None) -> Generation:
        lines_taken = {worker.line for worker in self._supervisor.workers()}
        try:
            with uncollected():
                return build(reading.settings, reading.sites, self._commons, before, lines_taken, between)
        except ConfigError as error:
            raise reading.located(error) from None

    def _replace_by(self, new: Generation) -> list[str]:
        """Let it take over; why it could not, or nothing."""
        old, supervisor = self._generation, self._supervisor
        share_memory()
        supervisor.add([new.keeper, *new.workers])  # first: an old worker that is replaced has none of their sockets
        supervisor.end([old.keeper])
        mistakes = bring_up(new, supervisor, self._manager)
        if mistakes or self._orders.stop_signal:
            supervisor.end([new.keeper])
            self._draining.retire(new)
            new.undo.close()
            supervisor.keep([old.keeper])
            return mistakes
        new.undo.pop_all()
        supervisor.keep([new.keeper, *new.workers])
        self._generation = new
        log.set_up(new.settings, "master")
        self._draining.retire(old)
        old.release(new.holdings)
        return []

    # --- files that change

    def _next_look(self) -> float:
        return math.inf if self._successor_pid else self._watcher.due_at

    def _is_file_changed(self) -> bool:
        if self._successor_pid or not self._watcher.look(time.monotonic()):
            return False
        _log.info("certificates or keys have changed")
        return True

    # --- the next program

    def _upgrade(self) -> None:
        """Start the program as it is installed now, on the same sockets, and leave when it serves."""
        if self._successor_pid:
            _log.warning("upgrade: not here: another process has taken over")
        elif os.getpid() == 1:
            _log.error("upgrade: not as process 1, with which all others would end: start a new container instead")
        elif isinstance(successor := hand_on(self._generation, self._supervisor, self._manager), str):
            if not self._orders.stop_signal:
                _log.error("upgrade refused: %s; this process goes on", successor, extra=_TOLD_EACH_TIME)
        else:
            # The one place where this process stops being the service: whoever has to know is told here.
            _log.info("upgrade: process %d has taken over", successor.pid)
            self._manager.successor(successor.pid, self._generation.accepting)
            self._successor_pid, self._is_in_charge = successor.pid, False
            self._supervisor.let_go(successor)
            self._draining.retire(self._generation)
            self._generation.hand_over()

    # --- the end

    def _end(self) -> None:
        drain_timeout_s = self._generation.settings.drain_timeout_s
        if not self._successor_pid:
            _log.info("stopping: open requests may take %.0f s", drain_timeout_s)
            self._manager.stopping(drain_timeout_s + 3 * GRACE_S)
        self._supervisor.end_all(drain_timeout_s)
        _log.info("stopped")


def _opened_for_us(reading: Reading) -> Holdings:
    """Take what the service manager has opened; ConfigError has what of it is for nothing."""
    settings = reading.settings
    sockets = systemd.inherited(os.environ, os.getpid())
    try:
        ports, admin = adopt(sockets, (*settings.listen, *settings.redirect.listen), settings.admin.socket)
    except ConfigError as error:
        raise reading.located(error) from None
    path = settings.admin.socket
    return Holdings(ports, admin=AdminSocket(path, admin, is_ours=False) if path and admin else None)


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may: each client can need two, and the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a kernel's own limit may be lower; then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
