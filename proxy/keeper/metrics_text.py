"""Prometheus' text format (0.0.4), written from a table. Pure.

Not by prometheus_client: a page of 100,000 certificates or 10,000 sites has a million lines, and its objects take
some four times as long for each. The tests read what is written here with that library's parser, and with promtool.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Spread:
    """What a histogram has at one moment: how many were in each bucket, the last is without end; and their sum."""

    ends: Sequence[float]
    counts: Sequence[int]
    total: float


Sample = tuple[tuple[str, ...], "float | Spread"]
"""The labels' values, and the value."""


def lines(name: str, kind: Kind, meaning: str, labels: Sequence[str], samples: Iterable[Sample]) -> Iterator[str]:
    """Write one metric, each line with its end."""
    yield f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
    for values, value in samples:
        pairs = [f'{label}="{escaped(each)}"' for label, each in zip(labels, values, strict=True)]
        if isinstance(value, Spread):
            yield from _histogram(name, pairs, value)
        else:
            yield f"{name}{_braced(pairs)} {value}\n"


def _histogram(name: str, pairs: list[str], spread: Spread) -> Iterator[str]:
    *upto, count = accumulate(spread.counts)
    for end, below in zip(spread.ends, upto, strict=True):
        bounded = [*pairs, f'le="{end}"']
        yield f"{name}_bucket{_braced(bounded)} {below}\n"
    unbounded = [*pairs, 'le="+Inf"']
    yield f"{name}_bucket{_braced(unbounded)} {count}\n"
    yield f"{name}_sum{_braced(pairs)} {spread.total}\n{name}_count{_braced(pairs)} {count}\n"


def _braced(pairs: list[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def escaped(value: str) -> str:
    """Write a label's value as it stands between quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value
