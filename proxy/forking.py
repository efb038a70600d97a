"""How a process becomes a child of the master: nothing is open in it but what is its own."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import signal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from proxy import log
from proxy.orders import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.children import Child
    from proxy.orders import Orders

_log = logging.getLogger("stapleproxy.master")


_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC})


class Pipe(NamedTuple):
    """Both ends, as os.pipe gives them."""

    reading: int
    writing: int


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Have the collector wait while a configuration is made: of thousands of sites all stays, and it looks in vain."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def share_memory() -> None:
    """Have what the children will share stay shared: the collector does not write into it. Free what is of no use."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def fork(child: Child, everyone: Iterable[Child], orders: Orders, life: Pipe, ready: Pipe) -> int:
    """Fork it, and give its number; the child never returns from this. Raises OSError.

    Of `life` a child reads the end, on `ready` it says that it is ready. `everyone`: of whom it must have nothing.
    """
    # A signal between the fork and the child's own handlers would run the master's handler in the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _become(child, everyone, orders, life, ready)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return pid


def _become(child: Child, everyone: Iterable[Child], orders: Orders, life: Pipe, ready: Pipe) -> NoReturn:
    status = 1
    gc.enable()  # the master may be making the next configuration
    try:
        orders.are_not_for_us()
        for fd in (life.writing, ready.reading):
            os.close(fd)
        own = {id(sock) for sock in child.sockets()}
        for other in everyone:
            if other.ready_fd >= 0:
                os.close(other.ready_fd)
            # With a copy here, another worker's socket would go on taking clients that nobody accepts.
            for sock in other.sockets():
                if id(sock) not in own:
                    sock.close()
        log.set_up(child.settings, child.role)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        status = child.entry(life.reading, ready.writing)
    except BaseException as error:  # noqa: BLE001  # a process' edge: nothing may get out into the master's stack
        if lacking := _lacking(error):
            _log.error("%s failed: %s", child.role, lacking)
        else:
            _log.exception("%s failed", child.role)
    finally:
        log.end()
        os._exit(status)


def _lacking(error: BaseException | None) -> str | None:
    """Say what the machine had too little of, if that was it; what broke after it does not matter."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _MEANS:
            return error.strerror
        error = error.__cause__ or error.__context__
    return None
