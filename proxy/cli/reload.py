"""``stapleproxy reload``: have a running stapleproxy take in its configuration, and hear what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from proxy.cli.running import asks_running
from proxy.errors import ConfigError, Problem, StartError

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.keeper.status import Generation

TIMEOUT_S = 60.0
POLL_S = 0.1


@click.command(short_help="Take in a changed configuration, without losing a request.")
@asks_running
@click.option(
    "--timeout-s",
    type=click.FloatRange(0.1, 3600),
    default=TIMEOUT_S,
    show_default=True,
    help="How long to wait for the outcome.",
)
def reload(*, path: Path, timeout_s: float) -> None:
    """Have a running stapleproxy read its configuration and all files that it names again, and wait for the outcome.

    If there is a mistake, all of them are named as stapleproxy check does, and nothing is changed. Else new processes
    begin on the same sockets, and the old ones finish what is open. SIGHUP to the master process does the same.

    FILE is the configuration, which names `admin.socket`; or give --socket. The running stapleproxy reads the
    configuration that it was started with.

    \b
    Examples:
      stapleproxy reload /etc/stapleproxy/stapleproxy.toml
      stapleproxy reload --socket /run/stapleproxy/admin.sock
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy.cli.adminclient import ask
    from proxy.cli.console import busy
    from proxy.log_lines import printable

    end = time.monotonic() + timeout_s
    tried = _news(path).reloads
    ask(path, "/api/reload", "POST")
    with busy("Waiting for the new processes …"):
        news = _outcome(path, tried, end)
    if news is None:
        raise StartError(f"the reload did not end within {timeout_s:g} s: its log tells more")
    last = news.last_reload
    assert last is not None  # it has ended
    if not last.ok:
        raise ConfigError(*(Problem("", printable(mistake)) for mistake in last.mistakes))
    click.echo(f"generation {news.generation} serves")


def _outcome(path: Path, tried: int, end: float) -> Generation | None:
    """Wait until one more was tried; None: too late. The keeper, who answers, is replaced meanwhile."""
    from proxy.cli.adminclient import NotAnsweredError

    while time.monotonic() < end:
        try:
            news = _news(path, timeout_s=max(POLL_S, end - time.monotonic()))
        except NotAnsweredError:
            pass
        else:
            if news.reloads > tried and news.last_reload:
                return news
        time.sleep(POLL_S)
    return None


def _news(path: Path, timeout_s: float | None = None) -> Generation:
    from pydantic import TypeAdapter, ValidationError

    from proxy.cli.adminclient import TIMEOUT_S as ASK_S
    from proxy.cli.adminclient import NotAnsweredError, ask
    from proxy.keeper.status import Generation

    document = ask(path, "/api/reload", timeout_s=min(timeout_s or ASK_S, ASK_S))
    try:
        return TypeAdapter(Generation).validate_python(document)
    except ValidationError as error:
        raise NotAnsweredError(f"admin.socket {path}: what answers there is another version of stapleproxy") from error
