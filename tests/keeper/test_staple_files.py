"""Staple files at run time, with a real refresher and cache. Rows of the behaviours' table are named."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from keeper.responders import responder, until
from keeper.world import HOUR, ONE, TWO, World, at_work, key, stapled
from ocsp.pki import DAY, NOW, Answer, cert_id, revoked, single

from proxy.keeper import staple_files as module
from proxy.keeper.staple_files import StapleFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.005)


def response(leaf=ONE, **parts) -> bytes:
    return Answer(singles=(single(cert_id(leaf), **{"this_update": NOW - HOUR, **parts}),)).der


def with_file(path: Path, leaf=ONE, *urls: str, **more):
    """A certificate with a staple file."""
    made = stapled(leaf, *urls, **more)
    return replace(made, identity=replace(made.identity, staple_file=path))


def put(path: Path, content: bytes) -> None:
    """Replace a file as one should: whole."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


@contextlib.asynccontextmanager
async def watching(world: World, *certificates):
    """A refresher that is warmed up after the files were looked at, with all its tasks."""
    async with world.refresher(*certificates) as refresher:
        files = StapleFiles(refresher, world.settings.max_response_bytes, world.heard, now=lambda: world.moment)
        await refresher.warm_up(files.look)
        watch = asyncio.create_task(files.watch())
        async with at_work(refresher):
            yield refresher
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


def test_a_file_that_is_still_long_valid_causes_no_fetch(world, tmp_path):
    """'a staple loaded from a file and still long valid causes no fetch': it is looked at before the start."""
    der = response(next_update=NOW + 20 * DAY)
    put(tmp_path / "one.der", der)

    async def run():
        async with responder(world.responder) as url, watching(world, with_file(tmp_path / "one.der", ONE, url)):
            assert world.staple(ONE) == der
            await world.some_naps()
            assert world.responder.asked == []
            assert world.heard.kinds == ["fetched"]

    asyncio.run(run())


def test_a_file_is_all_there_is_without_a_responder(world, tmp_path):
    """Nothing is asked, and its end is told all the same."""
    der = response(next_update=NOW + DAY)
    put(tmp_path / "one.der", der)

    async def run():
        async with watching(world, with_file(tmp_path / "one.der")):
            assert world.staple(ONE) == der
            world.moment = NOW + DAY - HOUR
            await until(lambda: "expiring" in world.heard.kinds)
            world.moment = NOW + DAY
            await until(lambda: "expired" in world.heard.kinds)
            assert world.staple(ONE) is None

    asyncio.run(run())
    assert world.heard.kinds == ["fetched", "expiring", "expired"]


def test_an_update_put_in_by_hand_replaces_the_served_one(world, tmp_path):
    """'an update put in by hand replaces the served one at once', a responder's too, and written in place too."""
    path = tmp_path / "one.der"
    newer, newest = (response(this_update=NOW + ago, next_update=NOW + 9 * DAY) for ago in (HOUR / 60, HOUR / 30))

    async def run():
        async with responder(world.responder) as url, watching(world, with_file(path, ONE, url)):
            assert world.responder.questions(ONE) == 1, "there was no file"
            for put_there, der in ((put, newer), (type(path).write_bytes, newest)):
                put_there(path, der)
                await until(lambda der=der: world.staple(ONE) == der)

    asyncio.run(run())


def test_a_staple_from_a_file_is_sent_as_it_is_revoked_too(world, tmp_path):
    """'a staple from a file is sent as it is, revoked too': the operator chose this very response.

    When it is put there, after a restart that finds it in the cache, and at the first start.
    """
    path = tmp_path / "one.der"
    der = response(status=revoked(NOW - DAY), next_update=NOW + DAY)

    async def run():
        async with watching(world, with_file(path)):
            put(path, der)
            await until(lambda: world.staple(ONE) == der)
        async with watching(world, with_file(path)):
            assert world.staple(ONE) == der
        assert world.cache.remove(key(ONE))
        async with watching(world, with_file(path)):
            assert world.staple(ONE) == der

    asyncio.run(run())


def test_a_newer_response_of_the_cache_goes_before_the_file(world, tmp_path, lines):
    """After a restart the file may be the older one: that is no trouble, and the newer one is not forgotten."""
    path = tmp_path / "one.der"
    put(path, response(next_update=NOW + DAY))
    newer = response(this_update=NOW, next_update=NOW + 2 * DAY)
    world.store(ONE, newer, NOW + 2 * DAY)

    async def run():
        async with watching(world, with_file(path)):
            assert world.staple(ONE) == newer

    asyncio.run(run())
    assert lines() == [
        "INFO CN=one.example: stapled until 2030-06-17 12:00:00Z, from the cache",
        f"INFO CN=one.example: the cache has a newer response than the staple file {path}",
    ]
    assert world.heard.kinds == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"nonsense", "unparsable"),
        (response(TWO), "certid-mismatch"),
        (response(this_update=NOW - 2 * DAY, next_update=NOW - DAY), "expired"),
        (response(this_update=NOW - 2 * DAY), "older-than-held"),
        (bytes(70_000), "too-large"),
    ],
    ids=["nonsense", "another's", "expired", "older", "long"],
)
def test_a_file_that_got_worse_takes_nothing_back(world, tmp_path, lines, bad, reason):
    """It is told once for each change, with the reason's code, and as an event."""
    path = tmp_path / "one.der"
    good = response(next_update=NOW + 2 * DAY)
    put(path, good)

    async def run():
        async with watching(world, with_file(path)):
            for count in (1, 2):
                put(path, bad)
                await until(lambda count=count: world.heard.kinds.count("refused") == count)
                await world.some_naps()
            assert world.staple(ONE) == good

    asyncio.run(run())
    told = [line for line in lines() if line.startswith("WARNING")]
    assert len(told) == 2
    assert f"the staple file {path} is not stapled: {reason}: " in told[0]
    assert told[0].endswith("; the one held lasts until 2030-06-17 12:00:00Z")
    event = world.heard.events[-1]
    assert event.reasons == (reason,)
    assert event.detail.startswith(f"{path}: {reason}: ")
    assert event.serve_until == NOW + 2 * DAY


def test_a_file_that_goes_takes_nothing_back(world, tmp_path, lines):
    """It is told once, and when the file is there again it is read."""
    path = tmp_path / "one.der"
    good = response(next_update=NOW + 2 * DAY)
    put(path, good)
    newer = response(this_update=NOW, next_update=NOW + DAY)

    async def run():
        async with watching(world, with_file(path)):
            path.unlink()
            await until(lambda: any("No such file" in line for line in lines()))
            await world.some_naps()
            assert world.staple(ONE) == good
            put(path, newer)
            await until(lambda: world.staple(ONE) == newer)

    asyncio.run(run())
    (told,) = [line for line in lines() if line.startswith("WARNING")]
    assert told == (
        f"WARNING CN=one.example: the staple file {path} cannot be read: No such file or directory; "
        "the one held lasts until 2030-06-17 12:00:00Z"
    )


def test_a_file_that_does_not_change_is_not_read(world, tmp_path, monkeypatch):
    """One look is one system call; a date set anew is a change."""
    path = tmp_path / "one.der"
    put(path, response(next_update=NOW + 2 * DAY))
    reads = []
    read = module.read_marked
    monkeypatch.setattr(module, "read_marked", lambda *which: reads.append(which) or read(*which))

    async def run():
        async with watching(world, with_file(path)):
            await world.some_naps()
            assert len(reads) == 1
            os.utime(path, (1, 1))
            await until(lambda: len(reads) == 2)

    asyncio.run(run())


def test_many_files_have_their_turns(world, tmp_path, monkeypatch):
    """So that a look costs the same however many there are."""
    monkeypatch.setattr(module, "MAX_PER_LOOK", 1)
    paths = {leaf: tmp_path / f"{name}.der" for leaf, name in ((ONE, "one"), (TWO, "two"))}
    for leaf, path in paths.items():
        put(path, response(leaf, next_update=NOW + DAY))

    async def run():
        async with watching(world, *(with_file(path, leaf) for leaf, path in paths.items())):
            assert world.staple(ONE)
            assert world.staple(TWO)
            newer = {leaf: response(leaf, this_update=NOW, next_update=NOW + DAY) for leaf in paths}
            for leaf, path in paths.items():
                put(path, newer[leaf])
            await until(lambda: all(world.staple(leaf) == newer[leaf] for leaf in paths))

    asyncio.run(run())


def test_without_the_issuer_a_file_waits(world, tmp_path, lines):
    """It is read as soon as the issuer is known."""
    path = tmp_path / "one.der"
    der = response(next_update=NOW + DAY)
    put(path, der)

    async def run():
        made = with_file(path)
        async with watching(world, replace(made, identity=replace(made.identity, issuer=None))) as refresher:
            await world.some_naps()
            assert world.staple(ONE) is None
            (watched,) = refresher.watched()
            watched.issuer = made.identity.issuer
            await until(lambda: world.staple(ONE) == der)

    asyncio.run(run())
    assert [line for line in lines() if line.startswith("WARNING")] == []
