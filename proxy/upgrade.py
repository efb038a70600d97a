"""From one program to the next on the same sockets, without a client noticing.

The running master forks and becomes, in the child, the program as it is installed now, with the same arguments. What is
handed on are descriptors, and an environment variable that says what each of them is. Each waits for the other by a
pipe: the new program says that all is built (its configuration is right), the old one ends its keeper and says that it
is the other's turn, the new one says that its workers accept, the old one drains and leaves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shlex
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from proxy.children import Child
from proxy.errors import StartError
from proxy.holdings import AdminSocket, Holdings
from proxy.listening import Place, Slot
from proxy.supervisor import GRACE_S, READY

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from proxy.generation import Generation
    from proxy.supervisor import Supervisor
    from proxy.systemd import Manager

_log = logging.getLogger("stapleproxy.master")

VARIABLE = "STAPLEPROXY_INHERITANCE"
_BUILT = b"b"
_TURN = b"t"
_READING_TIMEOUT_S = 60.0
"""For the new program to read its configuration, and as long again for its processes."""
_TURN_TIMEOUT_S = 30.0
"""The old keeper has two seconds to end."""


class _Listening(NamedTuple):
    fd: int
    family: int
    host: str
    port: int
    """As in the configuration."""
    rest: tuple[int, ...]
    is_admin: bool


class _Papers(TypedDict):
    """What the variable says."""

    pid: int
    """Whom it is for: a variable that somebody has passed on to a process of its own is not for that one."""
    ready_fd: int
    turn_fd: int
    sockets: list[_Listening]
    admin: tuple[int, str, bool] | None
    cache_lock: int | None


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the old program hands on: the new one's side."""

    holdings: Holdings
    ready_fd: int
    turn_fd: int

    def await_turn(self) -> None:
        """Say that all is built, and wait until the old keeper has ended; raises StartError."""
        if self.holdings.cache_lock is not None:
            os.close(self.holdings.cache_lock)  # the cache has its own copy
        self._say(_BUILT)
        poll = select.poll()
        poll.register(self.turn_fd, select.POLLIN)
        if not poll.poll(_TURN_TIMEOUT_S * 1000):
            raise StartError("the old process does not let this one take its place")
        if os.read(self.turn_fd, 1) != _TURN:
            _log.warning("upgrade: the old process is gone: this one goes on without it")
            time.sleep(GRACE_S)  # its keeper leaves when it notices, and still has the cache until then
        os.close(self.turn_fd)

    def take_over(self, generation: Generation) -> None:
        """Say that we serve, and give up what was handed on and is not wanted."""
        self._say(READY)
        os.close(self.ready_fd)
        used = {id(slot) for slots in generation.ports.values() for slot in slots}
        for slots in self.holdings.ports.values():
            for slot in slots:
                if id(slot) not in used:
                    slot.close()
        if self.holdings.admin and self.holdings.admin is not generation.admin:
            self.holdings.admin.close()

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # who is gone needs no word, and leaves us the service
            os.write(self.ready_fd, word)


def inherited(environment: MutableMapping[str, str]) -> Inheritance | None:
    """Take what an old program hands on to us; None: nobody does. Raises StartError."""
    text = environment.pop(VARIABLE, "")
    if not text:
        return None
    try:
        papers: _Papers = json.loads(text)
        if papers["pid"] != os.getpid():
            return None
        ports: dict[Place, list[Slot]] = {}
        for fd, family, host, port, rest, is_admin in papers["sockets"]:
            ports.setdefault(Place(family, host, port, tuple(rest), is_admin), []).append(Slot(_socket(fd)))
        admin = papers["admin"]
        holdings = Holdings(
            ports,
            admin=AdminSocket(Path(admin[1]), _socket(admin[0]), admin[2]) if admin else None,
            cache_lock=papers["cache_lock"],
        )
        locks = [] if papers["cache_lock"] is None else [papers["cache_lock"]]
        for fd in (papers["ready_fd"], papers["turn_fd"], *locks):
            os.set_inheritable(fd, False)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, OSError) as error:
        raise StartError(f"what the old process hands on cannot be used: {error}") from error
    return Inheritance(holdings, papers["ready_fd"], papers["turn_fd"])


def _socket(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def hand_on(generation: Generation, supervisor: Supervisor, manager: Manager) -> Successor | str:
    """Start the program as it is installed now; it serves when this returns, or why it does not."""
    try:
        successor = Successor(generation, manager)
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    _log.info("upgrade: starting %s", successor.command)
    supervisor.add([successor])
    supervisor.start(successor)
    supervisor.wait_until(lambda: successor.is_built or not successor.pid, _READING_TIMEOUT_S)
    if successor.is_built:
        supervisor.end([generation.keeper])
        successor.give_turn()
        limit_s = _READING_TIMEOUT_S + generation.settings.stapling.warmup_timeout_s
        supervisor.wait_until(lambda: successor.is_ready or not successor.pid, limit_s)
    if supervisor.is_stopping:
        return "a stop was asked for"  # it ends with all the others, and until then hears that we are there
    if successor.is_ready:
        successor.close()
        return successor
    why = "it did not come up: see what it has said" if not successor.pid else "it did not come up in time"
    supervisor.end([successor], generation.settings.drain_timeout_s)
    successor.close()  # not before its end: it would take us for gone
    supervisor.keep([generation.keeper])
    return why


class Successor(Child):
    """The new program, as the old one sees it."""

    def __init__(self, generation: Generation, manager: Manager) -> None:
        super().__init__("successor", self._exec, generation.settings)
        self._manager = manager
        self._generation = generation
        self._arguments = [sys.executable, *sys.orig_argv[1:]]
        self._turn_read, self._turn_write = os.pipe()

    @property
    def command(self) -> str:
        return shlex.join(self._arguments)

    @property
    def is_built(self) -> bool:
        """It has read its configuration, and found no mistake."""
        return _BUILT in self.said

    def sockets(self) -> Sequence[socket.socket]:
        return [sock for each in self._generation.workers for sock in each.sockets()]

    def give_turn(self) -> None:
        """Tell it that nobody else writes to the cache now."""
        os.write(self._turn_write, _TURN)

    def close(self) -> None:
        for fd in (self._turn_read, self._turn_write):
            os.close(fd)

    def _exec(self, _life_fd: int, ready_fd: int) -> int:
        generation = self._generation
        os.close(self._turn_write)  # only the master has it, so that its end is heard
        admin, lock = generation.admin, generation.segment.lock
        papers: _Papers = {
            "pid": os.getpid(),
            "ready_fd": ready_fd,
            "turn_fd": self._turn_read,
            "sockets": [
                _Listening(slot.sock.fileno(), place.family, place.host, place.port, place.rest, place.is_admin)
                for place, slots in generation.ports.items()
                for slot in slots
                if slot.sock
            ],
            "admin": (admin.sock.fileno(), str(admin.path), admin.is_ours) if admin else None,
            "cache_lock": lock,
        }
        fds = [ready_fd, self._turn_read, *(each[0] for each in papers["sockets"])]
        fds += [each for each in (admin.sock.fileno() if admin else None, lock) if each is not None]
        for fd in fds:
            os.set_inheritable(fd, True)
        environment = {**os.environ, **self._manager.environment(os.getpid()), VARIABLE: json.dumps(papers)}
        try:
            os.execve(self._arguments[0], self._arguments, environment)  # noqa: S606  # nothing for a shell to do
        except OSError as error:
            _log.error("upgrade: %s cannot be run: %s", self._arguments[0], error.strerror)
            return 1
