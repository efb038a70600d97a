"""A row of the table of faults."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from proxy.errors import FetchReason, Reason
    from proxy.lab.plays import Play


class Condition(StrEnum):
    """What must be so for a fault to be one; else its answer is right."""

    NONCE = "the request has a nonce"
    HELD = "a newer answer is held"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a responder may do."""

    name: str
    group: Literal["transport", "http", "response"]
    what: str
    """One sentence for people."""
    reason: Reason | FetchReason | None
    """The engine's word for it in log, metrics and ``explain``; None: the answer is good, and has to be stapled."""
    play: Play
    only_when: Condition | None = None
