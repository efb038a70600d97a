from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small() -> Iterator[Segment]:
    """Anonymous memory of the least size: one subcache of 5 entries in 7968 bytes."""
    segment = Segment.create(CacheArgument("", 8192))
    yield segment
    segment.close()
