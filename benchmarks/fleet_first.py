"""What a growing fleet comes up against first, in sentences with the run's own figures. PURE."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from fleet_constants import FOUND, HEAD, LOCK, LOOK, PUT, SEGMENT_FOR, Constants

from proxy.keeper.fleet import decide
from proxy.keeper.fleet.clients import MAX_OPERATIONS
from proxy.settings.model import StaplingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT = StaplingSettings()
_PER_S = _DEFAULT.max_fetches_per_responder_per_second
_MANY = 100_000
_AWAY = ", for {:,.0f} s by more than `timeout_s`, so that it counts as away"
_TEXT = """\
- **Connections.** A machine has up to {connections} and keeps them; Redis takes {most_connections:,}, enough for
  {connected:,.0f} machines. Those beyond are refused, and ask by themselves. *Set `maxclients` there, and its
  limit of open files, to {connections} for each machine.*
- **A first start of all machines at once.** Each new response goes to each machine, so the work grows with the
  square of the machines. Of {machines:,} without any staple each may ask one responder {per_second:.0f} times a
  second, which makes {offered:,.0f} new responses, and the server can take and announce {possible:,.0f} in a
  second. Operations then wait for up to {start_wait_s:,.0f} s instead of {timeout_s:.0f} s, the server counts as
  away, and each machine asks by itself, as without a fleet. Up to {start_machines:,} machines keep below that,
  with one responder. Looks alone would take {looks_min:,.0f} minutes of the server's time. *Start one machine
  first, then the others in groups; and let `local_cache` be `shmcb:PATH`, so that a restart is no first start.*
- **The network, when the server has come back.** The {certificates_away:,} certificates of the hour are announced
  to all, {times:.1f} times each in {first_s} s, since many machines have one of their own: {most_out_gbit:.1f}
  Gbit in the worst second, {out_gbit:.1f} on average, {announced_mb:.0f} MB to each machine. What the network
  does not take waits in the server's memory, and Redis closes a subscriber's connection where 32 MB wait, or 8 MB
  for a minute, unless `client-output-buffer-limit` says otherwise; that machine comes back by itself, and begins
  its look at all anew. *A network of 10 Gbit, a higher limit for `pubsub`, or several servers in `cache`: each
  has a part of the certificates, and of this. In a cluster each node sends to those machines that are subscribed
  there.*
- **The responders, while the server is away.** {away:,.0f} questions a second on average and {most_away:,.0f} at
  most, in place of {there:.1f}. They grow with the time that it is away, towards the {alone:,.0f} of machines
  without a fleet. There is no burst when the server goes, since nobody is due sooner for it. The worst second
  after its return has {most_back:,.0f}, mostly of machines that have not noticed yet. *The responders have to
  bear what they would without a fleet; Sentinels (`sentinel_master`) or a cluster make it rare.*
- **Rounds that were together** drift apart by a fortieth of the responses' lives each time: the first of
  {machines:,} machines comes at nearly the same moment but for the part of the jitter that all have in common.
  Hours after the return one second had {most_later:,.0f} questions in place of {there:.1f}, and the server had
  {echo_mb:.0f} MB to send in it. Where one machine has fetched everything from {responders:,} responders, as fast as
  it may, which takes {start_s:.0f} s, the next rounds have up to {most_start:,.0f} questions a second, and the server
  falls behind by {start_behind:.1f} s{start_away}. *Should that be too much: a lower
  `max_fetches_per_responder_per_second` for the start of the first machine.*
- **The looks at all certificates**, a safety net for lost announcements, take {polls_busy:.0%} of the server's
  thread: {polled:.0f} a second of each machine, however many certificates there are beyond {polled_from:.0f}.
  {poll_machines:,.0f} machines fill it. *Several servers do not help against this, since each machine looks at
  each of them as often. Make several fleets, each with a server of its own: each asks once.*
- **A lost announcement** is noticed when a machine next looks at that certificate, after {walk_min:.0f} minutes at
  most. Until then it staples the response before, or finds the new one when it is due itself. *Several servers
  make that quicker.*
- **The server's thread in rounds**: {machines:,} machines fill it with {full_millions:.1f} million certificates
  whose responses live as long as these. *Several servers in `cache`.*
- **A machine that is restarted** does not know what the server has, and reads every response again:
  {restart_mb:.0f} MB, in {restart_s:.0f} s. **A server that comes back empty** is given all once, without
  announcements: {empty_mb:.0f} MB, and {empty_s:.1f} s of its thread.
- **Memory of a machine**: a local cache for {segment_for:,} responses of {response_bytes:,} bytes has
  {segment_mb:.0f} MB (`local_cache`). Its keeper is busy with {keeper_busy:.1%} of a core."""


def gives_first(report: Mapping[str, Any]) -> str:
    """A numbered list, the worst first."""
    constants, world = Constants.from_dict(report["constants"]), report["world"]
    machines, certificates = world["machines"], world["certificates"]
    there, away, first, _, later = report["phases"]
    in_step, state, start = report["in_step"], simulated(report), report["start"]
    polled = 1 / decide.poll_interval_s(certificates)
    free = 1 - state["polls_busy"]
    text = _TEXT.format(
        machines=machines,
        start_machines=start_machines(constants),
        connections=constants.connections,
        most_connections=constants.most_connections,
        connected=constants.most_connections // constants.connections,
        per_second=_PER_S,
        offered=machines * _PER_S,
        possible=1 / _put_s(machines, constants),
        timeout_s=_DEFAULT.redis.timeout_s,
        start_wait_s=_start_wait_s(machines, constants),
        looks_min=machines * certificates * constants.server_s(LOOK) / 60,
        certificates_away=in_step["certificates"],
        times=in_step["announced"] / max(in_step["certificates"], 1),
        most_out_gbit=first["most_out"] * 8 / 1e9,
        out_gbit=first["out"] * 8 / 1e9,
        first_s=first["seconds"],
        announced_mb=in_step["announced"] * constants.push_bytes / 1e6,
        away=away["questions"],
        most_away=away["most_questions"],
        there=there["questions"],
        alone=state["alone"],
        most_back=first["most_questions"],
        most_later=later["most_questions"],
        echo_mb=later["most_out"] / 1e6,
        responders=start["responders"],
        start_s=start["start_s"],
        most_start=start["most_questions"],
        start_behind=start["most_behind_s"],
        start_away=_AWAY.format(start["late_s"]) if start["late_s"] else "",
        polls_busy=state["polls_busy"],
        polled=polled,
        polled_from=decide.POLL_LEAST_S * decide.POLL_PER_S,
        poll_machines=1 / (polled * constants.server_s(HEAD)),
        walk_min=state["poll_s"] / 60,
        full_millions=free / (state["rounds"] / certificates * _round_s(machines, constants)) / 1e6,
        restart_mb=certificates * constants.operations[FOUND].bytes_out / 1e6,
        restart_s=certificates / decide.RESYNC_PER_S,
        empty_mb=certificates * constants.operations[PUT].bytes_in / 1e6,
        empty_s=certificates * constants.server_s(PUT),
        segment_for=SEGMENT_FOR,
        response_bytes=constants.response_bytes,
        segment_mb=constants.segment_bytes / 1e6,
        keeper_busy=state["keeper_busy"],
    )
    items = enumerate(text.removeprefix("- ").split("\n- "), 1)
    return "\n".join(wrapped(f"{number}. {item}", indent="    ") for number, item in items)


def wrapped(text: str, indent: str = "") -> str:
    """Lines of the pages' length, with the numbers in."""
    return textwrap.fill(
        " ".join(text.split()), 125, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def simulated(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fleet that was simulated, by means."""
    size = report["world"]["machines"], report["world"]["certificates"]
    found: Mapping[str, Any] = next(
        each for each in report["steady"] if (each["machines"], each["certificates"]) == size
    )
    return found


def start_machines(constants: Constants) -> int:
    """How many may start at once without staples, so that the server has time for what they ask one responder."""
    found = 1
    while found < _MANY and (found + 1) * _PER_S * _put_s(found + 1, constants) <= 1:
        found += 1
    return found


def _start_wait_s(machines: int, constants: Constants) -> float:
    """Where each machine has as many puts under way as it may."""
    return MAX_OPERATIONS * machines * _put_s(machines, constants)


def _put_s(machines: int, constants: Constants) -> float:
    """One of very many responses put and announced."""
    return constants.server_s(PUT) + machines * constants.push_pipelined_s


def _round_s(machines: int, constants: Constants) -> float:
    return sum(constants.server_s(name) for name in (LOOK, LOCK, PUT)) + machines * constants.push_alone_s
