"""The keeper as a process: fetches, verifies and publishes responses until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from proxy.cache.writer import CacheWriter
from proxy.keeper.admin import Admin, serving
from proxy.keeper.fetch import Fetcher
from proxy.keeper.metrics import Metrics
from proxy.keeper.refresher import Refresher

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from proxy.cache.segment import Segment
    from proxy.demand import Demands
    from proxy.settings.model import StaplingSettings
    from proxy.sites import StapledCertificate

_log = logging.getLogger("stapleproxy.keeper")


def run(
    certificates: Sequence[StapledCertificate],
    settings: StaplingSettings,
    segment: Segment,
    demands: Demands,
    admin_socket: socket.socket | None,
    life_fd: int,
    ready_fd: int,
) -> int:
    """Keep the cache in `segment` filled, until SIGTERM, or until `life_fd` says that the master is gone; the status.

    `demands` and what comes by `admin_socket`, if there is one, are answered meanwhile.
    One byte is written to `ready_fd` when the first round of fetches is over, or its time is.
    """
    asyncio.run(_serve(certificates, settings, segment, demands, admin_socket, life_fd, ready_fd))
    return 0


async def _serve(
    certificates: Sequence[StapledCertificate],
    settings: StaplingSettings,
    segment: Segment,
    demands: Demands,
    admin_socket: socket.socket | None,
    life_fd: int,
    ready_fd: int,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def on_master_gone() -> None:
        _log.warning("the master is gone; leaving")
        loop.remove_reader(life_fd)
        stop.set()

    loop.add_reader(life_fd, on_master_gone)
    async with AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(Fetcher(settings))
        metrics = Metrics(segment)
        cache = CacheWriter(segment)
        refresher = Refresher(certificates, settings, cache, fetcher=fetcher, observer=metrics, log=_log)
        metrics.tell_of(refresher.watched)

        def on_demand() -> None:
            for key in demands.receive():
                refresher.demand(key)

        loop.add_reader(demands.reading_fd, on_demand)
        await stack.enter_async_context(serving(Admin(refresher, metrics), admin_socket))
        work = asyncio.create_task(_work(refresher, ready_fd))
        stopped = asyncio.create_task(stop.wait())
        done, pending = await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if work in done:
            work.result()  # it never ends of its own accord: this raises what ended it, and the master starts anew


async def _work(refresher: Refresher, ready_fd: int) -> None:
    await refresher.warm_up()
    os.write(ready_fd, b"r")
    os.close(ready_fd)
    await refresher.run()
