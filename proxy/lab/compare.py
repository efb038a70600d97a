"""One trouble at one responder, played against a front of each profile at once, with the same clients at each.

The load is open: a client comes every quarter of a second, whether those before it were served or still wait. Else a
front that holds its clients up would be asked less often, and look better for it.
"""

from __future__ import annotations

import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from proxy.lab.client import ProbeError, probe
from proxy.lab.compare_outcomes import Handshake, Outcome, Report, judge
from proxy.lab.compare_plan import CLIENT_DEADLINE_S, HOST, INTERVAL_S, agenda, front_config, server_name
from proxy.lab.control import set_fault
from proxy.lab.stack import certificates_begin, free_port, running_servers, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from cryptography import x509

    from proxy.lab.compare_plan import Plan
    from proxy.lab.scenario import Change
    from proxy.lab.stack import Child, Servers

CLIENTS_AT_ONCE = math.ceil(CLIENT_DEADLINE_S / INTERVAL_S) + 1
"""So many wait at one front when it answers none of them: no client ever waits for a thread."""


@dataclass(frozen=True, slots=True)
class Front:
    """One proxy."""

    profile: str
    port: int
    leaf: x509.Certificate
    process: Child


@dataclass(frozen=True, slots=True)
class Lab:
    """All fronts, and what is behind them."""

    servers: Servers
    fronts: tuple[Front, ...]

    def check_alive(self) -> None:
        """Raise LabError if any part has ended."""
        for child in (self.servers.responder, self.servers.backend, *(front.process for front in self.fronts)):
            child.check_alive()


@contextlib.contextmanager
def running_fronts(plan: Plan, folder: Path) -> Iterator[Lab]:
    """Start a front for each profile with what is behind them, and stop all at the end. Raises LabError."""
    with running_servers(folder, validity_s=plan.validity_s) as servers:
        # One after the other, so that no two are given the same free port.
        yield Lab(servers, tuple(_start_front(servers, plan, profile) for profile in plan.profiles))


def _start_front(servers: Servers, plan: Plan, profile: str) -> Front:
    issued = servers.ca.issue(
        [server_name(profile)], ocsp_urls=[f"{servers.responder_url}/"], not_before=certificates_begin()
    )
    port = free_port(0)
    chain, key, config = (servers.folder / f"{issued.stem}.{end}" for end in ("pem", "key", "toml"))
    with usable(servers.folder):
        servers.ca.write(servers.folder)
        config.write_text(
            front_config(plan, profile, port=port, chain=chain, key=key, upstream=servers.backend_url),
            encoding="utf-8",
        )
    return Front(profile, port, issued.leaf, servers.start_front(f"front-{profile}", config, port))


def observe(lab: Lab, plan: Plan, tell: Callable[[Change], None]) -> Report:
    """Play the plan and watch the clients; `tell` hears of each change. Raises LabError when a part ends."""
    begun, started_at = _next_second()
    clients: list[Future[Handshake]] = []
    orders: list[Future[None]] = []
    with contextlib.ExitStack() as pools:

        def pool(size: int) -> ThreadPoolExecutor:
            threads = ThreadPoolExecutor(size)
            # Not waited for when something went wrong: the fronts are stopped next, which ends every client.
            pools.callback(threads.shutdown, wait=False, cancel_futures=True)
            return threads

        # The responder is told by a thread of its own: a slow answer to that must hold no client up.
        operator = pool(1)
        threads = {front.profile: pool(CLIENTS_AT_ONCE) for front in lab.fronts}
        for at_s, change in agenda(plan):
            time.sleep(max(started_at + at_s - time.monotonic(), 0))
            lab.check_alive()
            if change is not None:
                fault = change.fault if change.step else None
                orders.append(operator.submit(set_fault, lab.servers.responder_url, fault))
                tell(change)
                continue
            clients += [
                threads[front.profile].submit(_handshake, lab, front, plan, begun, started_at, at_s)
                for front in lab.fronts
            ]
        for order in orders:
            order.result()
        return Report(plan, begun, tuple(client.result() for client in clients))


def _next_second() -> tuple[datetime, float]:
    """Wait for a whole second of the clock; gives it, and the loop's time then.

    thisUpdate has whole seconds: so a trouble that begins at one parts what was issued before it from what came after.
    """
    now = time.time()
    second = math.ceil(now)
    started_at = time.monotonic() + (second - now)
    time.sleep(max(started_at - time.monotonic(), 0))
    return datetime.fromtimestamp(second, UTC), started_at


def _handshake(lab: Lab, front: Front, plan: Plan, begun: datetime, started_at: float, due_s: float) -> Handshake:
    ca = lab.servers.ca
    der: bytes | None = None
    failure: ProbeError | None = None
    try:
        der = probe(
            HOST,
            front.port,
            server_name(front.profile),
            roots=[ca.root.certificate],
            timeout_s=CLIENT_DEADLINE_S,
        ).staple_der
    except ProbeError as error:
        failure = error
    wait_s = time.monotonic() - started_at - due_s
    if failure is not None:
        outcome = Outcome.LATE if isinstance(failure.__cause__, TimeoutError) else Outcome.ALERT
        return Handshake(front.profile, due_s, wait_s, outcome, str(failure))
    since_s = plan.trouble_since(due_s)
    outcome, why = judge(
        der,
        leaf=front.leaf,
        issuer=ca.intermediate.certificate,
        now=datetime.now(UTC),
        trouble_since=None if since_s is None else begun + timedelta(seconds=since_s),
    )
    return Handshake(front.profile, due_s, wait_s, outcome, why)
