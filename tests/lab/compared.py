"""Comparisons that need no process."""

from datetime import UTC, datetime

from proxy.lab.compare_outcomes import Handshake, Outcome, Report
from proxy.lab.compare_plan import Plan, default_trouble, default_validity_s
from proxy.lab.faults import BY_NAME
from proxy.lab.scenario import Step

PROFILES = ("httpd-2.4", "prefetch")
BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_plan(seconds=15, *steps):
    begin_s, length_s = default_trouble(seconds)
    default = (Step(begin_s, BY_NAME["silent"], length_s),)
    return Plan(PROFILES, seconds, steps or default, default_validity_s(seconds))


def a_report():
    """Apache's clients see all that there is, one outcome after the other, and wait ever longer; ours nothing."""
    plan = a_plan()
    outcomes = list(Outcome)
    handshakes = []
    for number, due_s in enumerate(plan.due):
        outcome = outcomes[min(number // 7, len(outcomes) - 1)]
        handshakes += [
            Handshake("httpd-2.4", due_s, 0.01 * (number + 1), outcome),
            Handshake("prefetch", due_s, 0.005, Outcome.GOOD),
        ]
    return Report(plan, BEGUN, tuple(handshakes))
