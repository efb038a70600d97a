"""All rows of the table, by name. PURE."""

from __future__ import annotations

from proxy.settings.httpd import rows_http, rows_quiet, rows_tls
from proxy.settings.httpd.table import Row, markdown

ROWS: tuple[Row, ...] = (*rows_tls.ROWS, *rows_http.ROWS, *rows_quiet.ROWS)

BY_NAME = {row.name.lower(): row for row in ROWS}
"""By names in lower case, as Apache compares them; sections with their ``<``."""


def table() -> str:
    """Draw the table for the manual, in Markdown."""
    return markdown(ROWS)
