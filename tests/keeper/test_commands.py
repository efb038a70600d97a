"""The operator's command at each event: real scripts, with what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from keeper.responders import until
from ocsp.pki import DAY, NOW

from proxy.errors import Reason
from proxy.keeper import commands as module
from proxy.keeper.commands import Commands, variables
from proxy.keeper.events import Event, EventKind

LOG = logging.getLogger("stapleproxy.keeper")
EVENT = Event(
    kind=EventKind.REFUSED,
    at=NOW,
    certificate="www.pem (EC secp256r1)",
    names=("www.test", "*.www.test"),
    serial="1f",
    reasons=(Reason.TRY_LATER, Reason.EXPIRED),
    detail="http://a/: try-later: no; http://b/: expired: $(touch /tmp/x) `id`",
    responder="",
    this_update=NOW - DAY,
    next_update=None,
    serve_until=NOW + DAY,
)
TOLD = {
    "STAPLEPROXY_EVENT": "refused",
    "STAPLEPROXY_CERTIFICATE": "www.pem (EC secp256r1)",
    "STAPLEPROXY_NAMES": "www.test *.www.test",
    "STAPLEPROXY_SERIAL": "1f",
    "STAPLEPROXY_REASONS": "try-later expired",
    "STAPLEPROXY_DETAIL": EVENT.detail,
    "STAPLEPROXY_RESPONDER": "",
    "STAPLEPROXY_THIS_UPDATE": "2030-06-14T12:00:00Z",
    "STAPLEPROXY_NEXT_UPDATE": "",
    "STAPLEPROXY_SERVE_UNTIL": "2030-06-16T12:00:00Z",
}


@pytest.fixture
def script(tmp_path):
    """Write a shell script whose working folder is the test's; its path."""

    def script(*lines):
        path = tmp_path / "on-event"
        path.write_text("\n".join(("#!/bin/sh", f"cd {tmp_path}", *lines, "")))
        path.chmod(0o700)
        return str(path)

    return script


@contextlib.asynccontextmanager
async def telling(*command, timeout_s=10.0, environment=os.environ):
    """Commands at work until the block ends."""
    commands = Commands(command, timeout_s, LOG, environment)
    work = asyncio.create_task(commands.run())
    try:
        yield commands
    finally:
        assert not work.done()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def is_alive(pid_file: Path) -> bool:
    """Whether the process, whose number a script has written there, runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_facts_are_in_the_environment_and_on_standard_input(script, tmp_path):
    """And nothing else of ours is; no shell reads them."""
    command = script(
        'printf "%s\\n" "$@" > arguments', "cat > input", "env -0 > environment.new", "mv environment.new environment"
    )
    inherited = {"PATH": os.environ["PATH"], "TZ": "UTC", "SECRET": "x"}

    async def run():
        async with telling(command, "one", "$HOME two", environment=inherited) as commands:
            commands.happened(EVENT)
            await until((tmp_path / "environment").exists)

    asyncio.run(run())
    environment = dict(pair.split("=", 1) for pair in (tmp_path / "environment").read_text().split("\0")[:-1])
    assert {name: value for name, value in environment.items() if name not in {"PWD", "OLDPWD", "SHLVL", "_"}} == {
        "PATH": os.environ["PATH"],
        "TZ": "UTC",
        **TOLD,
    }
    assert (tmp_path / "arguments").read_text() == "one\n$HOME two\n"
    assert json.loads((tmp_path / "input").read_text()) == {
        "event": "refused",
        "at": "2030-06-15T12:00:00Z",
        "certificate": "www.pem (EC secp256r1)",
        "names": ["www.test", "*.www.test"],
        "serial": "1f",
        "reasons": ["try-later", "expired"],
        "detail": EVENT.detail,
        "responder": "",
        "this_update": "2030-06-14T12:00:00Z",
        "next_update": None,
        "serve_until": "2030-06-16T12:00:00Z",
    }


def test_variables_hold_what_any_command_can_take():
    """A zero byte would keep it from starting, control characters may steer a terminal, and a length has its limit."""
    odd = replace(EVENT, detail="a\0b\x1b[31m\nc\ud800é", names=tuple(f"{n}.example.com" for n in range(9_000)))
    told = variables(odd)
    assert told["STAPLEPROXY_DETAIL"] == "ab[31mcé"
    assert len(told["STAPLEPROXY_NAMES"]) == 30_000


def test_odd_facts_reach_the_command(script, tmp_path):
    """A certificate with thousands of names, whatever the locale, and a command that reads nothing."""
    odd = replace(EVENT, detail="é\0" * 20_000, names=tuple(f"{n}.example.com" for n in range(9_000)))

    async def run():
        async with telling(script("touch told"), environment={"LANG": "C"}) as commands:
            commands.happened(odd)
            await until((tmp_path / "told").exists)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (["exit 3"], "exited with status 3"),
        (["echo first >&2", "printf 'the \\033[1mlast\\n\\n' >&2", "exit 1"], "exited with status 1: the [1mlast"),
        (["kill -9 $$"], "was ended by signal 9"),
        (["head -c 100000 /dev/zero | tr '\\0' x >&2", "exit 1"], f"exited with status 1: {'x' * 500}"),
    ],
    ids=["status", "last line", "signal", "long"],
)
def test_a_command_that_fails_is_told_in_one_line(script, steps, lines, told):
    """With the last line that it said, without what could steer a terminal."""
    command = script(*steps)

    async def run():
        async with telling(command) as commands:
            commands.happened(EVENT)
            await until(lines)

    asyncio.run(run())
    assert lines() == [f"WARNING on_event: refused of www.pem (EC secp256r1): {command} {told}"]


def test_a_command_that_cannot_be_run_is_told(tmp_path, lines):
    """And the next event is tried all the same."""

    async def run():
        async with telling(str(tmp_path / "none")) as commands:
            for _ in range(2):
                commands.happened(EVENT)
            await until(lambda: len(lines()) == 2)

    asyncio.run(run())
    assert all("none cannot be run: [Errno 2] No such file or directory" in line for line in lines())


@pytest.mark.parametrize("trap", ["", "trap '' TERM"], ids=["obeys", "ignores SIGTERM"])
def test_a_command_that_hangs_is_ended_with_its_children(script, tmp_path, lines, monkeypatch, trap):
    """By SIGTERM, then by SIGKILL: also a child that it started in the background."""
    monkeypatch.setattr(module, "GRACE_S", 0.2)
    command = script(trap, "sleep 100 & echo $! > child", "echo $$ > own", "wait", "sleep 100")

    async def run():
        async with telling(command, timeout_s=0.5) as commands:
            commands.happened(EVENT)
            await until(lines)

    asyncio.run(run())
    assert "was ended: it had not left, or a child had its error output, after 0.5 s" in lines()[0]
    assert not is_alive(tmp_path / "own")
    assert not is_alive(tmp_path / "child")


def test_what_runs_is_ended_on_shutdown(script, tmp_path):
    """Nothing of it outlives the keeper."""
    command = script("sleep 100 & echo $! > child.new; mv child.new child", "wait")

    async def run():
        async with telling(command) as commands:
            commands.happened(EVENT)
            await until((tmp_path / "child").exists)

    asyncio.run(run())
    assert not is_alive(tmp_path / "child")


@pytest.mark.parametrize("turns", range(1, 8))
def test_what_is_just_being_started_is_ended_too(script, tmp_path, lines, turns):
    """At whichever turn of the loop the shutdown comes, its children are not left behind."""
    command = script("sleep 100 & echo $! > child.new; mv child.new child", "wait")

    async def run():
        async with telling(command) as commands:
            commands.happened(EVENT)
            for _ in range(turns):
                await asyncio.sleep(0)

    asyncio.run(run())
    assert not (tmp_path / "child").exists() or not is_alive(tmp_path / "child")
    assert lines() == []


def test_so_many_run_at_a_time(script, tmp_path):
    """The others wait; each gets its turn."""
    command = script("touch begun.$$", "while ! test -e go; do sleep 0.02; done", "touch over.$$")

    async def run():
        async with telling(command) as commands:
            for _ in range(module.AT_ONCE + 2):
                commands.happened(EVENT)
            await until(lambda: len(list(tmp_path.glob("begun.*"))) == module.AT_ONCE)
            (tmp_path / "go").touch()
            await until(lambda: len(list(tmp_path.glob("over.*"))) == module.AT_ONCE + 2)

    asyncio.run(run())


def test_events_that_cannot_wait_are_lost_and_counted(script, tmp_path, lines, monkeypatch):
    """One line when it begins, one when it is over: memory has its limit."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def run():
        commands = Commands((script("echo x >> ran"),), 10.0, LOG)
        for number in range(10):
            commands.happened(replace(EVENT, at=NOW + timedelta(seconds=number)))
        work = asyncio.create_task(commands.run())
        await until(lambda: (tmp_path / "ran").exists() and (tmp_path / "ran").read_text() == "x\n" * 3)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    asyncio.run(run())
    assert lines() == [
        "WARNING on_event: 3 events wait for the command: further ones are lost",
        "WARNING on_event: 7 events were lost",
    ]
