"""Responses as people and files want them."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from proxy.errors import ConfigError, Problem, StapleproxyError, StartError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Literal

    from proxy.staples import Row

    Form = Literal["der", "pem", "text"]

LEAST_TABLE_COLUMNS = 160
"""A narrower terminal folds the rows itself, and nothing is left out."""
MAX_RESPONSE_BYTES = 4 << 20
"""Of a file to be read: in PEM, twice what the settings allow a response."""

_BEGIN, _END = "-----BEGIN OCSP RESPONSE-----", "-----END OCSP RESPONSE-----"
"""As GnuTLS's ocsptool writes it; openssl has no PEM for responses."""


def print_rows(rows: Sequence[Row], now: datetime) -> None:
    """Write the table."""
    from rich.table import Table
    from rich.text import Text

    from proxy.cli.console import make_console
    from proxy.log_lines import printable

    if not rows:
        click.echo("no responses")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("names", "status", "thisUpdate", "nextUpdate", "serve until", "next refresh", "last stapled"):
        table.add_column(title, overflow="fold", no_wrap=title != "names")
    table.add_column("size", justify="right")
    table.add_column("hits", justify="right")
    for row in rows:
        who = (
            f"{', '.join(row.names)} ({row.certificate})" if row.certificate else f"{row.key[:12]} serial {row.serial}"
        )
        is_over = row.serve_until is not None and row.serve_until <= now
        times = (row.this_update, row.next_update, row.serve_until, row.next_refresh, row.last_stapled)
        numbers = (str(row.size), str(row.hits)) if row.response else ("-", "-")
        status = f"{row.status}, over" if is_over else row.status
        cells = [who, status, *(_clock(moment) for moment in times), *numbers]
        table.add_row(*(Text(printable(cell)) for cell in cells))  # a str would be read as markup
    console = make_console()
    console.width = max(console.width, LEAST_TABLE_COLUMNS)
    console.print(table)


def _clock(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%MZ}" if moment else "-"


def text_of(row: Row, der: bytes) -> str:
    """Write a response as openssl does; raises StapleproxyError."""
    from proxy.ocsp.text import response_text

    try:
        return response_text(der)
    except ValueError as error:
        raise StapleproxyError(f"{row.key}: {error}") from error


def export(row: Row, der: bytes, form: Form, output: Path | None) -> None:
    """Write it to a file, or to standard output."""
    if form == "der" and output is None and sys.stdout.isatty():
        raise click.UsageError("DER would garble the terminal: give -o FILE, --pem or --text")
    data = der if form == "der" else (_pem(der) if form == "pem" else text_of(row, der)).encode()
    if output is None:
        click.echo(data, nl=False)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise StartError(f"{output}: cannot be written: {error.strerror}") from error


def read_response(file: Path) -> bytes:
    """Read what is to be stapled, in DER or in PEM; `-` is standard input. Raises ConfigError."""
    try:
        with click.open_file(str(file), "rb") as opened:
            data: bytes = opened.read(MAX_RESPONSE_BYTES + 1)
    except OSError as error:
        raise ConfigError(Problem(str(file), f"cannot be read: {error.strerror}")) from error
    if len(data) > MAX_RESPONSE_BYTES:
        raise ConfigError(Problem(str(file), f"is longer than {MAX_RESPONSE_BYTES} bytes: it is no OCSP response"))
    text = data.strip()
    if not text.startswith(_BEGIN.encode()):
        return data
    try:
        body, end, rest = text.decode("ascii").removeprefix(_BEGIN).partition(_END)
        if not end or rest.strip():
            raise ValueError("there is more behind it" if end else "its last line is missing")
        return b64decode("".join(body.split()), validate=True)
    except ValueError as error:
        raise ConfigError(Problem(str(file), f"is no OCSP response in PEM: {error}")) from error


def _pem(der: bytes) -> str:
    return "\n".join([_BEGIN, *wrap(b64encode(der).decode(), 64), _END, ""])
