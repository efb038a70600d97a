"""The server's memory for an idle TLS connection, beside nginx: ``python benchmarks/idle.py``."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import click
from compare import OURS, PEER, STARTS, Row, run, say
from counting import proportional_kib
from load import Client, get
from peers import running_lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from OpenSSL import SSL
    from peers import Cores, Lab

TARGET = 1.1
# Opened before the first look: what the first connections cost once (pages copied after the fork, pools) is not theirs.
FIRST = 200


def measure(lab: Lab, name: str, cores: Cores, count: int) -> float:
    """Bytes per connection, in a server that has just been started."""
    with STARTS[name](lab, cores.prefix()) as server:
        client = Client(server, "ec", "1.3")
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


def compare_idle(folder: Path, cores: Cores, rounds: int, count: int) -> Iterator[Row]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    costs: dict[str, list[float]] = {OURS: [], PEER: []}
    with running_lab(folder) as lab:
        for number in range(rounds):
            say(f"idle connections: round {number + 1} of {rounds}, {count} connections")
            for name, values in costs.items():
                values.append(measure(lab, name, cores, count))
    yield Row("idle TLS 1.3 connection after one request", "bytes", "Pss", costs[OURS], costs[PEER], TARGET)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Each with servers that have just been started.")
@click.option("--connections", "count", default=1000, show_default=True, help="In each round.")
@click.option("--quick", is_flag=True, help="One round of a few connections: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, count: int, quick: bool, as_json: bool) -> None:
    """Measure what the worker's memory grows by with connections that have made one request each."""
    if quick:
        rounds, count = 1, 50
    run(lambda folder, cores: compare_idle(folder, cores, rounds, count), as_json=as_json)


if __name__ == "__main__":
    main()
