"""Tells a responder of the lab what to do, over HTTP."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from proxy.lab.fault import Fault

ANSWER_WITHIN_S = 5.0
FAULTS_PATH = "/-/faults"


def set_fault(responder_url: str, fault: Fault | None) -> None:
    """Set it for everything; None: answer rightly. Raises LabError."""
    # Not urllib: it would ask an HTTP proxy of the environment.
    connection = HTTPConnection(urlsplit(responder_url).netloc, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("DELETE" if fault is None else "PUT", FAULTS_PATH, None if fault is None else fault.name)
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        raise LabError(f"the responder cannot be told what to do: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise LabError(f"the responder did not do as it was told: {answer.status}, {said}")
