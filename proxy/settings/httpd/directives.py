"""All rows of the table, by name, and the page that shows them. PURE.

``python -m proxy.settings.httpd.directives`` prints the page; a test compares it with docs/httpd-directives.md.
"""

from __future__ import annotations

from proxy.settings.httpd import rows_http, rows_quiet, rows_tls
from proxy.settings.httpd.table import Row, markdown

ROWS: tuple[Row, ...] = (*rows_tls.ROWS, *rows_http.ROWS, *rows_quiet.ROWS)

BY_NAME = {row.name.lower(): row for row in ROWS}
"""By names in lower case, as Apache compares them; sections with their ``<``."""

_HEAD = """\
# Apache's directives, and what becomes of each

Written by `python -m proxy.settings.httpd.directives` from the one table that the reading goes by. What is not in it
is told as Apache tells an unknown directive. [httpd.md](httpd.md) has the rest.

"""


def page() -> str:
    """Give the whole text."""
    return _HEAD + markdown(ROWS).rstrip("\n") + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 (what it is for)
