"""Several whole proxies as a fleet on one machine, and the responder that counts what they ask."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from integration.admin import ask, staples
from integration.front import READY_WITHIN_S, run, site, toml, wait_until
from integration.steady import Load, leaf_and_issuer

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Lab
    from integration.front import Front

FAST = {
    "refresh_min_interval_s": 1,
    "retry_min_interval_s": 0.5,
    "retry_max_interval_s": 2,
    "fetch_timeout_s": 3,
    "max_fetches_per_responder_per_second": 200,
}
STARTED_WITHIN_S = 3 * READY_WITHIN_S


def a_second_passes() -> None:
    """thisUpdate has whole seconds: else the next response could not be told from the one before."""
    before = int(time.time())
    wait_until(lambda: int(time.time()) > before, 5, "the next second")


@dataclass
class Machine:
    """One proxy of the fleet, and its folder."""

    front: Front
    folder: Path

    def staples(self) -> dict[str, dict]:
        return staples(self.folder / "admin.sock")

    def ask(self, target: str, method: str = "GET") -> tuple[int, str]:
        return ask(self.folder / "admin.sock", target, method)

    def fleet(self) -> dict:
        """The part of the status that tells of the fleet."""
        return json.loads(self.ask("/api/status")[1])["fleet"]

    def is_up(self) -> bool:
        return all(each["is_up"] for each in self.fleet()["servers"])

    def stapled_at_s(self, chain: Path) -> list[float]:
        """When this machine's keeper had put responses for a certificate where workers find them: by its own log."""
        lines = self.front.log.splitlines()
        told = [line for line in lines if f" {chain.name} " in line and ": stapled until " in line]
        return [datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp() for line in told]  # noqa: DTZ007  for differences

    def this_update(self, name: str) -> str | None:
        return self.staples()[name]["this_update"]


@dataclass
class Fleet:
    """All of them."""

    lab: Lab
    names: list[str]
    chains: list[Path]
    machines: list[Machine] = field(default_factory=list)

    def asked(self) -> dict[str, int]:
        """How often the responder was asked, by serial number."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.lab.port}/-/requests", timeout=10) as answer:
            return json.load(answer)["serials"]

    def order(self, machine: Machine, name: str) -> None:
        """Have one machine refresh a certificate now."""
        key = machine.staples()[name]["key"]
        status, text = machine.ask(f"/api/staples/{key}/refresh", "POST")
        assert status in {200, 202}, text

    def all_have(self, name: str, this_update: str) -> bool:
        return all(machine.this_update(name) == this_update for machine in self.machines)


def issue(lab: Lab, count: int) -> tuple[list[str], list[tuple[Path, Path]]]:
    """Certificates; the first is for the steady clients too."""
    names = ["localhost", *(f"site{number}.example" for number in range(1, count))]
    return names, [lab.issue(name) for name in names]


def configuration(backend: str, folder: Path, certificates, cache: str, *, redis=None, **stapling) -> str:
    """One machine's."""
    sites = "".join(site(backend, each) for each in certificates)
    text = toml(sites, stapling={**FAST, "cache": cache, **stapling}, admin={"socket": str(folder / "admin.sock")})
    if redis:
        lines = [f"{key} = {json.dumps(value)}" for key, value in redis.items()]
        text = text.replace("[admin]", "\n".join(["[stapling.redis]", *lines, "[admin]"]), 1)
    return text


@contextlib.contextmanager
def fleet(
    lab: Lab,
    backend: str,
    folder: Path,
    cache,
    *,
    machines: int = 4,
    certificates: int = 3,
    redis=None,
    around=None,
    **more,
):
    """Run it; `cache` is the address for all, or a function of the machine's number. Gives a Fleet that is ready.

    `around` gives what is entered while a machine is started.
    """
    names, files = issue(lab, certificates)
    made = Fleet(lab, names, [chain for chain, _ in files])
    with contextlib.ExitStack() as stack:
        for number in range(machines):
            own = folder / f"machine{number}"
            own.mkdir()
            where = cache(number) if callable(cache) else cache
            text = configuration(backend, own, files, where, redis=redis, **more)
            with around(number) if around else contextlib.nullcontext():
                made.machines.append(Machine(stack.enter_context(run(own, text, until_ready=False)), own))
        for machine in made.machines:
            wait_until(
                lambda front=machine.front: "ready:" in front.log or front.process.poll() is not None,
                STARTED_WITHIN_S,
                "the fleet's start",
            )
            assert machine.front.process.poll() is None, machine.front.log
        yield made


@contextlib.contextmanager
def traffic(made: Fleet, *machines: Machine, pause_s: float = 0.05):
    """Clients at some machines, or at all; at the end none may have failed, and none have had a bad staple."""
    pair = leaf_and_issuer(made.chains[0])
    loads = [Load(machine.front.port, pair, pause_s) for machine in machines or made.machines]
    with contextlib.ExitStack() as stack:
        for load in loads:
            stack.enter_context(load.running(full=1, kept=1, resumed=0))
        yield loads
    for load in loads:
        assert load.failures == []
        assert load.without_staple == []
        assert load.counts["full handshakes"] > 0, load.told()
