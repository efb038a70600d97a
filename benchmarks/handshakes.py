"""The server's cost of TLS handshakes with a staple, beside nginx: ``python benchmarks/handshakes.py``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
from compare import Effort, Operation, compare, run
from load import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from compare import Load
    from load import Kind, Version
    from peers import Server

NAMES = {"ec": "ECDSA P-256", "rsa": "RSA-2048"}
FULL_TARGET = 1.0


def full(server: Server, kind: Kind, version: Version, suite: str | None) -> Load:
    return Client(server, kind, version, suite).full


def resumed(server: Server, kind: Kind, version: Version, suite: str | None) -> Load:
    client = Client(server, kind, version, suite)
    return partial(client.resumed, session=client.session())


def operations(suite: str | None) -> list[Operation]:
    def named(prepare: Callable[[Server, Kind, Version, str | None], Load], kind: Kind, version: Version) -> Operation:
        name = f"{prepare.__name__}, {NAMES[kind]}, TLS {version}"
        target = FULL_TARGET if prepare is full and version == "1.3" else None
        return Operation(name, lambda server: prepare(server, kind, version, suite), target)

    return [
        named(full, "ec", "1.3"),
        named(full, "rsa", "1.3"),
        named(resumed, "ec", "1.3"),
        named(full, "ec", "1.2"),
        named(resumed, "ec", "1.2"),
    ]


@click.command()
@click.option("--rounds", default=10, show_default=True, help="For CPU time, alternating between the servers.")
@click.option("--operations", "count", default=500, show_default=True, help="In each of these rounds.")
@click.option("--counted", default=300, show_default=True, help="For instructions and for system calls; 0: neither.")
@click.option("--suite", help="The one TLS 1.3 cipher suite to offer.  [default: OpenSSL's; each server chooses]")
@click.option("--quick", is_flag=True, help="A few handshakes, CPU time only: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, count: int, counted: int, suite: str | None, quick: bool, as_json: bool) -> None:
    """Measure full and resumed handshakes; the client verifies that each full one brings a good staple."""
    effort = Effort.quick() if quick else Effort(rounds, count, counted)
    run(lambda folder, cores: compare(operations(suite), effort, folder, cores), as_json=as_json)


if __name__ == "__main__":
    main()
