"""The server's cost of a proxied keep-alive request, beside nginx: ``python benchmarks/requests.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from compare import Effort, Operation, compare, run
from load import Client, get

if TYPE_CHECKING:
    from compare import Load
    from peers import Server

TARGET = 2.5


def keep_alive(server: Server) -> Load:
    connection = Client(server, "ec", "1.3").connect()

    def load(count: int) -> None:
        for _ in range(count):
            get(connection)

    return load


@click.command()
@click.option("--rounds", default=10, show_default=True, help="For CPU time, alternating between the servers.")
@click.option("--operations", "count", default=2000, show_default=True, help="In each of these rounds.")
@click.option("--counted", default=2000, show_default=True, help="For instructions and for system calls; 0: neither.")
@click.option("--quick", is_flag=True, help="A few requests, CPU time only: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, count: int, counted: int, quick: bool, as_json: bool) -> None:
    """Measure GETs of 1 KiB, one after the other on one connection, from a backend that keeps its own open."""
    effort = Effort.quick() if quick else Effort(rounds, count, counted)
    work = [Operation("proxied GET of 1 KiB, keep-alive", keep_alive, TARGET)]
    run(lambda folder, cores: compare(work, effort, folder, cores), as_json=as_json)


if __name__ == "__main__":
    main()
