"""docs/scale.md and its plots, of what benchmarks/results/fleet.json holds. PURE."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import plots
from fleet_constants import Constants
from fleet_first import gives_first, simulated, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_BLOCK = r"(<!-- {0}: written by benchmarks/fleet\.py -->\n).*?(<!-- end of {0} -->)"
_SIXTY = 60
_RESPONSE = """\
A response has {response_bytes:,} bytes here; an announcement of it to one machine {push_bytes:,.0f}. A machine
needs {take} µs for one: read, verified (ECDSA P-256, by the issuer), put into its own cache, told in its log. The
server needs {memory_kb:.1f} kB of memory for a certificate."""
_SHORT = """\
{machines:,} machines with {certificates:,} certificates: their responders get {there:.1f} questions a second in
place of {alone:,.0f}; one Redis server does {operations:,.0f} operations a second with {busy:.0%} of its thread and
sends {out_mb:.1f} MB a second; a new response is stapled on all machines after {spread} ms and the network's time
(with {subscribers:,} real subscribers the last one had it after {heard} ms). In an hour without the server the
questions rise to {away:,.0f} a second. Its return is the hard part: {out_gbit:.1f} Gbit in the worst second, and
all is as before after {step}."""
_SIZE = """\
**{machines:,} machines, {certificates:,} certificates**, one server, which after {hours:.0f} hours is away for
{minutes:.0f} minutes. All are figures of a second: on average, and the most."""
_WITHOUT = "Without a fleet these machines would ask {alone:,.0f} questions a second, always."
_IN_STEP = """\
While the server was away {certificates:,} certificates were asked for, each by {fetchers:.0f} machines on average,
and each of these stapled what it got. When it was back, the last machine found it after {connected_s:.0f} s. Half
of those certificates had the newest response on all machines after {half}, all of them after {most}. Until then
some machines staple an older one, and none one that is over."""


def written(page: str, report: Mapping[str, Any]) -> str:
    """The page with all its blocks made anew; ValueError: one has no place in it."""
    for name, make in BLOCKS.items():
        text = make(report)
        page, number = re.subn(_BLOCK.format(name), partial(_filled, text), page, flags=re.DOTALL)
        if number != 1:
            raise ValueError(f"the page has {number} places for the block {name}")
    return page


def _filled(text: str, found: re.Match[str]) -> str:
    return f"{found[1]}\n{text}\n\n{found[2]}"


def drawings(report: Mapping[str, Any]) -> dict[str, str]:
    """File name -> plot."""
    world, minutes = report["world"], report["minutes"]
    hour = _SIXTY * _SIXTY
    away = world["before_s"] / hour, (world["before_s"] + world["away_s"]) / hour
    state = simulated(report)

    def line(name: str, scale: float = 1.0) -> list[tuple[float, float]]:
        return [((number + 0.5) / _SIXTY, value / scale) for number, value in enumerate(minutes[name])]

    hours = len(minutes["questions"]) / _SIXTY
    alone = [(0.0, state["alone"]), (hours, state["alone"])]
    return {
        "fleet-questions": plots.over_time(
            "Questions to all responders together",
            "a second",
            {"the fleet": line("questions"), "the same machines without a fleet": alone},
            away,
        ),
        "fleet-operations": plots.over_time(
            "Operations of the Redis server, in thousands", "a second", {"operations": line("operations", 1e3)}, away
        ),
        "fleet-bytes": plots.over_time(
            "Bytes of the Redis server, in MB",
            "a second",
            {"sent": line("out", 1e6), "received": line("in", 1e6)},
            away,
        ),
        "fleet-busy": plots.over_time(
            "How busy the Redis server's one thread is", "%", {"busy": line("busy", 0.01)}, away
        ),
    }


# --- blocks


def _measured(report: Mapping[str, Any]) -> str:
    constants = Constants.from_dict(report["constants"])
    rows = [
        (
            name,
            *(f"{each.bytes_in:,.0f}", f"{each.bytes_out:,.0f}", _micros(each.server_s)),
            _micros(many[1]) if (many := constants.many_connections.get(name)) else "",
            f"{many[0]:,.0f}" if many else "",
            _micros(each.client_s),
        )
        for name, each in constants.operations.items()
    ]
    published = [
        (f"{each.subscribers:,}", _millis(each.alone_s), _millis(each.pipelined_s), _millis(each.heard_s))
        for each in constants.published
    ]
    return "\n\n".join(
        [
            "\n".join(f"- {name}: {value}" for name, value in report["about"].items()),
            _table(
                (
                    *("operation", "bytes to the server", "bytes from it", "server's CPU, µs"),
                    *("with 1,000 connections", "a second there", "machine's CPU, µs"),
                ),
                rows,
            ),
            _table(
                ("subscribers", "put and announced, server's CPU, ms", "20 at once, each", "until the last has it, ms"),
                published,
            ),
            wrapped(
                _RESPONSE.format(
                    response_bytes=constants.response_bytes,
                    push_bytes=constants.push_bytes,
                    take=_micros(constants.take_s),
                    memory_kb=constants.memory_bytes / 1e3,
                )
            ),
        ]
    )


def _run(report: Mapping[str, Any]) -> str:
    world = report["world"]
    rows = [
        (
            *(each["name"], _count(each["questions"]), _count(each["most_questions"]), _count(each["operations"])),
            *(_mega(each["in"]), _mega(each["out"]), _mega(each["most_out"])),
            *(f"{each['busy']:.0%}", f"{each['most_behind_s']:.2f} s"),
        )
        for each in report["phases"]
    ]
    return "\n\n".join(
        [
            wrapped(_SIZE.format(**world, minutes=world["away_s"] / 60, hours=world["before_s"] / 3600)),
            _table(
                (
                    *("Redis is", "questions", "at most", "operations", "MB in", "MB out", "at most"),
                    *("thread busy", "behind by at most"),
                ),
                rows,
            ),
            _WITHOUT.format(alone=simulated(report)["alone"]),
        ]
    )


def _staple(report: Mapping[str, Any]) -> str:
    rows = [
        (f"{int(number):,}", _millis(each["median_s"]), _millis(each["most_s"]))
        for number, each in report["all_staple"].items()
    ]
    in_step = report["in_step"]
    return "\n\n".join(
        [
            _table(("machines", "until all staple it, ms: median", "most"), rows),
            wrapped(_IN_STEP.format(**in_step, half=_minutes(in_step["median_s"]), most=_minutes(in_step["most_s"]))),
        ]
    )


def _sizes(report: Mapping[str, Any]) -> str:
    rows = [
        (
            *(f"{each['machines']:,}", f"{each['certificates']:,}", _count(each["rounds"]), _count(each["alone"])),
            *(_count(each["operations"]), _mega(each["bytes_out"]), f"{each['busy']:.1%}", f"{each['polls_busy']:.1%}"),
            *(f"{each['keeper_busy']:.1%}", _minutes(each["poll_s"]), _minutes(each["resync_s"])),
            _mega(each["memory_bytes"]),
        )
        for each in report["steady"]
    ]
    head = ("machines", "certificates", "questions", "without a fleet", "operations", "MB out", "thread busy")
    more = ("by looks at all", "a machine's core busy", "looks at all take", "after a return", "MB in Redis")
    return _table((*head, *more), rows)


def _short(report: Mapping[str, Any]) -> str:
    there, away, back, *_ = report["phases"]
    world, spread = report["world"], report["all_staple"][str(report["world"]["machines"])]
    heard = max((each["subscribers"], each["heard_s"]) for each in report["constants"]["published"])
    return wrapped(
        _SHORT.format(
            **world,
            there=there["questions"],
            alone=simulated(report)["alone"],
            busy=there["busy"],
            operations=there["operations"],
            out_mb=there["out"] / 1e6,
            spread=_millis(spread["median_s"]),
            subscribers=heard[0],
            heard=_millis(heard[1]),
            away=away["most_questions"],
            out_gbit=back["most_out"] * 8 / 1e9,
            step=_minutes(report["in_step"]["most_s"]),
        )
    )


BLOCKS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "short": _short,
    "measured": _measured,
    "run": _run,
    "staple": _staple,
    "sizes": _sizes,
    "first": gives_first,
}


# --- words


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    said = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*said, *("| " + " | ".join(row) + " |" for row in rows)])


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.2f}"


def _mega(number: float) -> str:
    return f"{number / 1e6:,.0f}" if number >= 1e7 or not number else f"{number / 1e6:.2f}"


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def _millis(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.2f}"


def _minutes(seconds: float) -> str:
    if seconds < 2 * _SIXTY:
        return f"{seconds:.0f} s"
    return f"{seconds / _SIXTY:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
