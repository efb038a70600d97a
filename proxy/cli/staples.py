"""``stapleproxy staples``: look at the responses, have one fetched, put one there, take one out into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.exit_codes import Exit
from proxy.cli.httpd_options import httpd_options
from proxy.cli.running import find_socket, socket_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.cli.staples_view import Form
    from proxy.settings.source import HttpdOptions

    Command = Callable[..., None]

TIMEOUT_S = 60.0
_WITH_VALUE = frozenset({"--socket", "-c", "--config", "--profile", "-D"})
"""What follows one of these is no FILE."""


class _Staples(click.Group):
    """Takes the file before the command, and lists where there is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._in_order(args))

    def _in_order(self, args: list[str]) -> list[str]:
        """Bring ``[OPTIONS] FILE COMMAND …`` into click's order, with FILE as an option; no COMMAND means `list`."""
        if args and (args[0] in self.commands or args[0] in {"-h", "--help"}):
            return args
        for at in range(1, len(args)):
            if args[at] in self.commands:
                command, before, after = args[at], args[:at], args[at + 1 :]
                if before[-1].startswith("-") or (before[:-1] and before[-2] in _WITH_VALUE):
                    return [command, *before, *after]
                file = before[-1:] if command == "list" else ["--config", before[-1]]
                return [command, *before[:-1], *file, *after]
        return ["list", *args]


def _of_file(command: Command) -> Command:
    """Add --config and --socket, and what files of Apache's need."""
    add = click.option(
        "-c",
        "--config",
        "file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The configuration, or a cache's file: the same as FILE before the command.",
    )
    return add(socket_option(httpd_options("file")(command)))


def _complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from proxy.cli.completion import names

    return names(ctx.params.get("file"), ctx.params.get("socket_path"), incomplete)


@click.group(
    cls=_Staples,
    short_help="Look at the responses; have one fetched, put there, or taken out.",
    subcommand_metavar="[FILE] COMMAND [ARGS]...",
)
def staples() -> None:
    """Look at OCSP responses, have one fetched now, put one there, or take one out into a file.

    FILE is a configuration (.toml, or .conf for Apache's), or a cache's file. Responses are read from the cache's
    file where there is one: nothing is written to it, who uses it is not held up, and nobody needs to run. Else, and
    for refresh and set, a running stapleproxy is asked by `admin.socket` of the configuration, or by --socket.
    Without FILE, STAPLEPROXY_CONFIG or STAPLEPROXY_SOCKET says which one is meant, or it is
    /etc/stapleproxy/stapleproxy.toml.

    NAME is a host name of the configuration, a serial number, or a key or its beginning.

    \b
    Examples:
      stapleproxy staples stapleproxy.toml
      stapleproxy staples --json /var/lib/stapleproxy/staples
      stapleproxy staples stapleproxy.toml show www.example.com
      stapleproxy staples stapleproxy.toml refresh --all
      stapleproxy staples stapleproxy.toml export www.example.com -o www.der
      stapleproxy staples stapleproxy.toml set www.example.com www.der
    """  # noqa: D301  \b is click's mark for lines to leave as they are


@staples.command("list", short_help="List the responses; the same as no command.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@socket_option
@click.option("--json", "as_json", is_flag=True, help="The list as one JSON object.")
@click.option(
    "--figures",
    "naming",
    type=click.Choice(("apache", "prometheus")),
    help="Tell how full and how busy the cache's file is, under these names, instead of the list.",
)
@httpd_options("file")
def list_(
    *, file: Path | None, socket_path: Path | None, as_json: bool, naming: str | None, httpd: HttpdOptions | None
) -> None:
    """List the responses.

    With a configuration the list has names, the certificates for which nothing is held, and until when each site is
    stapled though all responders be gone; a cache's file alone has serial numbers.
    """
    from proxy.cli.staples_list import list_responses

    list_responses(file, socket_path, httpd, as_json=as_json, naming=naming)


@staples.command(short_help="Print one response as openssl does; without NAME the list.")
@click.argument("name", required=False, shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="The list as one JSON object.")
@_of_file
def show(
    *, name: str | None, file: Path | None, socket_path: Path | None, as_json: bool, httpd: HttpdOptions | None
) -> None:
    """Print the response for NAME as `openssl ocsp -resp_text` does. Without NAME all are listed."""
    from proxy.cli.staples_list import list_responses
    from proxy.cli.staples_place import find_place, the_one
    from proxy.cli.staples_view import text_of

    if name is None:
        list_responses(file, socket_path, httpd, as_json=as_json, naming=None)
        return
    if as_json:
        raise click.UsageError("--json is for the list, without NAME")
    place = find_place(file, socket_path, httpd)
    row = the_one(place, place.rows(), name)
    click.echo(text_of(row, place.response(row)), nl=False)


@staples.command(short_help="Write one response to a file.")
@click.argument("name", shell_complete=_complete)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@click.option("--der", "form", flag_value="der", default="der", help="As it is sent to clients.  [default]")
@click.option("--pem", "form", flag_value="pem", help="As text that mail and editors leave as it is.")
@click.option("--text", "form", flag_value="text", help="As people read it.")
@_of_file
def export(
    *,
    name: str,
    output: Path | None,
    form: Form,
    file: Path | None,
    socket_path: Path | None,
    httpd: HttpdOptions | None,
) -> None:
    """Write the response for NAME, to standard output without -o."""
    from proxy.cli.staples_place import find_place, the_one
    from proxy.cli.staples_view import export as write

    place = find_place(file, socket_path, httpd)
    row = the_one(place, place.rows(), name)
    write(row, place.response(row), form, output)


@staples.command(short_help="Have the responders asked now, and wait for what comes of it.")
@click.argument("name", required=False, shell_complete=_complete)
@click.option("--all", "is_all", is_flag=True, help="Of all certificates that are stapled.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(0.1, 3600),
    default=TIMEOUT_S,
    show_default=True,
    help="How long to wait for the outcome.",
)
@_of_file
@click.pass_context
def refresh(
    ctx: click.Context,
    *,
    name: str | None,
    is_all: bool,
    timeout_s: float,
    file: Path | None,
    socket_path: Path | None,
    httpd: HttpdOptions | None,
) -> None:
    """Have the responders of NAME asked now, or with --all those of all certificates, and wait for the outcome.

    All certificates of NAME are meant, where it has more of them. A response that is refused is told with its reason.
    """
    from proxy.cli.staples_place import Running
    from proxy.cli.staples_refresh import refresh as go
    from proxy.errors import StartError
    from proxy.staples import find

    del httpd  # a file of Apache's names no admin socket, and says so
    if (name is None) is not is_all:
        raise click.UsageError("give a NAME, or --all")
    place = Running(find_socket(file, socket_path))
    wanted = place.staples()
    if name is not None:
        keys = {row.key for row in find((each.row() for each in wanted), name, held=False)}
        wanted = tuple(each for each in wanted if each.key in keys)
        if not wanted:
            raise StartError(f"{place}: no certificate for {name!r} is stapled: stapleproxy check lists them")
    ctx.exit(Exit.OK if go(place, wanted, timeout_s) else Exit.FAILED)


@staples.command("set", short_help="Have a response from a file stapled.")
@click.argument("name", shell_complete=_complete)
@click.argument("response", metavar="RESPONSE", type=click.Path(path_type=Path))
@_of_file
def set_(*, name: str, response: Path, file: Path | None, socket_path: Path | None, httpd: HttpdOptions | None) -> None:
    """Have the OCSP response in the file RESPONSE (DER or PEM, - is standard input) stapled for NAME from now on.

    It is verified first as one from a responder is. A newer one from a responder takes its place.
    """
    from proxy.cli.adminclient import ask
    from proxy.cli.staples_place import Running, the_one
    from proxy.cli.staples_view import read_response
    from proxy.log_lines import printable

    del httpd  # a file of Apache's names no admin socket, and says so
    der = read_response(response)
    place = Running(find_socket(file, socket_path))
    row = the_one(place, place.rows(), name, held=False)
    told = ask(place.path, f"/api/staples/{row.key}", "PUT", der)
    click.echo(printable(f"{row.certificate}: {told.get('status')}, stapled until {told.get('stapled_until')}"))
