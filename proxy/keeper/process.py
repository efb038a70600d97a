"""The keeper as a process: fetches, verifies and publishes responses until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from proxy.keeper.fetch import Fetcher
from proxy.keeper.refresher import Refresher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.cache.writer import CacheWriter
    from proxy.demand import Demands
    from proxy.settings.model import StaplingSettings
    from proxy.sites import StapledCertificate

_log = logging.getLogger("stapleproxy.keeper")


def run(
    certificates: Sequence[StapledCertificate],
    settings: StaplingSettings,
    cache: CacheWriter,
    demands: Demands,
    life_fd: int,
    ready_fd: int,
) -> int:
    """Keep `cache` filled and answer `demands`, until SIGTERM or `life_fd` says that the master is gone; the status.

    One byte is written to `ready_fd` when the first round of fetches is over, or its time is.
    """
    asyncio.run(_serve(certificates, settings, cache, demands, life_fd, ready_fd))
    return 0


async def _serve(
    certificates: Sequence[StapledCertificate],
    settings: StaplingSettings,
    cache: CacheWriter,
    demands: Demands,
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
    async with Fetcher(settings) as fetcher:
        refresher = Refresher(certificates, settings, cache, fetcher=fetcher, log=_log)

        def on_demand() -> None:
            for key in demands.receive():
                refresher.demand(key)

        loop.add_reader(demands.reading_fd, on_demand)
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
