"""The keeper as a process: fetches, verifies and publishes responses until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
import warnings
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cache.layout import MAX_READERS, parse_argument
from proxy.cache.reader import CacheReader
from proxy.cache.writer import CacheWriter
from proxy.forecast import forecasts
from proxy.keeper.admin import Admin
from proxy.keeper.admin_access import Access
from proxy.keeper.admin_serving import Door, serving
from proxy.keeper.commands import Commands
from proxy.keeper.fetch import Fetcher
from proxy.keeper.httpd_refresher import HttpdRefresher
from proxy.keeper.issuers import Issuers
from proxy.keeper.metrics import Metrics
from proxy.keeper.onlooker import Onlooker
from proxy.keeper.refresher import Refresher
from proxy.keeper.reporter import Observers
from proxy.keeper.responders import Responders
from proxy.keeper.staple_files import StapleFiles
from proxy.settings.values import ListenAddress
from proxy.sites import NotStapled, stapled_certificates, why_not_stapled

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from proxy.admindoors import AdminDoors
    from proxy.cache.segment import Segment
    from proxy.control import Bulletin, Control
    from proxy.counters import Counters
    from proxy.demand import Demands
    from proxy.inline import Inline
    from proxy.keeper.fleet.fleet import Fleet
    from proxy.redisdoor import RedisDoor
    from proxy.settings.model import Settings, StaplingSettings
    from proxy.sites import LoadedSite, StapledCertificate
    from proxy.staplefile import Proved

_log = logging.getLogger("stapleproxy.keeper")


def run(
    sites: Sequence[LoadedSite],
    settings: Settings,
    segment: Segment,
    demands: Demands,
    doors: AdminDoors,
    life_fd: int,
    ready_fd: int,
    control: Control,
    bulletin: Bulletin,
    counters: Counters,
    inlines: Sequence[Inline] = (),
    proved: Proved | None = None,
    redis: RedisDoor | None = None,
) -> int:
    """Keep the cache in `segment` filled, until SIGTERM, or until `life_fd` says that the master is gone; the status.

    `demands` and what comes by `doors` are answered meanwhile.
    One byte is written to `ready_fd` when the first round of fetches is over, or its time is. With `inlines` nothing is
    fetched but what a worker asks for. `control` and `bulletin` are the ways to the master and from it; `counters` have
    what the workers count. `proved` are responses that need not be verified again. `redis`: the server that a fleet
    shares.
    """
    # cryptography warns of what servers need not mind: odd serial numbers and names in what responders send.
    warnings.simplefilter("ignore", UserWarning)
    if inlines:
        asyncio.run(
            _serve_inline(sites, settings, segment, inlines, doors, life_fd, ready_fd, control, bulletin, counters)
        )
    else:
        asyncio.run(
            _serve(
                sites, settings, segment, demands, doors, life_fd, ready_fd, control, bulletin, counters, proved, redis
            )
        )
    return 0


async def _serve(
    sites: Sequence[LoadedSite],
    settings: Settings,
    segment: Segment,
    demands: Demands,
    doors: AdminDoors,
    life_fd: int,
    ready_fd: int,
    control: Control,
    bulletin: Bulletin,
    counters: Counters,
    proved: Proved | None,
    redis: RedisDoor | None,
) -> None:
    loop = asyncio.get_running_loop()
    stop = _stop_event(life_fd)
    async with AsyncExitStack() as stack:
        stapling = settings.stapling
        fetcher = await stack.enter_async_context(Fetcher(stapling))
        issuers = _issuers(fetcher, stapling)
        metrics = Metrics(segment, counters, bulletin)
        commands = Commands(stapling.on_event, stapling.on_event_timeout_s, _log)
        responders = Responders(time.time)
        observer = Observers(metrics, responders, *([commands] if stapling.on_event else []))
        fleet = _fleet(redis, stapling)
        refresher = Refresher(
            [_with_known_issuer(each, issuers) for each in stapled_certificates(sites, settings)],
            stapling,
            CacheWriter(segment),
            fetcher=fetcher,
            find_issuer=issuers.find,
            sharing=fleet,
            observer=observer,
            log=_log,
            proved=proved,
        )
        metrics.tell_of(refresher.watched)
        metrics.tell_forecast(lambda ends, now: forecasts(sites, settings, ends, now))
        if fleet:
            metrics.tell_fleet(fleet.told)
        files = StapleFiles(refresher, stapling.max_response_bytes, observer, log=_log)

        def on_demand() -> None:
            for key in demands.receive():
                refresher.demand(key)

        loop.add_reader(demands.reading_fd, on_demand)
        reasons = never_ready(sites, settings)
        status = Onlooker(
            sites,
            settings,
            segment,
            refresher.watched(),
            responders,
            reasons,
            bulletin=bulletin,
            counters=counters,
            fleet=fleet.told if fleet else None,
        )
        admin = Admin(status, metrics, refresher, control, stapling.max_response_bytes)
        await stack.enter_async_context(serving(admin, _guarded(doors, settings)))
        await _until(stop, _work(refresher, files, commands, ready_fd, fleet))


async def _serve_inline(
    sites: Sequence[LoadedSite],
    settings: Settings,
    segment: Segment,
    inlines: Sequence[Inline],
    doors: AdminDoors,
    life_fd: int,
    ready_fd: int,
    control: Control,
    bulletin: Bulletin,
    counters: Counters,
) -> None:
    stop = _stop_event(life_fd)
    metrics, responders = Metrics(segment, counters, bulletin), Responders(time.time)
    # Hits and misses are counted by the reader's number: the last one is no worker's.
    reader = CacheReader(segment, MAX_READERS - 1)
    refresher = HttpdRefresher(inlines, reader, CacheWriter(segment), Observers(metrics, responders))
    table = inlines[0].table
    status = Onlooker(sites, settings, segment, (), responders, table=table, bulletin=bulletin, counters=counters)
    async with serving(Admin(status, metrics, control=control), _guarded(doors, settings)):
        os.write(ready_fd, b"r")
        os.close(ready_fd)
        await _until(stop, refresher.run())


def _guarded(doors: AdminDoors, settings: Settings) -> list[Door]:
    """Say who may do what at each door, and in the log where those are that have no name in a file system."""
    for sock in doors.tcp:
        host, port = sock.getsockname()[:2]
        _log.info("the admin interface is at http://%s/", ListenAddress(host, port))
    by_tcp = Access.by_tcp(settings.admin, doors.token)
    unix = [Door(doors.unix, Access(is_unix=True))] if doors.unix else []
    return [*unix, *(Door(sock, by_tcp) for sock in doors.tcp)]


def _stop_event(life_fd: int) -> asyncio.Event:
    """Make what is set when the keeper is to leave."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def on_master_gone() -> None:
        _log.warning("the master is gone; leaving")
        loop.remove_reader(life_fd)
        stop.set()

    loop.add_reader(life_fd, on_master_gone)
    return stop


async def _until(stop: asyncio.Event, working: Coroutine[None, None, None]) -> None:
    """Work until told to stop."""
    work = asyncio.create_task(working)
    stopped = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if work in done:
        work.result()  # it never ends of its own accord: this raises what ended it, and the master starts anew


def never_ready(sites: Sequence[LoadedSite], settings: Settings) -> list[str]:
    """List the certificates that say must-staple, are meant to be stapled, and cannot be."""
    return [
        f"{identity.label}: it says must-staple, and nothing can be stapled ({why})"
        for site in sites
        for identity in site.identities
        if identity.must_staple
        and (why := why_not_stapled(identity, site.settings, settings))
        and why is not NotStapled.DISABLED
    ]


def _issuers(fetcher: Fetcher, settings: StaplingSettings) -> Issuers:
    """Keep the issuers that are fetched beside the cache, where that is a file."""
    path = parse_argument(settings.local_cache).path
    return Issuers(fetcher, Path(f"{path}.issuers") if path and settings.fetch_issuer else None, _log)


def _with_known_issuer(certificate: StapledCertificate, issuers: Issuers) -> StapledCertificate:
    """Give a certificate the issuer that an earlier run has fetched: so its stored response can be verified again."""
    identity = certificate.identity
    return replace(certificate, identity=replace(identity, issuer=identity.issuer or issuers.kept(identity.leaf)))


def _fleet(redis: RedisDoor | None, stapling: StaplingSettings) -> Fleet | None:
    if redis is None:
        return None
    # Imported here: who has no fleet need not have its package.
    from proxy.keeper.fleet.fleet import Fleet  # noqa: PLC0415

    return Fleet(redis, stapling)


async def _work(
    refresher: Refresher, files: StapleFiles, commands: Commands, ready_fd: int, fleet: Fleet | None
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(commands.run())
        if fleet:
            group.create_task(fleet.run(refresher.watched(), refresher))
            await fleet.settled()
        await refresher.warm_up(files.look)
        os.write(ready_fd, b"r")
        os.close(ready_fd)
        # What there is now stays: with 100,000 certificates a full collection holds up everything for half a second.
        gc.freeze()
        group.create_task(files.watch())
        await refresher.run()
