"""Have responders asked, and hear what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from proxy.cli.adminclient import RefusedError, ask
from proxy.cli.console import make_console
from proxy.errors import StartError
from proxy.log_lines import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.cli.staples_place import Running, Staple

POLL_S = 0.1
LONGEST_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of it."""

    done: tuple[Staple, ...]
    """They may still say 'revoked': see `troubles`."""
    refused: tuple[Staple, ...]
    waiting: tuple[Staple, ...]
    """Of which nothing was heard in time."""


def refresh(place: Running, wanted: Sequence[Staple], timeout_s: float) -> bool:
    """Have them asked for, wait, and tell; whether all went well."""
    end = time.monotonic() + timeout_s
    for each in wanted:
        _order(place, each)
    outcomes = _watched(place, wanted, end)
    if len(wanted) == 1:
        for each in outcomes.done:
            until = (
                f"stapled until {each.stapled_until:%Y-%m-%d %H:%M:%SZ}" if each.stapled_until else "nothing is stapled"
            )
            click.echo(printable(f"{each.certificate}: {each.status}, {until}"))
    else:
        click.echo(f"{len(outcomes.done)} of {len(wanted)} refreshed")
    for each in outcomes.refused:
        held = (
            f"the one held lasts until {each.stapled_until:%Y-%m-%d %H:%M:%SZ}"
            if each.stapled_until
            else "none is held"
        )
        what = f"{each.certificate}: no new staple, {held}; {'; '.join(map(str, each.troubles))}"
        click.echo(printable(what), err=True)
    if outcomes.waiting:
        told = ", ".join(each.certificate for each in outcomes.waiting[:3]) + ", …" * (len(outcomes.waiting) > 3)
        what = f"{len(outcomes.waiting)} of {len(wanted)} were not answered within {timeout_s:g} s: {told}"
        click.echo(printable(f"{what}; they are still being asked for"), err=True)
    return not outcomes.refused and not outcomes.waiting


def _order(place: Running, staple: Staple) -> None:
    try:
        ask(place.path, f"/api/staples/{staple.key}/refresh", "POST")
    except RefusedError as error:
        # Somebody else has asked, or it was due: what comes of that is as good.
        if error.status != HTTPStatus.CONFLICT or not staple.responders:
            raise StartError(f"{staple.certificate}: {error}") from error


def _watched(place: Running, wanted: Sequence[Staple], end: float) -> Outcomes:
    before = {each.key: each for each in wanted}
    after: dict[str, Staple] = {}
    pause_s = POLL_S
    console = make_console(to_stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("Asking the responders", total=len(before))
        while len(after) < len(before) and time.monotonic() < end:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_POLL_S)
            after |= {each.key: each for each in place.staples() if _is_told(before.get(each.key), each)}
            shown.update(task, completed=len(after))
    return Outcomes(
        tuple(each for each in after.values() if not each.failures),
        tuple(each for each in after.values() if each.failures),
        tuple(each for key, each in before.items() if key not in after),
    )


def _is_told(before: Staple | None, after: Staple) -> bool:
    """Whether a round has ended since: each counts as a success, or as one more failure in a row."""
    return before is not None and (after.successes > before.successes or after.failures > before.failures)
