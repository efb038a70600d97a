"""How the options of ``stapleproxy bench`` are read, which of them go together, and how its help is ordered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from proxy.bench.arrivals import Names, read_names
from proxy.cli.faults import find_duration
from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_SECTIONS = {
    "Clients": ("rate", "concurrency", "duration", "handshakes", "ramp", "warmup", "processes"),
    "TLS": ("name", "names_path", "version", "key_type", "groups", "ciphers", "resume", "cert", "key"),
    "Verification": ("no_status", "cafile", "issuer"),
    "Requests": ("path", "requests"),
    "Patience": ("connect_timeout", "handshake_timeout", "answer_timeout"),
    "Searching and comparing": ("steps", "goal", "ab", "rounds"),
    "Report": ("as_json", "html", "samples"),
}


def a_number(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse "nan", which click takes to be in any range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("must be a number")
    return value


def longer_than_nothing(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a time that is not 0."""
    seconds = find_duration(ctx, param, value)
    if seconds == 0:
        raise click.BadParameter("must be longer than nothing: such as 10s")
    return seconds


class SectionedCommand(click.Command):
    """Its help has the options under titles: three dozen of them in one list are read by nobody."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        records = {option.name: option.get_help_record(ctx) for option in options}
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := records.pop(name)) is not None])
        with formatter.section("Other"):
            formatter.write_dl([record for record in records.values() if record is not None])


def checked(read: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str | None], object]:
    """Make an option's callback of a function that raises ValueError."""

    def callback(_ctx: click.Context, _param: click.Parameter, value: str | None) -> object:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def request_path(text: str) -> str:
    """Take what may stand in a request line; ValueError."""
    if not (text.startswith("/") and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("must begin with / and hold no blanks: /index.html")
    return text


def check_together(given: dict[str, str]) -> None:
    """Refuse options that contradict each other, or that nothing would look at."""
    for one, other in (
        ("rate", "concurrency"),
        ("duration", "handshakes"),
        ("name", "names_path"),
        ("steps", "rate"),
        ("steps", "concurrency"),
        ("steps", "handshakes"),
        ("steps", "ab"),
        ("ab", "handshakes"),
        ("ab", "no_status"),
    ):
        if one in given and other in given:
            both = f"{option_name(one)} and {option_name(other)}"
            raise click.UsageError(f"{both} contradict each other: leave out one of them")
    for one, needed in (("requests", "path"), ("rounds", "ab"), ("goal", "steps"), ("cert", "key"), ("key", "cert")):
        if one in given and needed not in given:
            raise click.UsageError(f"{option_name(one)} needs {option_name(needed)}")


def option_name(parameter: str) -> str:
    """Give the option as it is written on the command line."""
    known = {"names_path": "--names", "path": "--request", "steps": "--stepped", "version": "--tls"}
    return known.get(parameter, f"--{parameter.replace('_', '-')}")


def names_of(host: str, name: str | None, path: Path | None) -> Names:
    """Which server names to ask for: those of a file, the one that was given, or the host's."""
    if path is not None:
        try:
            return read_names(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(Problem("--names", f"cannot read {path}: {error}")) from error
    if name is None:
        # RFC 6066 3: an address is no server name.
        is_address = ":" in host or host.replace(".", "").isdigit()
        name = "" if is_address else host
    return Names.of([(name, 1.0)])
