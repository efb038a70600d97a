"""One process of the load: is told rounds over a pipe, and answers with what it counted."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from proxy.bench.context import client_context
from proxy.bench.crowd import Crowd
from proxy.bench.driver import Round
from proxy.bench.plan import MAX_OPEN
from proxy.errors import StapleproxyError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from proxy.bench.plan import Part, Phase, Work
    from proxy.bench.tally import Tally

_PROGRESS_EVERY_S = 0.25
_OTHER_DESCRIPTORS = 64
"""Of the interpreter, the loop and the pipe."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the parent wants next."""

    phase: Phase
    part: Part
    start_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a process has counted so far in a round; it is ready when the first one comes."""

    handshakes: int = 0
    failed: int = 0


def serve(work: Work, pipe: Connection) -> None:
    """Do what comes over the pipe until it is closed; what goes back is a Progress, a Tally, or a sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # as many as allowed, if these are not
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    unlimited = soft == resource.RLIM_INFINITY
    max_open = MAX_OPEN if unlimited else max(min(MAX_OPEN, soft - _OTHER_DESCRIPTORS), 1)
    try:
        context = client_context(work.tls)
    except StapleproxyError as error:
        pipe.send(str(error))
        return
    loop = uvloop.new_event_loop()
    crowd = Crowd(work, context, loop)
    with contextlib.closing(loop), contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(Progress())
        while True:
            order = pipe.recv()
            pipe.send(loop.run_until_complete(_run(crowd, order, pipe, max_open)).closed())


async def _run(crowd: Crowd, order: Order, pipe: Connection, max_open: int) -> Tally:
    round_ = Round(crowd, order.phase, order.part, order.start_ns, max_open=max_open)
    telling = asyncio.ensure_future(_tell(round_.tally, pipe))
    try:
        return await round_.run()
    finally:
        telling.cancel()


async def _tell(tally: Tally, pipe: Connection) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_EVERY_S)
        pipe.send(Progress(tally.handshakes, tally.failed))
