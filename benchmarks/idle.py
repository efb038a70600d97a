"""The server's memory for an idle TLS connection, beside its peers: ``python benchmarks/idle.py``."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import click
from compare import OURS, describe, say
from counting import proportional_kib
from load import Client, get
from peers import running_lab, stapleproxy
from peers_all import installed, left_out
from proxying import FAILURES, SUITE, run_all
from proxying_report import Costs, Report, Target

if TYPE_CHECKING:
    from pathlib import Path

    from OpenSSL import SSL
    from peers import Cores, Lab, Start

WORK = "idle TLS 1.3 connection after one request"
TARGETS = {"nginx": Target(1.0)}
# Opened before the first look: what the first connections cost once (pages copied after the fork, pools) is not theirs.
FIRST = 200


def measure(lab: Lab, start: Start, cores: Cores, count: int) -> float:
    """Bytes per connection, in a server that has just been started."""
    with start(lab, cores.prefix()) as server:
        client = Client(server, "ec", "1.3", SUITE)
        connections: list[SSL.Connection] = []

        def open_up(more: int) -> int:
            for _ in range(more):
                connection = client.connect()
                get(connection)
                connections.append(connection)
            return proportional_kib(server.worker_pid)

        before = open_up(FIRST)
        after = open_up(count)
        for connection in connections:
            connection.close()
    return (after - before) * 1024 / count


def compare_idle(folder: Path, cores: Cores, rounds: int, count: int) -> Report:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peers, versions, missing = installed()
    starts: dict[str, Start] = {OURS: stapleproxy} | {peer.name: peer.start for peer in peers}
    costs = {name: Costs(WORK, name, "bytes", "Pss") for name in starts}
    with running_lab(folder) as lab:
        for number in range(rounds):
            say(f"idle connections: round {number + 1} of {rounds}, {count} connections")
            for name, cost in list(costs.items()):
                try:
                    cost.rounds.append(measure(lab, starts[name], cores, count))
                except FAILURES as error:
                    if name == OURS:
                        raise
                    del costs[name]
                    missing.append(left_out(name, f"it failed with {count + FIRST} connections: {error!r}"))
    units = {WORK: "connection"}
    return Report(describe(cores) | versions, missing, units, {WORK: TARGETS}, list(costs.values()))


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Each with servers that have just been started.")
@click.option("--connections", "count", default=1000, show_default=True, help="In each round.")
@click.option("--quick", is_flag=True, help="One round of a few connections: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, count: int, quick: bool, as_json: bool) -> None:
    """Measure what the worker's memory grows by with connections that have made one request each."""
    if quick:
        rounds, count = 1, 50
    run_all(lambda folder, cores: compare_idle(folder, cores, rounds, count), as_json=as_json)


if __name__ == "__main__":
    main()
