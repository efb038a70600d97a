"""Writes docs/settings.md from the models: ``python -m proxy.settings.page > docs/settings.md``."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, get_origin

from proxy.settings.build import range_text, table_of
from proxy.settings.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_HEAD = """\
# Every setting

Written by `python -m proxy.settings.page` from the models that read a configuration. A key that is not given has the
value shown here; *unset* has no value until you give one, *required* must be given. Relative file names are relative to
the folder of the file that they stand in.

[reference.toml](reference.md) has the same as a file to copy from, with more about some of them. `stapleproxy check
FILE` finds mistakes.
"""
_UNITS = {"_s": "seconds", "_bytes": "bytes"}


def page() -> str:
    """Give the whole text."""
    return "\n".join([_HEAD, *_tables(Settings, "", is_array=False)])


def _tables(model: type[BaseModel], path: str, *, is_array: bool) -> Iterator[str]:
    """Write a table of the file and then those in it; the whole file is the one without a path."""
    title = f"`[[{path}]]`" if is_array else f"`[{path}]`" if path else "Before the first table"
    inner = {name: table for name, field in model.model_fields.items() if (table := table_of(field))}
    rows = [_row(name, field) for name, field in model.model_fields.items() if name not in inner]
    if rows:
        about = "" if not path else f"{' '.join((model.__doc__ or '').split())}\n"
        yield "\n".join(
            [f"## {title}", "", *([about] if about else []), "| key | default | meaning |", "|---|---|---|"]
        )
        yield "\n".join([*rows, ""])
    for name, table in inner.items():
        repeated = get_origin(model.model_fields[name].annotation) is tuple
        yield from _tables(table, f"{path}.{name}".lstrip("."), is_array=repeated)


def _row(name: str, field: FieldInfo) -> str:
    told = (field.description or "").replace("|", "\\|")
    notes = f" ({'; '.join(_notes(name, field))})" if _notes(name, field) else ""
    return f"| `{name}` | {_default(field)} | {told[:1].upper()}{told[1:]}{notes} |"


def _notes(name: str, field: FieldInfo) -> list[str]:
    """Say in which unit and range a value is, or which values there are."""
    notes = [unit for end, unit in _UNITS.items() if name.endswith(end)]
    if bounds := range_text(field):
        notes.append(bounds)
    kind = str(field.annotation)
    if choices := re.search(r"Literal\[(.*?)\]", kind):
        word = "any of" if "tuple" in kind else "one of"
        notes.append(f"{word} {', '.join(f'`{json.dumps(each)}`' for each in ast.literal_eval(f'[{choices[1]}]'))}")
    return notes


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    if field.default is None:
        return "*unset*"
    default = field.default
    return f"`{json.dumps([str(each) for each in default] if isinstance(default, tuple) else default)}`"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 (what it is for)
