"""``stapleproxy status``: how everything stands, in the terminal."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlencode

import click

from proxy.cli.exit_codes import Exit
from proxy.cli.running import asks_running

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.keeper.status import Status

DEFAULT_SITES = 50
WATCH_EVERY_S = 2.0


@click.command(short_help="Tell how a running stapleproxy stands.")
@asks_running
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every-s",
    type=click.FloatRange(0.2, 3600),
    default=WATCH_EVERY_S,
    show_default=True,
    help="With --watch: the pause between two looks.",
)
@click.option("--find", metavar="TEXT", default="", help="Only sites with TEXT in a name, certificate, key or reason.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=DEFAULT_SITES,
    show_default=True,
    help="At most so many sites; those that need attention come first.",
)
@click.option("--json", "as_json", is_flag=True, help="All facts as one JSON object.")
@click.pass_context
def status(
    ctx: click.Context, *, path: Path, watch: bool, every_s: float, find: str, limit: int, as_json: bool
) -> None:
    """Tell how a running stapleproxy stands.

    That is: each site's staple, how old it is and how long it lasts, when the next one is fetched, what went wrong
    last, how the responders answer, and what is served.

    FILE is its configuration, which names `admin.socket`; or give --socket. Without either STAPLEPROXY_CONFIG or
    STAPLEPROXY_SOCKET says which one is meant, or it is /etc/stapleproxy/stapleproxy.toml.

    `forecast` is until when the site is stapled if no responder ever answers again.

    \b
    Examples:
      stapleproxy status stapleproxy.toml
      stapleproxy status --watch
      stapleproxy status --json | jq .certificates
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    if as_json and watch:
        raise click.UsageError("--json is for one look, without --watch")
    target = "/api/status?" + urlencode({"limit": limit} | ({"q": find} if find else {}))
    if watch:
        _watch(path, target, every_s)
    from proxy.cli.console import make_console
    from proxy.cli.status_view import View, is_well

    document, found = _look(path, target)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        make_console().print(View(found))
    ctx.exit(Exit.OK if is_well(found) else Exit.ATTENTION)


def _look(path: Path, target: str) -> tuple[dict[str, object], Status]:
    from pydantic import TypeAdapter, ValidationError

    from proxy.cli.adminclient import NotAnsweredError, ask
    from proxy.keeper.status import Status

    document = ask(path, target)
    try:
        return document, TypeAdapter(Status).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"its status is not as this version writes it ({where}: {first['msg']}): is it another version?"
        raise NotAnsweredError(f"admin.socket {path}: {what}") from error


def _watch(path: Path, target: str, every_s: float) -> NoReturn:
    """Look for ever. A moment in which nobody answers is shown, and looking goes on: there may be a restart."""
    from rich.live import Live
    from rich.text import Text

    from proxy.cli.adminclient import NotAnsweredError
    from proxy.cli.console import make_console
    from proxy.cli.status_view import View

    console = make_console()

    def look() -> View | Text:
        try:
            return View(_look(path, target)[1])
        except NotAnsweredError as error:
            return Text(str(error), "bold red")

    if not console.is_terminal:
        while True:
            console.print(look())
            console.print()
            time.sleep(every_s)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(look(), refresh=True)
            time.sleep(every_s)
