"""One process of the load: is told rounds over a pipe, and answers with what it counted."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from proxy.bench.context import client_offer
from proxy.bench.crowd import Crowd
from proxy.bench.driver import Round
from proxy.bench.plan import MAX_OPEN
from proxy.bench.samples import SampleFile
from proxy.errors import StapleproxyError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from proxy.bench.plan import Part, Phase, Work
    from proxy.bench.tally import Tally

STOP = None
"""What the parent says to end a round before its time."""
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
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # as many as allowed, if these are not
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    unlimited = soft == resource.RLIM_INFINITY
    max_open = MAX_OPEN if unlimited else max(min(MAX_OPEN, soft - _OTHER_DESCRIPTORS), 1)
    try:
        offer = client_offer(work.tls)
        samples = SampleFile(work.samples) if work.samples else None
    except (StapleproxyError, OSError) as error:
        pipe.send(str(error))
        return
    loop = uvloop.new_event_loop()
    crowd = Crowd(work, offer, loop, samples)
    with contextlib.closing(loop), contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(Progress())
        while True:
            order = pipe.recv()
            if order is STOP:
                continue  # it was meant for a round that had ended by itself
            if order.part.concurrency > max_open:
                pipe.send(
                    f"{order.part.concurrency} connections at once are more than a process may open here ({max_open}): "
                    "raise the limit with ulimit -n, or give more --processes"
                )
                return
            try:
                tally = loop.run_until_complete(_run(crowd, order, pipe, max_open))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except OSError as error:  # of descriptors, or of the disk that the samples are written to
                pipe.send(f"the load cannot go on: {error.strerror}")
                return
            pipe.send(tally)


async def _run(crowd: Crowd, order: Order, pipe: Connection, max_open: int) -> Tally:
    round_ = Round(crowd, order.phase, order.part, order.start_ns, max_open=max_open)
    # A callback that breaks would leave its client open for ever, and the round without an end.
    crowd.loop.set_exception_handler(
        lambda _, context: round_.abort(context.get("exception") or RuntimeError(context["message"]))
    )
    talking = asyncio.ensure_future(_talk(round_, pipe))
    try:
        return await round_.run()
    finally:
        talking.cancel()


async def _talk(round_: Round, pipe: Connection) -> None:
    """Tell how it goes. Whatever the parent says in a round ends it; its death ends it at once."""
    try:
        while True:
            await asyncio.sleep(_PROGRESS_EVERY_S)
            pipe.send(Progress(round_.tally.handshakes, round_.tally.failed))
            # Asked now and then, not watched: the loop would make the pipe non-blocking.
            if pipe.poll():
                pipe.recv()
                round_.stop()
    except (EOFError, OSError) as error:
        round_.abort(error)
