"""The query of the status page and of ``/api/status``, from and to what stands behind the question mark. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from proxy.errors import StapleproxyError
from proxy.keeper.status import DEFAULT_LIMIT, MAX_LIMIT, MAX_QUERY_CHARACTERS, Query, Sort, State

if TYPE_CHECKING:
    from collections.abc import Iterable


class WrongQueryError(StapleproxyError):
    """One sentence says what is wrong."""


def read_query(pairs: Iterable[tuple[str, str]]) -> Query:
    """Read it; what is empty counts as not said, since a form sends it. WrongQueryError says what is wrong."""
    text, state, sort, limit = "", None, Sort.ATTENTION, DEFAULT_LIMIT
    for name, value in pairs:
        match name:
            case _ if not value:
                continue
            case "q" if len(value) <= MAX_QUERY_CHARACTERS:
                text = value.strip()
            case "q":
                raise WrongQueryError(f"q has more than {MAX_QUERY_CHARACTERS} characters")
            case "state" if value in set(State):
                state = State(value)
            case "state":
                raise WrongQueryError(f"state must be one of {', '.join(State)}")
            case "sort" if value in set(Sort):
                sort = Sort(value)
            case "sort":
                raise WrongQueryError(f"sort must be one of {', '.join(Sort)}")
            # Few digits: what int() says of thousands of them helps nobody.
            case "limit" if value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= MAX_LIMIT:
                limit = int(value)
            case "limit":
                raise WrongQueryError(f"limit must be a number from 1 to {MAX_LIMIT}")
            case _:
                raise WrongQueryError("unknown parameter: there are q, state, sort and limit")
    return Query(text, state, sort, limit)


def target(query: Query) -> str:
    """Write the address of the page with this query."""
    said = {
        "q": query.text,
        "state": str(query.state or ""),
        "sort": "" if query.sort is Sort.ATTENTION else str(query.sort),
        "limit": "" if query.limit == DEFAULT_LIMIT else str(query.limit),
    }
    pairs = {name: value for name, value in said.items() if value}
    return f"/?{urlencode(pairs)}" if pairs else "/"
