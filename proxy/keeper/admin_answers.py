"""What the admin interface answers in JSON; the largest of it is `status.Status`. PURE."""

# pydantic reads the types below at run time: so there are no postponed annotations.
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from proxy.keeper.status import Certificate, Generation, Status


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why not."""

    error: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a response is not stapled."""

    error: str
    reason: str
    """The code, as in the log and the metrics."""


@dataclass(frozen=True, slots=True)
class Health:
    """It runs."""

    status: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether all is there that has to be."""

    ready: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Staples:
    """All certificates that are stapled."""

    staples: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Refreshing:
    """Which certificate is asked for."""

    refreshing: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the master was told."""

    ordered: str


SHAPES = (
    Certificate,
    Generation,
    Health,
    Mistake,
    Ordered,
    Readiness,
    Refreshing,
    Refused,
    Staples,
    Status,
)
"""All that is answered in JSON."""
_ADAPTERS: dict[type, TypeAdapter[object]] = {shape: TypeAdapter(shape) for shape in SHAPES}


def to_json(answer: object) -> bytes:
    """Write one of these."""
    return _ADAPTERS[type(answer)].dump_json(answer, indent=2) + b"\n"
