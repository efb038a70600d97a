"""The one table of what can go wrong at a responder, and of what is odd and yet right.

It drives the lab's responder, ``stapleproxy lab --list``, the tests and docs/faults.md.
"""

from __future__ import annotations

from difflib import get_close_matches

from proxy.lab.fault import Condition, Fault
from proxy.lab.faults_http import HTTP
from proxy.lab.faults_response import RESPONSE
from proxy.lab.faults_transport import TRANSPORT

__all__ = ["BY_NAME", "FAULTS", "Condition", "Fault", "no_such_fault"]

FAULTS: tuple[Fault, ...] = (*TRANSPORT, *HTTP, *RESPONSE)
BY_NAME = {fault.name: fault for fault in FAULTS}


def no_such_fault(name: str) -> str:
    """Say it in one sentence, with what may have been meant."""
    near = get_close_matches(name, BY_NAME, n=1)
    hint = f"did you mean {near[0]}?" if near else "stapleproxy lab --list prints all that there are"
    return f"no fault is named {name[:60]!r}: {hint}"
