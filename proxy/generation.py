"""A generation: keeper and workers of one configuration, with all that they need, built before they are forked.

What the kernel gave an earlier generation is kept where it fits: listening sockets, cache, admin socket. So a reload
closes no queue, and the new workers staple from the first handshake on.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from proxy import worker
from proxy.accesslog.file import open_log
from proxy.admindoors import AdminDoors, read_token
from proxy.cache.layout import MAX_READERS
from proxy.cache.reader import CacheReader
from proxy.children import KEEPER, Child, Listener
from proxy.counters_layout import site_label
from proxy.errors import ConfigError
from proxy.holdings import Holdings, take_admin, take_ports, take_segment
from proxy.httpd import build_table, is_httpd, tell
from proxy.inheritance import free_lines, share
from proxy.inline import Inline, Wire
from proxy.listening import describe, places
from proxy.log import about
from proxy.plan import build_plan, staple_lookup
from proxy.privileges import drop, find_account, hand_over_log, look_around, whom_to_become
from proxy.redisdoor import read_door
from proxy.sites import NOT_STAPLED_BECAUSE, site_warnings, why_not_stapled
from proxy.staplefile import judge
from proxy.tls.probe import not_stapled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from proxy.cache.segment import Segment
    from proxy.children import Parts
    from proxy.control import Bulletin, Control
    from proxy.counters import Counted
    from proxy.demand import Demands
    from proxy.holdings import AdminSocket
    from proxy.listening import Ports
    from proxy.privileges import Account
    from proxy.pulse import Pulse
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite

_log = logging.getLogger("stapleproxy.master")


@dataclass(frozen=True, slots=True)
class Commons:
    """What all generations have in common."""

    demands: Demands
    control: Control
    bulletin: Bulletin
    pulse: Pulse
    inlines: list[Inline] = field(default_factory=list)
    """Of all generations whose workers still live: the one keeper answers the handshakes of all of them."""

    def leave(self, inline: Inline) -> None:
        """Nobody will ask on its wires any more."""
        if any(each is inline for each in self.inlines):
            self.inlines[:] = [each for each in self.inlines if each is not inline]
            for wire in inline.wires:
                wire.close()


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """Processes that are to be, and what they stand on."""

    settings: Settings
    keeper: Child
    workers: tuple[Listener, ...]
    ports: Ports
    segment: Segment
    admin: AdminSocket | None
    inline: Inline | None
    counted: Counted
    account: Account | None
    """Whom the processes become; None: they stay as the master is."""
    where: str
    """It accepts connections, in words."""
    undo: ExitStack
    """Gives up what is new, as if it had never been built; of no use once it serves."""

    @property
    def accepting(self) -> str:
        """Say what it does, for log and service manager."""
        count = len(self.workers)
        who = "1 worker accepts" if count == 1 else f"{count} workers accept"
        return f"{who} connections on {self.where}"

    @property
    def holdings(self) -> Holdings:
        return Holdings(self.ports, self.segment, self.admin, counters=self.counted.counters)

    def release(self, kept: Holdings) -> None:
        """Give up what the next one has not kept."""
        slots = {id(slot) for slots in kept.ports.values() for slot in slots}
        for slot in itertools.chain.from_iterable(self.ports.values()):
            if id(slot) not in slots:
                slot.close()
        if self.admin and self.admin is not kept.admin:
            self.admin.close()
        if self.segment is not kept.segment:
            self.segment.close()

    def give_log(self) -> None:
        """See to it that workers can open the access log anew; raises StartError."""
        if self.account:
            _try_log(self.settings, self.account)

    def hand_over(self) -> None:
        """Give up the master's part of what another program has now."""
        self.release(Holdings(segment=self.segment, admin=self.admin))
        if self.admin:
            self.admin.sock.close()


def build(
    settings: Settings,
    sites: tuple[LoadedSite, ...],
    commons: Commons,
    before: Holdings,
    lines_taken: Collection[int] = (),
    between: Callable[[], None] = lambda: None,
) -> Generation:
    """Build all, keep what fits of `before`. Raises ConfigError or StartError; then nothing has changed.

    `lines_taken`: where workers count that will still live, see `inheritance.free_lines`. `between` is called after
    each site; it may start processes of an earlier generation.
    """
    now = datetime.now(UTC)
    files = judge(sites, settings, now)
    if files.mistakes:
        raise ConfigError(*files.mistakes)
    for problem in (*site_warnings(sites, settings, now), *files.warnings):
        _log.warning("%s", problem)
    for site in () if is_httpd(settings) else sites:
        for identity in site.identities:
            if why := why_not_stapled(identity, site.settings, settings):
                extra = about(certificate=identity.label, reasons=[why])
                _log.info("%s: nothing is stapled (%s: %s)", identity.label, why, NOT_STAPLED_BECAUSE[why], extra=extra)
    account = _account(settings)
    with ExitStack() as undo:
        segment = take_segment(settings, before, undo)
        reader = CacheReader(segment)
        count = settings.worker_count
        inline = _inline(settings, sites, count, now)
        if inline:
            commons.inlines.append(inline)
            undo.callback(commons.leave, inline)
        lookup = staple_lookup(reader, commons.demands)
        # A process that is started meanwhile would have a new cache's lock for as long as it lives.
        beside = between if segment is before.segment else _nothing
        plan = build_plan(settings, sites, lookup, (reader, inline.table) if inline else None, beside)
        groups = [*(entrance.addresses for entrance in plan.entrances), settings.redirect.listen]
        ports = take_ports(list(itertools.chain.from_iterable(groups)), count, before, undo)
        admin = take_admin(settings, before, undo)
        at_admin = take_ports([settings.admin.listen] if settings.admin.listen else [], 1, before, undo, is_admin=True)
        doors = AdminDoors(
            admin.sock if admin else None,
            [slot.sock for slots in at_admin.values() for slot in slots if slot.sock],
            read_token(settings.admin.token_file) if settings.admin.token_file else None,
        )
        redis = read_door(settings.stapling, os.environ)
        _try_log(settings, account)  # now, where it is told to who started us

        def leave_locks(*, of_ours: bool) -> None:
            for each, is_left in ((before.segment, before.segment is not segment), (segment, of_ours)):
                if each and is_left:
                    each.leave_lock()

        def leave_old_sockets() -> None:
            # Whoever held a copy would keep the address, and have clients wait there for nobody.
            for place, slots in before.ports.items():
                for slot in slots if place not in ports and place not in at_admin else ():
                    slot.close()
            if before.admin and before.admin is not admin:
                before.admin.sock.close()

        def keep(life_fd: int, ready_fd: int) -> int:
            # Imported here, in the child: aiohttp is of no use to the workers, and would be in the memory of each.
            from proxy.keeper import process  # noqa: PLC0415

            if account:
                drop(account)
            leave_locks(of_ours=False)
            leave_old_sockets()
            inlines = (inline, *(each for each in commons.inlines if each is not inline)) if inline else ()
            return process.run(
                sites,
                settings,
                segment,
                commons.demands,
                doors,
                life_fd,
                ready_fd,
                commons.control,
                commons.bulletin,
                counted.counters,
                inlines,
                files.proved,
                redis,
            )

        def work(number: int, line: int, parts: Parts, life_fd: int, ready_fd: int) -> int:
            if account:
                drop(account)
            leave_locks(of_ours=True)
            leave_old_sockets()
            doors.close()
            commons.control.close()  # who takes a worker over may not stop the others
            reader.count_as(line)
            wire = inline.wires[number] if inline else None

            def tell(now_s: float) -> None:
                reader.tell(now_s)
                commons.pulse.beat(line, time.monotonic())

            commons.pulse.beat(line, time.monotonic())
            return worker.run(plan, parts[:-1], parts[-1], life_fd, ready_fd, tell, counted.by_worker(number), wire)

        def mend() -> None:
            if segment.mend():
                _log.error("the stapling cache's file was cut short by somebody: it is empty now, and filled anew")

        placed = [[ports[place] for address in group for place in places(address)] for group in groups]
        workers = tuple(
            Listener(
                number,
                line,
                partial(work, number, line),
                [[slot for slots in group for slot in share(slots, count, number)] for group in placed],
                settings,
                mend,
            )
            for number, line in enumerate(free_lines(lines_taken, count, MAX_READERS - 1))
        )
        where = describe(slots[0] for group in placed[:-1] for slots in group)
        if placed[-1]:
            where += f", and redirect from {describe(slots[0] for slots in placed[-1])}"
        keeper = Child(KEEPER, keep, settings, mend)
        held = {**ports, **at_admin}
        # The last thing that is taken, so that it is never left behind.
        counted = before.counters.take_all([site_label(site.names) for site in sites], count)
        return Generation(
            settings, keeper, workers, held, segment, admin, inline, counted, account, where, undo.pop_all()
        )


def _nothing() -> None: ...


def _account(settings: Settings) -> Account | None:
    account, warning = whom_to_become(find_account(settings.user, settings.group), os.geteuid())
    if warning:
        _log.warning("%s", warning)
    for problem in look_around(settings, account) if account else ():
        _log.warning("%s", problem)
    return account


def _try_log(settings: Settings, account: Account | None) -> None:
    path = settings.access_log.path
    if path and account:
        hand_over_log(path, account)
    elif path:
        os.close(open_log(path))


def _inline(settings: Settings, sites: Sequence[LoadedSite], count: int, now: datetime) -> Inline | None:
    if not is_httpd(settings):
        return None
    table, notes = build_table(sites, settings)
    tell(notes)
    for what in not_stapled(now):
        _log.warning("not as in Apache: clients do not get a response that is %s; OpenSSL leaves it out", what)
    return Inline(table, [Wire() for _ in range(count)])
