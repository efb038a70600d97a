"""The faults of ``stapleproxy lab``: named on the command line, listed, and played in their time."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from proxy.cli.console import aligned, make_console
from proxy.errors import ConfigError
from proxy.lab.control import set_fault
from proxy.lab.faults import BY_NAME, FAULTS, no_such_fault
from proxy.lab.scenario import Step, changes, read_duration, read_scenario
from proxy.settings.toml import in_file, parse_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from proxy.lab.fault import Fault
    from proxy.lab.scenario import Change
    from proxy.lab.stack import Stack

LOOK_INTERVAL_S = 0.5


def find_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read an option such as ``30s``."""
    try:
        return None if value is None else read_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def find_fault(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Fault | None:
    """Read an option that names a fault."""
    if value is not None and value not in BY_NAME:
        raise click.BadParameter(no_such_fault(value))
    return None if value is None else BY_NAME[value]


def find_steps(fault: Fault | None, after_s: float | None, for_s: float | None, path: Path | None) -> tuple[Step, ...]:
    """Give what is to happen, by the options or by a file; a usage error, or ConfigError, says what is wrong."""
    if fault is None:
        if after_s is not None or for_s is not None:
            raise click.UsageError("--after and --for say when --fault begins and how long it lasts: name one")
        if path is None:
            return ()
        data = parse_file(path)
        try:
            return read_scenario(data)
        except ConfigError as error:
            raise in_file(path, error) from None
    if path is not None:
        raise click.UsageError("--fault and --scenario: leave out one of them")
    if for_s == 0:
        raise click.UsageError("--for must be longer than nothing")
    return (Step(after_s or 0.0, fault, for_s),)


def print_faults(*, as_json: bool) -> None:
    """Print the table of faults."""
    if as_json:
        rows = [
            {
                "name": fault.name,
                "group": fault.group,
                "what": fault.what,
                "reason": fault.reason,
                "only_when": fault.only_when,
            }
            for fault in FAULTS
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    titles = ("name", "group", "the proxy says", "what")
    cells = [(fault.name, fault.group, fault.reason or "(stapled)", fault.what + _condition(fault)) for fault in FAULTS]
    if not sys.stdout.isatty():
        click.echo(aligned([titles, *cells]))
        return
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(*titles, box=SIMPLE, pad_edge=False)
    for fault, row, following in zip(FAULTS, cells, [*FAULTS[1:], None], strict=True):
        is_last = following is None or following.group != fault.group
        table.add_row(*map(escape, row), end_section=is_last)
    make_console().print(table)


def _condition(fault: Fault) -> str:
    return f" Only when {fault.only_when}." if fault.only_when else ""


def play(console: Console, stack: Stack, steps: Sequence[Step]) -> None:
    """Do what the scenario says, and go on until something ends; raises LabError when a part does."""
    started_at = time.monotonic()
    left = list(changes(steps))
    while True:
        stack.check_alive()
        while left and left[0].at_s <= time.monotonic() - started_at:
            change = left.pop(0)
            set_fault(stack.responder_url, change.fault if change.step else None)
            console.print(describe_change(change, datetime.now(UTC)), markup=False, soft_wrap=True)
            if not left:
                console.print("That was the last step. Running until Ctrl-C.")
        until_next_s = left[0].at_s - (time.monotonic() - started_at) if left else LOOK_INTERVAL_S
        time.sleep(min(LOOK_INTERVAL_S, max(until_next_s, 0.0)))


def describe_change(change: Change, now: datetime) -> str:
    """Say in one line what begins or ends."""
    if change.step is None:
        return f"{now:%H:%M:%SZ}  {change.fault.name} ends."
    lasting = "" if change.step.for_s is None else f" for {change.step.for_s:g} s"
    word = f"The proxy's word for it: {change.fault.reason}." if change.fault.reason else "The proxy staples it."
    return f"{now:%H:%M:%SZ}  {change.fault.name} begins{lasting}: {change.fault.what} {word}"
