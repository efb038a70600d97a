"""Ours beside Apache's mod_ssl: the same configuration file, responder and clients, step by step.

Every difference must be one that `compare.KNOWN` has a reason for, and each of those must be there. The same as a page:
`make differential`.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from differential.modssl import compare, starts, texts
from differential.modssl.compare import KNOWN, Verdict
from differential.modssl.report import told
from lab.servers import require_peer

from proxy.lab.ca import LabCA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    require_peer("apache2")
    compared = compare.compare(tmp_path_factory.mktemp("modssl"))
    return [step for each in compared for step in each.steps()]


def _told(steps: list[compare.Step], verdict: Verdict) -> list[str]:
    return [
        f"{step.case.key}, {step.apache.what}: "
        f"Apache {told(step.apache, step.ours)}, ours {told(step.ours, step.apache)}"
        for step in steps
        if step.verdict is verdict
    ]


def test_each_step_is_as_in_apache_or_different_for_a_reason(steps):
    """Staple, none or alert; the bytes that reach the responder; the numbers in the log, in order."""
    assert not _told(steps, Verdict.FINDING)


def test_no_difference_is_expected_that_is_none(steps):
    """A table of reasons that nobody needs any more would hide the next mistake."""
    assert not _told(steps, Verdict.GONE)
    assert {step.known.name for step in steps if step.known} == {known.name for known in KNOWN}


def test_the_cases_tell_their_rows_apart(steps):
    """In Apache each row shows what it is there for: else a case would compare nothing."""
    shown = {}
    for step in steps:
        shown.setdefault(step.case.row, set()).add(step.apache.outcome.split(",")[0])
    assert {"answer 1", "none"} <= shown["D"]
    assert {"tryLater", "none"} <= shown["C"]
    assert "alert 80" in shown["I"]
    assert "connection lost" in shown["J"]
    assert not [step for step in steps if step.apache.what == "broken"]


def test_the_configuration_test_says_the_same(tmp_path):
    """Of each line, right or wrong: accepted, or refused in the same words."""
    require_peer("apache2")
    apache, ours = texts.told_by_apache(tmp_path / "apache"), texts.told_by_ours(tmp_path / "ours")
    different = {str(each): (said, ours[each]) for each, said in apache.items() if ours[each] != said}
    assert different == texts.OTHERWISE


@pytest.mark.parametrize("refusal", starts.REFUSALS, ids=lambda refusal: refusal.title)
def test_what_apache_does_not_start_with(refusal, tmp_path):
    require_peer("apache2")
    apache, ours = starts.exits(refusal, tmp_path / "start", LabCA.create(datetime.now(UTC)))
    assert apache == (1, sorted(refusal.numbers))
    assert ours[0] != 0
    assert ours[1] == apache[1]
