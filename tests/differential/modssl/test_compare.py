"""The judge itself: a comparison that finds nothing is worth as much as what it would have found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from differential.modssl.compare import Compared, Verdict
from differential.modssl.responder import Query
from differential.modssl.servers import _APACHE_LINE, _OUR_LINE, HostLog
from differential.modssl.stage import Case, Observation
from differential.modssl.world import Site

SEEN = Observation("first", "none", (Query(b"POST / HTTP/1.0", b"0"),), (1951, 1952))
DEAD = Observation("first", "connection lost", (), (1951, 1938))
ALERT = replace(DEAD, outcome="alert 80", numbers=(1951, 1938, 1940, 1955))


def verdicts(apache, ours, *, row="A"):
    site = Site(Path(), Path(), (), {})
    return [step.verdict for step in Compared(Case(row, "x", lambda _: None), site, apache, ours).steps()]


def test_the_same_is_the_same():
    assert verdicts((SEEN, SEEN), (SEEN, SEEN)) == [Verdict.SAME] * 2


@pytest.mark.parametrize(
    "other",
    [
        replace(SEEN, outcome="tryLater"),
        replace(SEEN, queries=()),
        replace(SEEN, queries=(Query(b"POST / HTTP/1.1", b"0"),)),
        replace(SEEN, numbers=(1952, 1951)),
        replace(SEEN, what="second"),
    ],
    ids=["outcome", "no query", "bytes of the query", "order of the log", "step"],
)
def test_each_thing_that_is_compared_can_differ(other):
    assert verdicts((SEEN,), (other,)) == [Verdict.FINDING]


def test_a_step_that_one_did_not_come_to_is_a_finding():
    assert verdicts((SEEN, SEEN), (SEEN,)) == [Verdict.SAME, Verdict.FINDING]


def test_a_known_difference_must_be_there_and_must_be_that_one():
    """Where Apache dies ours sends an alert: to die too is an expected difference gone, anything else a new one."""
    assert verdicts((DEAD,), (ALERT,), row="J") == [Verdict.KNOWN]
    assert verdicts((DEAD,), (DEAD,), row="J") == [Verdict.GONE]
    assert verdicts((DEAD,), (replace(ALERT, outcome="none"),), row="J") == [Verdict.FINDING]
    assert verdicts((DEAD,), (ALERT,), row="I") == [Verdict.FINDING]


def test_log_lines_are_given_to_their_hosts(tmp_path):
    """Apache's lines about the responder have the first host's name: their thread tells whose they are."""
    path = tmp_path / "log"
    log = HostLog(path, _APACHE_LINE)
    path.write_text(
        "[b.test] 1:7 AH01951: x\n[a.test] 1:8 AH01951: x\n[first.test] 1:7 AH01973: x\n[first.test] 1:8 AH01975: x\n"
        "[b.test] 1:7 AH02043: x\n[b.test] 1:7 AH019"
    )
    assert log.numbers(["b.test"]) == [1951, 1973]
    assert log.numbers(["a.test"]) == [1951, 1975]
    with path.open("a") as file:
        file.write("56: x\n")
    assert log.numbers(["b.test"]) == [1951, 1973, 1956]
    path.write_text("2026-11-22 23:33:26,998 DEBUG worker-0[6734] AH01951: [b.test] x\n")
    assert HostLog(path, _OUR_LINE).numbers(["b.test"]) == [1951]
