"""The exit status of each command: the one table, for the commands, their help, tests and docs/exit-status.md."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What scripts go by."""

    OK = 0
    FAILED = 1
    WRONG = 2
    ATTENTION = 3
    INTERRUPTED = 130


_SERVED = {
    Exit.OK: "ended by SIGTERM, or by stapleproxy stop",
    Exit.FAILED: "this machine does not give what it needs: a port, a file, a right",
    Exit.WRONG: "the configuration or the command line is wrong, and nothing was begun",
    Exit.INTERRUPTED: "ended by Ctrl-C",
}
_WRONG = "the configuration or the command line is wrong"
_NOBODY = "nobody answers at the admin socket"

EXITS: dict[str, dict[Exit, str]] = {
    "run": _SERVED,
    "serve": _SERVED,
    "check": {
        Exit.OK: "no mistake; a warning is none",
        Exit.FAILED: "a file cannot be read to the end",
        Exit.WRONG: "there are mistakes: all are named",
    },
    "convert": {Exit.OK: "done", Exit.WRONG: "there are mistakes: all are named"},
    "explain": {
        Exit.OK: "explained",
        Exit.FAILED: "with --live: something that should be stapled would not be",
        Exit.WRONG: "TARGET cannot be read",
    },
    "status": {
        Exit.OK: "all is well",
        Exit.FAILED: _NOBODY,
        Exit.WRONG: _WRONG,
        Exit.ATTENTION: "it serves, and needs attention: not ready, or a certificate, a reload or the fleet in trouble",
        Exit.INTERRUPTED: "--watch was ended by Ctrl-C",
    },
    "staples": {
        Exit.OK: "done",
        Exit.FAILED: f"{_NOBODY}, there is no such response, or it was refused",
        Exit.WRONG: _WRONG,
    },
    "reload": {
        Exit.OK: "the new configuration is in use",
        Exit.FAILED: f"{_NOBODY}, or the reload did not end in time",
        Exit.WRONG: "the new configuration has mistakes: all are named, and the old one stays in use",
    },
    "stop": {
        Exit.OK: "it has ended",
        Exit.FAILED: f"{_NOBODY}, or it did not end in time",
        Exit.WRONG: _WRONG,
    },
    "lab": {
        Exit.OK: "the proof succeeded, or the comparison is done",
        Exit.FAILED: "the proof failed, or a part of the lab did not start",
        Exit.WRONG: "the command line or the scenario is wrong",
        Exit.INTERRUPTED: "ended by Ctrl-C",
    },
    "bench": {
        Exit.OK: "measured",
        Exit.FAILED: "nothing could be measured: not one handshake was completed, or this machine did not do its part",
        Exit.WRONG: "the command line is wrong",
        Exit.INTERRUPTED: "ended by Ctrl-C; what was measured till then is told",
    },
    "completion": {Exit.OK: "done", Exit.WRONG: "the command line is wrong"},
}
"""What it means, by command. Ctrl-C ends any of them with 130."""


def epilog(command: str) -> str:
    """Write the end of a command's help."""
    lines = [f"  {status:<4}{meaning}" for status, meaning in EXITS[command].items()]
    return "\b\nExit status:\n" + "\n".join(lines)


def page() -> str:
    """Write all of it as a page."""
    rows = [f"| {name} | {status} | {meaning} |" for name, found in EXITS.items() for status, meaning in found.items()]
    return "\n".join([_HEAD, "| command | status | meaning |", "|---|---|---|", *rows, ""])


_HEAD = """# Exit status

What each command of `stapleproxy` ends with, for scripts and monitoring. Ctrl-C ends any of them with 130. Of `status`
0 is well, 3 is a warning, and 1 is nobody there.
"""
