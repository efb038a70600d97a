"""``stapleproxy completion``: the script that lets a shell complete commands, options and names with the Tab key."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from proxy.cli.running import CONFIG_VARIABLE
from proxy.errors import StapleproxyError

PROGRAM = "stapleproxy"
VARIABLE = "_STAPLEPROXY_COMPLETE"
"""By which click knows that a shell asks."""
WITHIN_S = 1.0
"""Whoever presses Tab waits no longer."""

_NAME = re.compile(r"[a-z0-9_*][a-z0-9._:-]*", re.IGNORECASE)


@click.command(short_help="Print the script for completion with the Tab key.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print a script that lets SHELL complete commands, options, and the names of certificates, with the Tab key.

    \b
    Put it where the shell finds it:
      stapleproxy completion bash > ~/.local/share/bash-completion/completions/stapleproxy
      stapleproxy completion zsh > "${fpath[1]}/_stapleproxy"
      stapleproxy completion fish > ~/.config/fish/completions/stapleproxy.fish
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from click.shell_completion import get_completion_class

    from proxy.cli import main

    found = get_completion_class(shell)
    assert found is not None  # or the choice would not have it
    click.echo(found(main, {}, PROGRAM, VARIABLE).source())


def names(file: Path | None, socket_path: Path | None, incomplete: str) -> list[str]:
    """Give the names that begin so: those that a running stapleproxy tells, or else those in the configuration."""
    found = _told(file, socket_path) or _configured(file)
    # The shell puts it on the command line as it is: nothing may come from a socket that would run there.
    return sorted(name for name in found if name.startswith(incomplete) and _NAME.fullmatch(name))


def _told(file: Path | None, socket_path: Path | None) -> set[str]:
    from proxy.cli.adminclient import ask
    from proxy.cli.running import find_socket

    try:
        staples = ask(find_socket(file, socket_path), "/api/staples", timeout_s=WITHIN_S)["staples"]
        assert isinstance(staples, list)
        return {str(name) for each in staples for name in each["names"]}
    except (StapleproxyError, click.UsageError, LookupError, TypeError, AssertionError):
        return set()  # whoever presses Tab wants no sentence


def _configured(file: Path | None) -> set[str]:
    from proxy.settings.source import read_source

    named = file or os.environ.get(CONFIG_VARIABLE)
    try:
        sites = read_source(Path(named)).settings().site if named else ()
    except StapleproxyError:
        return set()
    return {str(name) for site in sites for name in site.names}
