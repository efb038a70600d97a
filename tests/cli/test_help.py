"""What a newcomer sees first."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from proxy.cli import _COMMANDS, _SECTIONS, main

OF_ONE_LINE = [name for name in _COMMANDS if name != "bench"]


def shown(*arguments):
    return CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80).stdout


def test_the_commands_are_grouped_by_what_one_does_with_them():
    """In the order in which one needs them, with a line that a terminal of 80 columns has room for."""
    text = shown()
    titles = [line.rstrip(":") for line in text.splitlines() if line.rstrip(":") in _SECTIONS]
    assert titles == list(_SECTIONS)
    for name in OF_ONE_LINE:
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith("."), line


@pytest.mark.parametrize("name", _COMMANDS)
def test_each_command_has_an_example(name):
    """That can be copied."""
    text = shown(name)
    assert any(line.strip().startswith(f"stapleproxy {name}") for line in text.splitlines())


@pytest.mark.parametrize("action", ["list", "show", "export", "refresh", "set"])
def test_what_staples_can_do_is_told_by_each(action):
    """Where to look is an option of all of them."""
    text = shown("staples", action)
    assert "--socket" in text
    assert action == "list" or "--config" in text


def test_the_version():
    """Without loading what commands need."""
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("stapleproxy, version ")
