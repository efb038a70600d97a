"""One refresher's world, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from keeper.world import World

from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.keeper import refresher as refresher_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _short_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refresher looks at the clock, which the tests set, after each nap."""
    monkeypatch.setattr(refresher_module, "LONGEST_NAP_S", 0.005)


@pytest.fixture
def segment() -> Iterator[Segment]:
    segment = Segment.create(CacheArgument("", 65_536))
    yield segment
    segment.close()


@pytest.fixture
def world(segment: Segment) -> World:
    return World(segment)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines logged, with their level."""
    caplog.set_level("INFO", logger="stapleproxy.keeper")
    return lambda: [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
