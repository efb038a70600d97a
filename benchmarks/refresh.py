"""What refreshing very many certificates costs, and how it is spread: ``python benchmarks/refresh.py``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import click
from cache import machine
from compare import say
from refresh_day import simulate
from refresh_real import RealRunError, cache_seconds, real_run, verifications
from refresh_world import CacheCost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refresh_day import Result
    from refresh_real import RealRun


@dataclass(frozen=True, slots=True)
class Effort:
    """`real` is how many certificates are asked for over loopback, `at_once` how many of them at a time."""

    certificates: int
    responders: int
    days: int
    real: int
    real_rounds: int
    at_once: Sequence[int]
    rounds: int
    round_s: float


FULL = Effort(100_000, 50, 2, 2_000, 3, (4, 16), 5, 0.5)
QUICK = Effort(300, 5, 1, 20, 2, (4,), 1, 0.01)


def tables(
    verified: Mapping[tuple[str, str], float], cost: CacheCost, day: Result, real: Sequence[RealRun]
) -> list[str]:
    return [
        _table(
            ("verification", "a second", "µs"),
            [
                (f"signed by the {signer}, {kind}", f"{1 / spent_s:,.0f}", _micros(spent_s))
                for (kind, signer), spent_s in verified.items()
            ],
        ),
        _table(
            (f"cache of {day.certificates:,} responses", "µs"),
            [(name, _micros(spent_s)) for name, spent_s in cost._asdict().items()],
        ),
        _table(
            ("responders", "number", "questions", "at one: in a second", "under way", "late: median", "most", "lapsed"),
            [
                (
                    *(each.kind, each.responders, f"{each.questions:,}", each.most_per_second, each.most_under_way),
                    *(_seconds(each.median_late_s), _seconds(each.most_late_s), each.lapsed),
                )
                for each in day.kinds
            ],
        ),
        _table(
            (
                "usual responders",
                "questions",
                "a minute",
                "most",
                "most / mean",
                "deviation / mean",
                "most in a second",
            ),
            [
                (
                    *(each.period, f"{each.questions:,}", f"{each.mean_per_minute:.1f}", f"{each.most_per_minute:,}"),
                    *(f"{each.most_per_minute / (each.mean_per_minute or 1):.1f}", f"{each.variation:.2f}"),
                    each.most_per_second,
                )
                for each in day.spreads
            ],
        ),
        _table(
            ("start", "without a staple", "all in the cache"),
            [
                ("workers may listen after", _seconds(day.cold_ready_s), _seconds(day.warm_ready_s)),
                ("half are stapled after", _seconds(day.cold_half_s), ""),
                ("all of usual responders after", _seconds(day.cold_usual_s), ""),
                ("longest work in one go", _seconds(day.cold_longest_turn_s), _seconds(day.warm_longest_turn_s)),
            ],
        ),
        _table(
            ("memory for each certificate", "bytes"),
            [
                ("chain and key, read", f"{day.identity_bytes:,.0f}"),
                ("the schedule", f"{day.watched_bytes:,.0f}"),
                (f"a staple, of {day.response_bytes:.0f} bytes, in the keeper", f"{day.staple_bytes:,.0f}"),
            ],
        ),
        _table(
            ("CPU time of one refresh", "µs"),
            [
                ("scheduling, verifying, logging", _micros(day.cpu_per_refresh_s)),
                ("in the cache", _micros(day.cache_per_refresh_s)),
                (f"all, over loopback, {real[0].certificates:,} certificates", _micros(real[0].cpu_per_refresh_s)),
            ],
        ),
        _table(
            ("over loopback", "at once", "refreshes a second", "CPU µs of one", "connections", "failures"),
            [
                (
                    *(f"{each.certificates:,} certificates, {each.rounds} rounds", each.at_once),
                    *(f"{each.per_second:,.0f}", _micros(each.cpu_per_refresh_s), each.connections, each.failures),
                )
                for each in real
            ],
        ),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    said = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*said, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


@click.command()
@click.option("--certificates", default=FULL.certificates, show_default=True, help="In the simulation.")
@click.option("--quick", is_flag=True, help="A moment for each: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All figures, as JSON.")
def main(*, certificates: int, quick: bool, as_json: bool) -> None:
    """Measure verifications, the cache's calls, days of very many certificates in virtual time, and a real run."""
    effort = QUICK if quick else FULL
    count = effort.certificates if quick else certificates
    try:
        say("verifications")
        verified = verifications(effort.rounds, effort.round_s)
        say("the cache's calls")
        cost = CacheCost(*cache_seconds(count, effort.rounds, effort.round_s))
        say("over loopback")
        real = [real_run(effort.real, effort.real_rounds, at_once) for at_once in effort.at_once]
        say(f"{count:,} certificates through {effort.days} days")
        day = simulate(count, effort.responders, effort.days, cost)
    except RealRunError as error:
        raise click.ClickException(str(error)) from error
    about = machine(
        {"cryptography": version("cryptography"), "aiohttp": version("aiohttp")}, len(os.sched_getaffinity(0))
    )
    if as_json:
        by_signer = {f"{kind}, {signer}": spent_s for (kind, signer), spent_s in verified.items()}
        found = {"verify_s": by_signer, "cache_s": cost._asdict(), "day": asdict(day), "real": [*map(asdict, real)]}
        print(json.dumps({"machine": about, **found}, indent=2))
    else:
        heads = "\n".join(f"- {name}: {value}" for name, value in about.items())
        print(heads, *tables(verified, cost, day, real), sep="\n\n")


if __name__ == "__main__":
    main()
