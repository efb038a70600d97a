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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy import log, systemd
from proxy.activation import adopt
from proxy.cache.layout import MAX_READERS
from proxy.control import Bulletin, Control
from proxy.demand import Demands
from proxy.errors import ConfigError, StapleproxyError, StartError
from proxy.generation import AdminSocket, Commons, Generation, Holdings, build
from proxy.pulse import Pulse, Watchdog
from proxy.supervisor import GRACE_S, Supervisor, share_memory
from proxy.systemd import Manager
from proxy.upgrade import Successor, inherited
from proxy.watching import Watch, files_of, marks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.control import LastReload, News
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite

_log = logging.getLogger("stapleproxy.master")

_START_TIMEOUT_S = 10.0
_READING_TIMEOUT_S = 60.0
"""What the service manager is asked for: a hundred thousand certificates take most of it."""
_UPGRADE_TIMEOUT_S = 60.0
"""For the new program to read its configuration, and as long again for its processes."""
_TOLD_EACH_TIME = log.about(is_over=True)
"""Who asks a second time gets an answer, and not a count of equal ones later."""
MAX_DRAINING = 8
"""Old generations that still have something open. When there is one more, the oldest is cut."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration that was read, with all that it names."""

    settings: Settings
    sites: tuple[LoadedSite, ...]
    warnings: tuple[str, ...]
    located: Callable[[ConfigError], ConfigError]
    """Says of each mistake where it stands."""


def run(first: Reading, again: Callable[[], Reading], config: str = "") -> int:
    """Serve until SIGTERM or SIGINT; the exit status. `again` reads the configuration anew, `config` is its name.

    Raises ConfigError or StartError before anything has begun.
    """
    log.set_up(first.settings, "master")
    return _Master(first, again, config).serve()


class _Master:
    def __init__(self, first: Reading, again: Callable[[], Reading], config: str) -> None:
        self._again = again
        self._manager = Manager.from_environment(os.environ, os.getpid())
        self._control = Control()
        pulse = Pulse(MAX_READERS)
        self._supervisor = Supervisor(self._control, Watchdog(self._manager, pulse))
        self._started = _now()
        self._config = config
        self._number = 1
        self._reloads = 0
        self._last_reload: LastReload | None = None
        bulletin = Bulletin(self._news())
        self._commons = Commons(Demands(), self._control, bulletin, pulse)
        self._draining: list[Generation] = []
        """The oldest first."""
        self._has_successor = False
        self._inheritance = inherited(os.environ)
        self._is_in_charge = self._inheritance is None
        """It is this program's generation that serves."""
        self._looked_at = time.monotonic()
        self._watch = Watch(marks_of(files_of(first.settings)))
        _raise_descriptor_limit()
        before = self._inheritance.holdings if self._inheritance else _opened_for_us(first)
        self._generation = self._build(first, before)
        self._supervisor.before_reopen = self._give_log

    def serve(self) -> int:
        supervisor = self._supervisor
        try:
            if self._inheritance:
                self._inheritance.await_turn()
            supervisor.listen_to_signals()
            self._begin()
            while not supervisor.stop_signal and not (self._has_successor and supervisor.is_alone()):
                supervisor.tend(self._next_look())
                self._forget_drained()
                if supervisor.wants_upgrade:
                    supervisor.wants_upgrade = False
                    self._upgrade()
                elif supervisor.wants_reload or self._is_file_changed():
                    supervisor.wants_reload = False
                    self._reload()
            self._end()
        finally:
            supervisor.kill_all()
            if not self._is_in_charge:
                self._generation.undo.close()
            elif self._generation.admin:
                self._generation.admin.close()
        return 128 + signal.SIGINT if supervisor.stop_signal == signal.SIGINT else 0

    def _give_log(self) -> None:
        self._generation.give_log()

    # --- the first generation

    def _begin(self) -> None:
        """Start it. Where nobody serves meanwhile, what comes up late is better than nothing."""
        generation, supervisor = self._generation, self._supervisor
        share_memory()
        supervisor.add([generation.keeper, *generation.workers])
        if self._inheritance:
            mistakes = self._bring_up(generation)
            if supervisor.stop_signal:
                return
            if mistakes:
                raise StartError("; ".join(mistakes))
            supervisor.keep([generation.keeper, *generation.workers])
            self._inheritance.take_over(generation)
        else:
            supervisor.keep([generation.keeper])
            warmup_s = generation.settings.stapling.warmup_timeout_s + GRACE_S
            self._manager.starting("fetching OCSP responses", warmup_s + _START_TIMEOUT_S)
            supervisor.wait_until(lambda: generation.keeper.is_ready, warmup_s)
            if not supervisor.stop_signal:
                supervisor.keep(generation.workers)
            supervisor.wait_until(lambda: all(each.is_ready for each in generation.workers), _START_TIMEOUT_S)
        self._is_in_charge = True
        generation.undo.pop_all()
        if all(each.is_ready for each in generation.workers):
            _log.info("ready: %s", _accepting(generation))
        elif not supervisor.stop_signal:
            _log.error("not all workers came up within %.0f s; going on with those that did", _START_TIMEOUT_S)
        if any(each.is_ready for each in generation.workers):  # with none the manager's patience ends, rightly
            self._manager.ready(_accepting(generation))

    def _bring_up(self, generation: Generation) -> list[str]:
        """Start keeper, then workers; why not, or nothing."""
        supervisor, keeper, workers = self._supervisor, generation.keeper, generation.workers
        limit_s = generation.settings.stapling.warmup_timeout_s + _START_TIMEOUT_S
        self._manager.starting("starting new processes", limit_s + _START_TIMEOUT_S + GRACE_S)
        supervisor.start(keeper)
        supervisor.wait_until(lambda: keeper.is_ready or not keeper.pid, limit_s)
        if not keeper.is_ready:
            return [_why_not("the keeper", keeper.pid, limit_s)]
        for child in workers:
            supervisor.start(child)
        supervisor.wait_until(
            lambda: all(each.is_ready for each in workers) or not all(each.pid for each in (keeper, *workers)),
            _START_TIMEOUT_S,
        )
        return [_why_not(each.role, each.pid, _START_TIMEOUT_S) for each in (keeper, *workers) if not each.is_ready]

    # --- the next one

    def _reload(self) -> None:
        if self._has_successor:
            _log.warning("reload: not here: another process has taken over")
            return
        _log.info("reload: reading the configuration again")
        self._manager.reloading(_READING_TIMEOUT_S)
        mistakes = self._try_reload()
        if self._supervisor.stop_signal:
            return
        self._reloads += 1
        self._number += not mistakes
        self._last_reload = {"at": _now(), "ok": not mistakes, "mistakes": mistakes}
        self._commons.bulletin.write(self._news())
        for mistake in mistakes:
            _log.error("reload: %s", mistake, extra=_TOLD_EACH_TIME)
        if mistakes:
            _log.error(
                "reload refused: nothing was changed, generation %d goes on", self._number, extra=_TOLD_EACH_TIME
            )
            self._manager.ready(f"{_accepting(self._generation)}; the last reload was refused: {mistakes[0]}")
        else:
            _log.info("reloaded, generation %d: %s", self._number, _accepting(self._generation))
            self._manager.ready(_accepting(self._generation))

    def _try_reload(self) -> list[str]:
        """Replace the generation; all mistakes, for which it was not."""
        marks = marks_of(files_of(self._generation.settings))
        try:
            reading = self._again()
            log.find_form(reading.settings, os.environ, is_terminal=True)
            for warning in reading.warnings:
                _log.warning("%s", warning)
            new = self._build(reading, self._generation.holdings)
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
        files = marks_of(files_of(new.settings))
        self._watch = Watch(files | {file: mark for file, mark in marks.items() if file in files})
        return []

    def _build(self, reading: Reading, before: Holdings) -> Generation:
        lines_taken = {worker.line for worker in self._supervisor.workers()}
        try:
            return build(reading.settings, reading.sites, self._commons, before, lines_taken)
        except ConfigError as error:
            raise reading.located(error) from None

    def _replace_by(self, new: Generation) -> list[str]:
        """Let it take over; why it could not, or nothing."""
        old, supervisor = self._generation, self._supervisor
        share_memory()
        supervisor.end([old.keeper])
        supervisor.add([new.keeper, *new.workers])
        mistakes = self._bring_up(new)
        if mistakes or supervisor.stop_signal:
            supervisor.end([new.keeper])
            self._retire(new)
            new.undo.close()
            supervisor.keep([old.keeper])
            return mistakes
        new.undo.pop_all()
        supervisor.keep([new.keeper, *new.workers])
        self._generation = new
        log.set_up(new.settings, "master")
        self._retire(old)
        old.release(new.holdings)
        return []

    def _retire(self, generation: Generation) -> None:
        """Let its workers finish what is open."""
        self._supervisor.dismiss(generation.workers, generation.settings.drain_timeout_s + GRACE_S, signal.SIGUSR2)
        self._draining.append(generation)
        self._forget_drained()
        for oldest in self._draining[:-MAX_DRAINING]:
            _log.warning("more than %d earlier generations have something open: the oldest is cut", MAX_DRAINING)
            self._supervisor.dismiss(oldest.workers, GRACE_S)

    def _forget_drained(self) -> None:
        for generation in [each for each in self._draining if not any(worker.pid for worker in each.workers)]:
            self._draining.remove(generation)
            generation.counted.give_back()
            if generation.inline:
                self._commons.leave(generation.inline)

    # --- files that change

    def _next_look(self) -> float:
        interval_s = self._generation.settings.reload.watch_certificates_s
        return self._looked_at + interval_s if interval_s and not self._has_successor else math.inf

    def _is_file_changed(self) -> bool:
        now = time.monotonic()
        if now < self._next_look():
            return False
        self._looked_at = now
        if not self._watch.look(marks_of(files_of(self._generation.settings))):
            return False
        _log.info("certificates or keys have changed")
        return True

    # --- the next program

    def _upgrade(self) -> None:
        """Start the program as it is installed now, on the same sockets, and leave when it serves."""
        if self._has_successor:
            _log.warning("upgrade: not here: another process has taken over")
        elif os.getpid() == 1:
            _log.error("upgrade: not as process 1, with which all others would end: start a new container instead")
        elif why := self._start_successor():
            _log.error("upgrade refused: %s; this process goes on", why, extra=_TOLD_EACH_TIME)

    def _start_successor(self) -> str:
        """Let it take over; why it could not, or nothing."""
        generation, supervisor = self._generation, self._supervisor
        try:
            successor = Successor(generation, self._manager)
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        _log.info("upgrade: starting %s", successor.command)
        supervisor.add([successor])
        supervisor.start(successor)
        supervisor.wait_until(lambda: successor.is_built or not successor.pid, _UPGRADE_TIMEOUT_S)
        if successor.is_built:
            supervisor.end([generation.keeper])
            successor.give_turn()
            limit_s = _UPGRADE_TIMEOUT_S + generation.settings.stapling.warmup_timeout_s
            supervisor.wait_until(lambda: successor.is_ready or not successor.pid, limit_s)
        successor.close()
        if supervisor.stop_signal:
            return "a stop was asked for"
        if not successor.is_ready:
            why = "it did not come up: see what it has said" if not successor.pid else "it did not come up in time"
            supervisor.end([successor], generation.settings.drain_timeout_s)
            supervisor.keep([generation.keeper])
            return why
        # The one place where this process stops being the service: whoever has to know is told here.
        _log.info("upgrade: process %d has taken over", successor.pid)
        self._manager.successor(successor.pid, _accepting(generation))
        self._has_successor, self._is_in_charge = True, False
        supervisor.let_go(successor)
        self._retire(generation)
        generation.hand_over()
        return ""

    # --- the end

    def _end(self) -> None:
        drain_timeout_s = self._generation.settings.drain_timeout_s
        if not self._has_successor:
            _log.info("stopping: open requests may take %.0f s", drain_timeout_s)
            self._manager.stopping(drain_timeout_s + 3 * GRACE_S)
        self._supervisor.end_all(drain_timeout_s)
        _log.info("stopped")

    def _news(self) -> News:
        return {
            "generation": self._number,
            "started": self._started,
            "reloads": self._reloads,
            "last_reload": self._last_reload,
            "master_pid": os.getpid(),
            "config": self._config,
        }


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


def _accepting(generation: Generation) -> str:
    count = len(generation.workers)
    who = "1 worker accepts" if count == 1 else f"{count} workers accept"
    return f"{who} connections on {generation.where}"


def _why_not(who: str, pid: int, within_s: float) -> str:
    return f"{who} was not ready within {within_s:.0f} s" if pid else f"{who} did not come up: see its lines in the log"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may: each client can need two, and the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a kernel's own limit may be lower; then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
