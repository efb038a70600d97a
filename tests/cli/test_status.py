"""``stapleproxy status``: what the keeper tells, laid out for terminals, pipes and monitoring."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cli.admin_socket import admin_socket
from click.testing import CliRunner
from pydantic import TypeAdapter
from rich.cells import cell_len

from proxy.cli import main
from proxy.cli.exit_codes import Exit
from proxy.cli.status_view import lines, span
from proxy.keeper.status import (
    Cache,
    Certificate,
    Fleet,
    FleetServer,
    Forecast,
    Generation,
    Reload,
    Responder,
    Site,
    State,
    Status,
    Traffic,
    Trouble,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
GOOD = Certificate(
    key="00" * 20,
    certificate="www.pem (EC secp256r1)",
    names=("www.test",),
    serial="1f",
    not_after=NOW + 90 * 24 * HOUR,
    must_staple=False,
    state=State.STAPLED,
    why="",
    status="good",
    this_update=NOW - 3 * HOUR,
    stapled_until=NOW + 3 * 24 * HOUR,
    next_attempt=NOW + timedelta(minutes=50),
    successes=1,
)
FAILING = replace(
    GOOD,
    certificate="api.pem (RSA 2048)",
    state=State.FAILING,
    stapled_until=NOW + 3 * HOUR,
    failures=7,
    troubles=(Trouble("http://ocsp.test/", "timeout", "no answer within 10 s"),),
)
CACHE = Cache("lru", 65536, 2, 2000, 60000, 30, 75, 25, 3, 1, 0, 0)
TRAFFIC = Traffic(2, 12, 0, 1000, 20.5, {"fresh": 900, "none": 100}, {}, 5000, 100.25, {"2xx": 4990, "5xx": 10}, 10)
STATUS = Status(
    version="1.2.3",
    now=NOW,
    profile="prefetch",
    ready=True,
    reasons=(),
    generation=Generation(2, "2026-02-28T12:00:00Z", 1, Reload("2026-03-01T11:00:00Z", True, ()), 77, "x.toml"),
    certificates={State.STAPLED: 1},
    forecast=Forecast(NOW + 3 * 24 * HOUR, "www.test"),
    sites_total=1,
    sites_matching=1,
    sites=(Site(("www.test",), State.STAPLED, GOOD.stapled_until, (GOOD,)),),
    responders=(Responder("ocsp.test:80", 10, 2, 10, 2, 0.2, {"timeout": 2}, 0.0123, 10.0, NOW - HOUR, "timeout"),),
    cache=CACHE,
    traffic=TRAFFIC,
)
SHARED = FleetServer("redis://one", is_up=True, since=NOW - 3 * HOUR, reason="", detail="")
AWAY = FleetServer("redis://two", is_up=False, since=NOW - HOUR / 4, reason="timeout", detail="no answer in time")
FLEET = Fleet((SHARED,), {"taken": 9, "stored": 3, "alone": 0}, {}, 40, 2, 0)
IN_TROUBLE = replace(
    STATUS,
    certificates={State.FAILING: 1, State.STAPLED: 1},
    sites=(
        Site(("api.test", "*.api.test"), State.FAILING, FAILING.stapled_until, (FAILING, GOOD)),
        Site(("a-very-long-name-that-no-terminal-has-room-for.of-a-company.test",), State.STAPLED, NOW, (GOOD,)),
    ),
)


def document(status):
    return TypeAdapter(Status).dump_python(status, mode="json")


def text(status, columns=80):
    return [line.plain for line in lines(status, columns)]


def run(*arguments):
    result = CliRunner().invoke(main, ["status", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_all_that_matters_is_told():
    """State, age, what is left, next refresh, forecast; responders; cache; traffic; generation and last reload."""
    told = "\n".join(text(STATUS))
    assert "stapleproxy 1.2.3, ready, up for 24 h, generation 2" in told
    assert "last reload 2026-03-01T11:00:00Z: done" in told
    assert "1 certificate: 1 stapled" in told
    assert "without responders all is stapled until 2026-03-04 12:00Z (www.test first)" in told
    assert re.search(r"^www\.test +stapled +3 h +3 d +50 min +03-04 12:00Z$", told, re.MULTILINE)
    assert re.search(r"^ocsp\.test:80 +10 +60 min +20% +12 ms +10000 ms +timeout$", told, re.MULTILINE)
    assert "cache: 2 responses, 3% of its room, 75.0% of 100 look-ups found one" in told
    assert "handshakes: 20.5 a second, 1000 so far (900 fresh, 100 none)" in told
    assert "requests: 100.2 a second, 5000 so far (4990 2xx, 10 5xx)" in told


def test_trouble_is_told_with_its_reason_and_its_certificate():
    """Below the line that it is about, as long as it is."""
    told = text(IN_TROUBLE)
    at = next(number for number, line in enumerate(told) if line.startswith("RSA: api.test"))
    assert re.search(r" failing +3 h +3 h +50 min ", told[at])
    assert told[at + 1] == "  api.pem (RSA 2048): no responder gave a new response, 7 times in a row"
    assert told[at + 2] == "    http://ocsp.test/: timeout: no answer within 10 s"
    assert told[at + 3].startswith("EC: api.test")


@pytest.mark.parametrize("columns", [72, 80, 120, 200])
@pytest.mark.parametrize("status", [STATUS, IN_TROUBLE])
def test_the_tables_fit_the_terminal(status, columns):
    """Names are cut; nothing else is, and only sentences are folded."""
    for line in text(status, columns):
        if line.endswith("Z") or "  " in line.strip():
            assert cell_len(line) <= columns, line


def test_a_refused_reload_and_what_is_not_ready_are_told():
    """All mistakes, as `check` has them."""
    reload = Reload("2026-03-01T11:00:00Z", False, ("x.toml: listen: must be HOST:PORT", "x.toml: workers: too many"))
    status = replace(
        STATUS,
        ready=False,
        reasons=("www.pem: it says must-staple",),
        generation=replace(STATUS.generation, last_reload=reload),
    )
    told = text(status)
    assert "not ready" in told[0]
    assert "  www.pem: it says must-staple" in told
    assert "last reload 2026-03-01T11:00:00Z: refused, nothing was changed" in told
    assert "  x.toml: workers: too many" in told


def test_a_fleet_is_told_with_each_server_and_what_came_of_it():
    """And why one is away; without a fleet there is no word of it."""
    told = text(replace(STATUS, fleet=replace(FLEET, servers=(SHARED, AWAY))))
    assert "fleet: redis://one: shared for 3 h" in told
    assert "fleet: redis://two: away for 15 min: timeout: no answer in time" in told
    assert "fleet: 40 operations, 2 failed (9 taken, 3 stored)" in told
    assert not any(line.startswith("fleet") for line in text(STATUS))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d"), (-130, "-2 min")],
)
def test_lengths_of_time_have_one_unit(seconds, words):
    """And at least two of it."""
    assert span(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (STATUS, Exit.OK),
        (replace(STATUS, certificates={State.STAPLED: 1, State.WAITING: 1, State.NOT_STAPLED: 3}), Exit.OK),
        (IN_TROUBLE, Exit.ATTENTION),
        (replace(STATUS, ready=False, reasons=("x",)), Exit.ATTENTION),
        (
            replace(STATUS, generation=replace(STATUS.generation, last_reload=Reload("x", False, ("y",)))),
            Exit.ATTENTION,
        ),
        (replace(STATUS, generation=None, traffic=None), Exit.OK),
        (replace(STATUS, fleet=FLEET), Exit.OK),
        (replace(STATUS, fleet=replace(FLEET, servers=(SHARED, AWAY))), Exit.ATTENTION),
    ],
)
def test_monitoring_goes_by_the_exit_status(tmp_path, status, exit_code):
    """3 where somebody should look, as a text and as JSON."""
    with admin_socket(tmp_path / "s", **{"GET /api/status": [(200, document(status))]}) as served:
        assert run("--socket", served.path)[0] == exit_code
        assert run("--socket", served.path, "--json")[0] == exit_code


def test_json_is_what_the_keeper_says_and_the_query_is_passed_on(tmp_path):
    """Every field of it, this version's or not."""
    said = document(STATUS) | {"later": [1, 2]}
    with admin_socket(tmp_path / "s", **{"GET /api/status": [(200, said)]}) as served:
        code, out, _ = run("--socket", served.path, "--json", "--find", "www test", "--limit", 7)
    assert (code, json.loads(out)) == (0, said)
    assert served.asked[0][0] == "GET /api/status?limit=7&q=www+test"


def test_what_another_version_says_is_one_sentence(tmp_path):
    """Not a traceback."""
    said = document(STATUS) | {"ready": "perhaps"}
    with admin_socket(tmp_path / "s", **{"GET /api/status": [(200, said)]}) as served:
        code, out, err = run("--socket", served.path)
    assert (code, out) == (1, "")
    assert "its status is not as this version writes it (ready: " in err


HOSTILE = "\x1b]0;title\x07\x9b2J\u202emoc\n\r"


def test_what_strangers_say_does_not_steer_the_terminal(tmp_path):
    """A name of a site, a responder's words, a mistake of a reload, a refusal: no control character gets through."""
    bad = replace(FAILING, certificate=HOSTILE, troubles=(Trouble(f"http://{HOSTILE}", "timeout", HOSTILE),))
    status = replace(
        STATUS,
        ready=False,
        reasons=(HOSTILE,),
        generation=replace(STATUS.generation, last_reload=Reload("x", False, (HOSTILE,))),
        sites=(Site((HOSTILE,), State.FAILING, NOW, (bad,)),),
        responders=(replace(STATUS.responders[0], responder=HOSTILE),),
    )
    replies = {"GET /api/status": [(200, document(status)), (503, {"error": HOSTILE})]}
    with admin_socket(tmp_path / "s", **replies) as served:
        for _ in range(2):
            _, out, err = run("--socket", served.path)
            assert "moc" in out + err
            assert all(line.isprintable() for line in (out + err).split("\n"))


def test_piped_it_is_plain_text(tmp_path):
    """No colours, no boxes, no blanks to fill lines with."""
    with admin_socket(tmp_path / "s", **{"GET /api/status": [(200, document(IN_TROUBLE))]}) as served:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "status", "--socket", str(served.path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    assert "a-very-long-name-that-no-terminal-has-room-for.of-a-company.test" in done.stdout


def on_terminal(*arguments, until: bytes, **environment):
    """Run it on a terminal of 80 columns until it has written this; then Ctrl-C. Its status, and what it wrote."""
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "status", *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"} | environment,
    ) as process:
        os.close(terminal)
        written = b""
        try:
            while until not in written:
                written += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # the other side is closed
                while data := os.read(ours, 65536):
                    written += data
            return process.wait(30), written.decode()
        finally:
            os.close(ours)
            process.kill()


def test_watch_looks_again_and_ctrl_c_ends_it_quietly(tmp_path):
    """With the new facts each time; the status is 130, and the terminal is as it was."""
    replies = [(200, document(replace(STATUS, version=f"0.0.{number}"))) for number in range(4)]
    with admin_socket(tmp_path / "s", **{"GET /api/status": replies}) as served:
        code, written = on_terminal("--socket", served.path, "--watch", "--every-s", "0.2", until=b"0.0.3")
    assert code == 130
    assert "\x1b[32m" in written, "in colours"
    assert written.rstrip().endswith(("\x1b[?1049l", "\x1b[?25h")), "back from the other screen"
    assert "Traceback" not in written
    assert "Aborted" not in written


def test_watch_goes_on_when_nobody_answers_for_a_moment(tmp_path):
    """As while it is started anew."""
    replies = [(200, document(STATUS)), (500, b"?"), (200, document(replace(STATUS, version="0.0.3")))]
    with admin_socket(tmp_path / "s", **{"GET /api/status": replies}) as served:
        code, written = on_terminal("--socket", served.path, "--watch", "--every-s", "0.2", until=b"0.0.3")
    assert code == 130
    assert "what answers there is no stapleproxy" in written


def test_no_color_is_obeyed(tmp_path):
    """https://no-color.org"""
    with admin_socket(tmp_path / "s", **{"GET /api/status": [(200, document(STATUS))]}) as served:
        _, written = on_terminal("--socket", served.path, until=b"requests:", NO_COLOR="1")
    assert "\x1b[32m" not in written
    assert "stapled" in written
