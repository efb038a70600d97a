"""What a child of the master begins with."""

from __future__ import annotations

import gc
import os

import pytest

from proxy.children import Child
from proxy.control import Control
from proxy.forking import Pipe, fork, uncollected
from proxy.orders import Orders
from proxy.settings.model import Settings


def test_who_is_started_while_a_configuration_is_made_collects_all_the_same():
    """A worker that is replaced during a reload lives on for weeks."""
    site = {"certificate": [{"chain": "chain.pem", "key": "key.pem"}], "upstream": "http://127.0.0.1:1"}
    child = Child("worker", lambda *_: 0 if gc.isenabled() else 3, Settings.model_validate({"site": [site]}))
    life, ready = Pipe(*os.pipe()), Pipe(*os.pipe())
    try:
        with uncollected():
            pid = fork(child, (), Orders(Control()), life, ready)
    finally:
        for fd in (*life, *ready):
            os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_configuration_that_is_refused_leaves_the_collector_on():
    with pytest.raises(ValueError, match="refused"), uncollected():
        raise ValueError("refused")
    assert gc.isenabled()
