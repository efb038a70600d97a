"""The server's cost of a proxied keep-alive request, beside its peers: ``python benchmarks/requests.py``."""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING

import click
from compare import OURS, Effort
from load import Client, close, get
from peers_all import PYTHON_PROXIES
from proxying import SUITE, Work, compare_all, run_all
from proxying_report import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers import Server
    from proxying import Load, Open

TARGETS = {"nginx": Target(1.8), "Apache": Target(0.75)} | dict.fromkeys(PYTHON_PROXIES, Target(1 / 6))
UNCHANGED = Target(1.05, 0.95)
_WARM_UP = 100  # CPython's interpreter adapts itself to what it runs


@contextlib.contextmanager
def keep_alive(server: Server) -> Iterator[Load]:
    connection = Client(server, "ec", "1.3", SUITE).connect()

    def load(count: int) -> None:
        for _ in range(count):
            get(connection)

    yield load
    close(connection)


def beside_idle(count: int) -> Open:
    """The same, while so many other connections idle, each after one request."""

    @contextlib.contextmanager
    def opened(server: Server) -> Iterator[Load]:
        client = Client(server, "ec", "1.3", SUITE)
        idle = [client.connect() for _ in range(count)]
        for connection in idle:
            get(connection)
        with keep_alive(server) as load:
            yield load
        for connection in idle:
            close(connection)

    return opened


def work(idle: int) -> Work:
    names = {server: f"{server}, {idle:,} idle connections" for server in (OURS, "nginx")}
    return Work(
        "proxied GET of 1 KiB, keep-alive",
        "request",
        keep_alive,
        _WARM_UP,
        TARGETS | {names[OURS]: UNCHANGED},
        {line: (server, beside_idle(idle)) for server, line in names.items()},
    )


@click.command()
@click.option("--rounds", default=10, show_default=True, help="For CPU time, alternating between the servers.")
@click.option("--operations", "count", default=1500, show_default=True, help="In each of these rounds.")
@click.option("--counted", default=1000, show_default=True, help="For instructions and for system calls; 0: neither.")
@click.option("--idle", default=1000, show_default=True, help="Idle connections beside it, in rounds of their own.")
@click.option("--quick", is_flag=True, help="A few requests, CPU time only: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, count: int, counted: int, idle: int, quick: bool, as_json: bool) -> None:
    """Measure GETs of 1 KiB, one after the other on one connection, from a backend that keeps its own open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    effort = Effort.quick() if quick else Effort(rounds, count, counted)
    works = [work(10 if quick else idle)]
    run_all(lambda folder, cores: compare_all(works, effort, folder, cores), as_json=as_json)


if __name__ == "__main__":
    main()
