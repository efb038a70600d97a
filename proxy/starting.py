"""How a generation comes up: the keeper, and when it has its first responses the workers, who then listen."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.supervisor import GRACE_S

if TYPE_CHECKING:
    from proxy.generation import Generation
    from proxy.supervisor import Supervisor
    from proxy.systemd import Manager

_log = logging.getLogger("stapleproxy.master")

_START_TIMEOUT_S = 10.0


def start(generation: Generation, supervisor: Supervisor, manager: Manager) -> None:
    """Start the first one. Nobody serves meanwhile, so what comes up late is better than nothing."""
    supervisor.keep([generation.keeper])
    warmup_s = generation.settings.stapling.warmup_timeout_s + GRACE_S
    manager.starting("fetching OCSP responses", warmup_s + _START_TIMEOUT_S)
    supervisor.wait_until(lambda: generation.keeper.is_ready, warmup_s)
    if not supervisor.is_stopping:
        supervisor.keep(generation.workers)
    supervisor.wait_until(lambda: all(each.is_ready for each in generation.workers), _START_TIMEOUT_S)
    if not supervisor.is_stopping and not all(each.is_ready for each in generation.workers):
        _log.error("not all workers came up within %.0f s; going on with those that did", _START_TIMEOUT_S)


def bring_up(generation: Generation, supervisor: Supervisor, manager: Manager) -> list[str]:
    """Start one that is to take another's place; why it did not come up, or nothing."""
    keeper, workers = generation.keeper, generation.workers
    limit_s = generation.settings.stapling.warmup_timeout_s + _START_TIMEOUT_S
    manager.starting("starting new processes", limit_s + _START_TIMEOUT_S + GRACE_S)
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
    late = [each for each in (keeper, *workers) if not each.is_ready]
    dead = [each for each in late if not each.pid]  # with one of them the others were not waited for any longer
    return [_why_not(each.role, each.pid, _START_TIMEOUT_S) for each in dead or late]


def _why_not(who: str, pid: int, within_s: float) -> str:
    return f"{who} was not ready within {within_s:.0f} s" if pid else f"{who} did not come up: see its lines in the log"
