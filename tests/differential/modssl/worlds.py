"""All cases, grouped by what has to run apart: other main server settings, other first hosts, nothing beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from differential.modssl import asking, hosts, judging, rows, starts, transport
from differential.modssl.stage import Case, Host
from differential.modssl.world import World

if TYPE_CHECKING:
    from differential.modssl.answers import Speaker


def worlds(speaker: Speaker, *, has_ipv6: bool) -> tuple[World, ...]:
    """In no order that matters."""
    requests = asking.requests(has_ipv6=has_ipv6)
    return (
        World("rows", (*rows.cases(), *transport.cases(speaker), *judging.cases(), *starts.cases(), *requests)),
        World("waits", tuple(transport.waiting_cases(speaker))),
        World("names", (*hosts.names(), asking.query_without_path()), ports=2),
        World("inherited", tuple(hosts.inherited()), hosts.MAIN),
        World("forced", tuple(hosts.forced()), hosts.MAIN_FORCED),
        World("proxied", tuple(hosts.proxied()), hosts.MAIN_PROXIED),
        World("together", tuple(asking.together(speaker)), at_once=1),
        World("fatal", (_bystander(), *asking.fatal()), at_once=1),
    )


def _bystander() -> Case:
    """Without it the first host, which answers who only looks whether the server is up, would be one that kills it."""
    return Case("J", "another host", lambda _: None, (Host(),))
