"""Whose turn it is in a fleet, without a server."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from keeper.world import NOW, ONE, stapled

from proxy.keeper.fleet.decide import Free
from proxy.keeper.fleet.server import _apart
from proxy.keeper.fleet.trouble import FleetTrouble
from proxy.keeper.turns import Turns
from proxy.keeper.watched import Watched


class Server:
    """Nobody has anything."""

    name = "a server"

    def __init__(self):
        self.looks = 0

    async def look(self, _watched, *, insists):
        assert not insists
        self.looks += 1
        return Free()


def test_what_is_announced_while_it_waits_for_its_look_needs_none():
    """At a first start of a fleet all certificates wait here, and most are announced by others meanwhile."""

    async def run():
        server, due = Server(), NOW + timedelta(hours=1)
        turns = Turns(server, None, None, None, None, None, 1.0, lambda: NOW, lambda: 0.0)
        watched = Watched(stapled(ONE, "http://ocsp.test/"), None)
        turns.settle(watched, due)
        assert await turns.look(watched) == due
        assert server.looks == 0
        assert await turns.look(watched) is None
        assert server.looks == 1

    asyncio.run(run())


def test_an_operation_that_was_given_up_within_ends_nobody():
    """What redis-py makes of a cancellation of its own is a trouble of the server, and not the end of who waits."""

    async def gives_up():
        raise asyncio.CancelledError

    async def run():
        with pytest.raises(FleetTrouble, match="given up"):
            await _apart(gives_up(), 1.0, ())

    asyncio.run(run())
