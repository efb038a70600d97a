"""The options of all commands that read a configuration, for files of Apache's."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, get_args

import click

from proxy.settings.source import CONF_SUFFIX, HttpdOptions
from proxy.settings.stapling_httpd import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., None]


def httpd_options(argument: str) -> Callable[[Command], Command]:
    """Add --lenient, --profile and -D to a command that has the file's name as `argument`.

    It gets them as `httpd`; None where none is given.
    """

    def added_to(command: Command) -> Command:
        @click.option("--lenient", is_flag=True, help="Of a .conf file: warn of what cannot be honoured, and go on.")
        @click.option(
            "--profile",
            type=click.Choice(get_args(Profile)),
            help="Of a .conf file: how to staple.  [default: httpd-2.4]",
        )
        @click.option(
            "-D", "defines", multiple=True, metavar="NAME[=VALUE]", help="Of a .conf file: define NAME, as Apache's -D."
        )
        @wraps(command)
        def with_options(
            *args: object, lenient: bool, profile: Profile | None, defines: tuple[str, ...], **others: object
        ) -> None:
            given = None
            if lenient or profile or defines:
                if not str(others[argument]).endswith(CONF_SUFFIX):
                    raise click.UsageError("--lenient, --profile and -D are for Apache's files, named *.conf")
                values = {name: value for name, _, value in (each.partition("=") for each in defines)}
                given = HttpdOptions(lenient, profile, values)
            command(*args, httpd=given, **others)

        return with_options

    return added_to
