"""What a comparison does when, and how the fronts are set for it. Pure.

An outage that an operator remembers lasts hours, against a cache that Apache keeps for one. Nobody waits that long to
see it: time runs so much faster that `STANDS_FOR_S` pass in one run, and what the profiles go by is scaled alike. What
a client would wait for an answer is not: a wait of ten seconds is one whatever the calendar says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from proxy.lab.scenario import changes

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.lab.fault import Fault
    from proxy.lab.scenario import Change, Step

HOST = "127.0.0.1"
STANDS_FOR_S = 22_500
"""Six and a quarter hours: 75 s show an outage of two and a half, 300 times as fast."""
INTERVAL_S = 0.25
CLIENT_DEADLINE_S = 12.0
"""Above the ten seconds after which a front ends a handshake, so that its end is seen, not ours."""
WORKERS = 2
"""The fewest that share what they fetch."""
_BEGIN, _LENGTH, _VALIDITY = 0.2, 0.4, 1.2
"""Parts of the run. What is refreshed at half its validity has more left than the trouble lasts, always."""
_RESPONDER_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """One comparison. Times are seconds from its start."""

    profiles: tuple[str, ...]
    seconds: int
    steps: tuple[Step, ...]
    validity_s: int

    @property
    def speed(self) -> float:
        """How many seconds one second stands for."""
        return STANDS_FOR_S / self.seconds

    @property
    def responder_timeout_s(self) -> int:
        """At most Apache's default, and short enough to be seen in a short run."""
        return min(max(round(self.seconds / 25), 1), _RESPONDER_TIMEOUT_S)

    @property
    def due(self) -> tuple[float, ...]:
        """When a client of each profile begins its handshake, whatever became of those before."""
        return tuple(number * INTERVAL_S for number in range(int(self.seconds / INTERVAL_S)))

    def trouble_since(self, at_s: float) -> float | None:
        """When the latest trouble began; None: there was none yet."""
        return max((step.at_s for step in self.steps if step.at_s <= at_s), default=None)


class Phase(NamedTuple):
    """A time in which the responder does the same; `fault` None: it is healthy."""

    begin_s: float
    end_s: float
    fault: Fault | None


class Scaled(NamedTuple):
    """One setting of a front, in the run and as it stands by default."""

    key: str
    value: int
    default: int
    directive: str = ""


def default_trouble(seconds: int) -> tuple[int, int]:
    """When it begins and how long it lasts, for a run of so many seconds; whole, as thisUpdate is."""
    return round(seconds * _BEGIN), round(seconds * _LENGTH)


def default_validity_s(seconds: int) -> int:
    return round(seconds * _VALIDITY)


def phases(plan: Plan) -> tuple[Phase, ...]:
    """Cut the run where the responder changes."""
    found: list[Phase] = []
    begin_s, fault = 0.0, None
    for change in changes(plan.steps):
        end_s = min(change.at_s, float(plan.seconds))
        if end_s > begin_s:
            found.append(Phase(begin_s, end_s, fault))
        begin_s, fault = end_s, change.fault if change.step else None
    if begin_s < plan.seconds:
        found.append(Phase(begin_s, float(plan.seconds), fault))
    return tuple(found)


def agenda(plan: Plan) -> tuple[tuple[float, Change | None], ...]:
    """List what is to be done, in order of time: a change at the responder, or (None) a client of each profile."""
    todo: list[tuple[float, Change | None]] = [
        (change.at_s, change) for change in changes(plan.steps) if change.at_s < plan.seconds
    ]
    todo += [(at_s, None) for at_s in plan.due]
    return tuple(sorted(todo, key=lambda each: each[0]))  # stable: the change goes before the client of that moment


def scaled(plan: Plan) -> tuple[Scaled, ...]:
    """List what the fronts are set to; all of them alike, for each profile reads its own and ignores the others'."""

    def faster(default_s: int) -> int:
        return max(round(default_s / plan.speed), 1)

    return (
        Scaled("stapling.fetch_timeout_s", plan.responder_timeout_s, 10),
        Scaled("stapling.refresh_min_interval_s", faster(30), 30),
        Scaled("stapling.retry_min_interval_s", faster(5), 5),
        Scaled("stapling.retry_max_interval_s", faster(3600), 3600),
        Scaled("stapling.httpd.responder_timeout_s", plan.responder_timeout_s, 10, "SSLStaplingResponderTimeout"),
        Scaled("stapling.httpd.standard_cache_timeout_s", faster(3600), 3600, "SSLStaplingStandardCacheTimeout"),
        Scaled("stapling.httpd.error_cache_timeout_s", faster(600), 600, "SSLStaplingErrorCacheTimeout"),
        Scaled("stapling.httpd.response_time_skew_s", faster(300), 300, "SSLStaplingResponseTimeSkew"),
    )


def server_name(profile: str) -> str:
    """Give the name in the certificate of that profile's front."""
    return f"{profile}.test"


def front_config(plan: Plan, profile: str, *, port: int, chain: Path, key: Path, upstream: str) -> str:
    """Write a front's configuration: but for port, certificate and profile all fronts have the same."""
    # Dotted keys, so that each line is whole; a JSON string is a TOML string too.
    lines = [
        f'listen = ["{HOST}:{port}"]',
        f"workers = {WORKERS}",
        f"stapling.profile = {json.dumps(profile)}",
        *(f"{each.key} = {each.value}" for each in scaled(plan)),
        "",
        "[[site]]",
        f"names = [{json.dumps(server_name(profile))}]",
        f"upstream = {json.dumps(upstream)}",
        f"certificate = [{{ chain = {json.dumps(str(chain))}, key = {json.dumps(str(key))} }}]",
    ]
    return "\n".join(lines) + "\n"
