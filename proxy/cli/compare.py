"""``stapleproxy lab --compare``: one trouble at the responder, several profiles, and what their clients were served."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from proxy import __version__
from proxy.cli.console import aligned
from proxy.cli.faults import find_steps
from proxy.lab.compare import observe, running_fronts
from proxy.lab.compare_outcomes import Outcome, summarize
from proxy.lab.compare_page import page, wait_words
from proxy.lab.compare_plan import Plan, default_trouble, default_validity_s, phases
from proxy.lab.faults import BY_NAME
from proxy.lab.scenario import Step
from proxy.settings.stapling_httpd import Profile

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.lab.compare_outcomes import Report
    from proxy.lab.fault import Fault
    from proxy.lab.scenario import Change

SECONDS = 75
PAGE = Path("compare.html")
DEFAULT_FAULT = "silent"
PROFILES: tuple[str, ...] = get_args(Profile)


def find_profiles(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read two or more profiles, each once; none without the option."""
    if value is None:
        return ()
    names = tuple(name.strip() for name in value.split(","))
    for name in names:
        if name not in PROFILES:
            raise click.BadParameter(f"no profile is named {name[:60]!r}: there are {', '.join(PROFILES)}")
        if names.count(name) > 1:
            raise click.BadParameter(f"{name} is named twice: name each once")
    if len(names) < 2:
        raise click.BadParameter(f"name two or more, with commas between: {','.join(PROFILES)}")
    return names


def check_page(path: Path) -> None:
    """Refuse a file that could not be written when the comparison is over."""
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise click.UsageError(f"{path}: no file can be written there: choose another with --html")


def make_plan(
    profiles: tuple[str, ...],
    seconds: int,
    validity_s: int | None,
    *,
    fault: Fault | None,
    after_s: float | None,
    for_s: float | None,
    scenario_path: Path | None,
) -> Plan:
    """Say what happens when. The trouble's times are parts of the run where the options do not tell them."""
    begin_s, length_s = default_trouble(seconds)
    if fault is not None:
        after_s = begin_s if after_s is None else after_s
        for_s = length_s if for_s is None else for_s
    steps = find_steps(fault, after_s, for_s, scenario_path) or (Step(begin_s, BY_NAME[DEFAULT_FAULT], length_s),)
    if steps[-1].at_s >= seconds:
        last = steps[-1]
        raise click.UsageError(
            f"{last.fault.name} begins at {last.at_s:g} s, and the comparison ends at {seconds} s: give more --seconds"
        )
    return Plan(profiles, seconds, steps, validity_s or default_validity_s(seconds))


def compare(console: Console, plan: Plan, folder: Path, html: Path, *, as_json: bool) -> None:
    """Run all of it, and tell what came of it. Raises LabError, and OSError where the page cannot be written."""

    def tell(change: Change) -> None:
        console.print(describe(change), markup=False, soft_wrap=True)

    with ExitStack() as resources:
        with console.status("Starting CA, responder, backend and fronts …"):
            lab = resources.enter_context(running_fronts(plan, folder))
        console.print(f"Watching {', '.join(plan.profiles)} for {plan.seconds} s.", markup=False, soft_wrap=True)
        report = observe(lab, plan, tell)
    if as_json:
        click.echo(json.dumps(as_data(report), indent=2))
    else:
        console.print(f"\n{table(report)}\n", markup=False, soft_wrap=True)
    html.write_text(page(report, made_by=f"stapleproxy {__version__}"), encoding="utf-8")
    console.print(f"Plot over time, and what the words mean: {html.absolute()}", markup=False, soft_wrap=True)


def describe(change: Change) -> str:
    """Say in one line what begins or ends."""
    if change.step is None:
        return f"At {change.at_s:g} s {change.fault.name} ends."
    return f"At {change.at_s:g} s {change.fault.name} begins: {change.fault.what}"


def table(report: Report) -> str:
    """Lay out how many clients of each profile were served what."""
    rows = [("profile", *Outcome, "longest wait")]
    for profile in report.plan.profiles:
        summary = summarize(report.of(profile))
        counts = (str(summary.counts.get(each, 0)) for each in Outcome)
        rows.append((profile, *counts, wait_words(summary.longest_wait_s)))
    return aligned(rows)


def as_data(report: Report) -> dict[str, object]:
    """Give the report for programs: seconds from the start, and every client."""
    summaries = {profile: summarize(report.of(profile)) for profile in report.plan.profiles}
    return {
        "begun": report.begun.isoformat(),
        "seconds": report.plan.seconds,
        "phases": [
            {"begin_s": part.begin_s, "end_s": part.end_s, "fault": part.fault.name if part.fault else None}
            for part in phases(report.plan)
        ],
        "profiles": {
            profile: {
                "clients": {str(each): summary.counts.get(each, 0) for each in Outcome},
                "longest_wait_s": round(summary.longest_wait_s, 6),
            }
            for profile, summary in summaries.items()
        },
        "handshakes": [asdict(each) | {"wait_s": round(each.wait_s, 6)} for each in report.handshakes],
    }
