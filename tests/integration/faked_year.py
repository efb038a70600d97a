"""A year of the real proxy before a real responder, under a clock that `faketime` makes run: the part inside of it.

    faketime -m -f "@2030-01-01 00:00:00 x150000" python faked_year.py FOLDER PLAN

PLAN is JSON, see `Plan`. What was seen goes to ``seen.json`` in FOLDER. Responder and proxy are forked from here,
since libfaketime begins to count anew in each process that is started.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from integration.conftest import free_port
from integration.front import site, toml

from proxy.cli import main as proxy_main
from proxy.lab.ca import LabCA
from proxy.lab.client import ProbeError, probe
from proxy.lab.responder import main as responder_main

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DAY_S = 86_400.0
FOREVER_S = 2_000_000.0
"""Some ten seconds of the machine's own time: as long as anything local takes, and no more than poll(2) takes."""
PATIENT = {
    "tls": {"handshake_timeout_s": FOREVER_S},
    "http": {"client_timeout_s": FOREVER_S, "client_idle_timeout_s": FOREVER_S},
    "stapling": {
        # All processes have one clock, but a question takes minutes of it.
        "warmup_timeout_s": FOREVER_S,
        "fetch_timeout_s": DAY_S,
        # So that half-life decides, not the longest interval between two refreshes.
        "refresh_max_interval_s": 30 * DAY_S,
    },
}


@dataclass(frozen=True)
class Plan:
    """What happens; seconds of the faked clock."""

    days: float
    validity_s: int
    outages: Sequence[tuple[float, float]]
    """From about which second on, counted from the first look, and for how long; each begins just after a refresh."""
    look_each_s: float


@dataclass
class Seen:
    """What clients saw. A look is before, after, and the number of the staple among `staples`, None: there was none."""

    chain: str
    looks: list[tuple[float, float, int | None]] = field(default_factory=list)
    staples: list[str] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    questions: int = 0


def forked(log: Path, run: Callable[[], object]) -> int:
    """Run this in a child, which writes to `log`; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        run()
        status = 0
    finally:
        os._exit(status)


class Year:
    """Looks at the staple again and again, and makes the responder fail when it is time."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._plan = plan
        self._port, self._responder_port = free_port(), free_port()
        ca = LabCA.create(datetime.now(UTC))
        issued = ca.issue(["localhost"], ocsp_urls=[f"http://127.0.0.1:{self._responder_port}"], days=400)
        ca.write(folder)
        self._roots = folder / "root.pem"
        chain, key = folder / f"{issued.stem}.pem", folder / f"{issued.stem}.key"
        configuration = folder / "front.toml"
        listen = {"listen": [f"127.0.0.1:{self._port}"]}
        configuration.write_text(toml(site("http://127.0.0.1:9", (chain, key)), **listen, **PATIENT))
        options = ["--folder", folder, "--listen", f"127.0.0.1:{self._responder_port}", "--validity-s", plan.validity_s]
        self._commands = {
            "responder": lambda: responder_main([*map(str, options)]),
            "front": lambda: proxy_main(["run", str(configuration)]),
        }
        self._folder = folder
        self.seen = Seen(str(chain))

    def live(self) -> None:
        pids = []
        try:
            for name, run in self._commands.items():
                pids.append(forked(self._folder / f"{name}.log", run))
                self._until_it_answers({"responder": self._responder_port, "front": self._port}[name])
            self._look_until_the_end()
            with self._order("requests", "GET") as answer:
                self.seen.questions = json.load(answer)["total"]
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)

    def _until_it_answers(self, port: int) -> None:
        while True:  # whoever has started us has patience by a clock that we do not have
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                time.sleep(self._plan.look_each_s / 10)
            else:
                return

    def _look_until_the_end(self) -> None:
        begin_s = time.time()
        to_come = [(begin_s + after_s, length_s) for after_s, length_s in self._plan.outages]
        back_s, away_s = 0.0, 0.0
        last: int | None = None
        while (now_s := time.time()) < begin_s + self._plan.days * DAY_S:
            number = self._look()
            is_new, last = number not in {last, None}, number
            if not back_s and to_come and now_s >= to_come[0][0] and is_new:
                self._order("faults", "PUT", b"status-503").close()
                away_s = time.time()
                back_s = away_s + to_come.pop(0)[1]
            elif back_s and now_s >= back_s:
                back_s = 0.0
                self.seen.outages.append((away_s, time.time()))
                self._order("faults", "DELETE").close()
            time.sleep(self._plan.look_each_s)

    def _look(self) -> int | None:
        before_s = time.time()
        try:
            found = probe("127.0.0.1", self._port, "localhost", roots=self._roots, timeout_s=FOREVER_S)
        except ProbeError as error:
            self.seen.errors.append(f"{datetime.now(UTC)}: {error}")
            return None
        number = None
        if found.staple_der is not None:
            text = found.staple_der.hex()
            if text not in self.seen.staples:
                self.seen.staples.append(text)
            number = self.seen.staples.index(text)
        self.seen.looks.append((before_s, time.time(), number))
        return number

    def _order(self, what: str, method: str, body: bytes | None = None):
        url = f"http://127.0.0.1:{self._responder_port}/-/{what}"
        return urllib.request.urlopen(urllib.request.Request(url, body, method=method))


if __name__ == "__main__":
    where = Path(sys.argv[1])
    year = Year(where, Plan(**json.loads(sys.argv[2])))
    try:
        year.live()
    finally:
        (where / "seen.json").write_text(json.dumps(asdict(year.seen)))
