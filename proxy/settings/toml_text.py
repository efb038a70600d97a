"""Writes plain data as TOML. PURE."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterator

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, object], remarks: Mapping[str, str]) -> str:
    """Write a document. A remark, by key path such as ``site[0]``, stands above the header of its table.

    Raises ValueError for text that is no Unicode, which TOML cannot hold.
    """
    return "\n".join(_table(data, (), "", remarks)).lstrip("\n") + "\n"


def _table(table: Mapping[str, object], keys: tuple[str, ...], path: str, remarks: Mapping[str, str]) -> Iterator[str]:
    """Write a table's values, and then the tables in it: behind a header a value would belong to that."""
    for key, value in table.items():
        if not (isinstance(value, Mapping) or _is_array_of_tables(value)):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        header = (*keys, key)
        name, here = ".".join(map(_key, header)), f"{path}.{key}".removeprefix(".")
        if isinstance(value, Mapping):
            yield from _headed(f"[{name}]", value, header, here, remarks)
        elif _is_array_of_tables(value):
            for number, each in enumerate(value):
                yield from _headed(f"[[{name}]]", each, header, f"{here}[{number}]", remarks)


def _headed(
    title: str, table: Mapping[str, object], keys: tuple[str, ...], path: str, remarks: Mapping[str, str]
) -> Iterator[str]:
    yield ""
    if path in remarks:
        yield f"# {remarks[path]}"
    yield title
    yield from _table(table, keys, path, remarks)


def _is_array_of_tables(value: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            value.encode()  # UnicodeEncodeError is a ValueError
            # JSON escapes as TOML does, but leaves DEL as it is.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            pairs = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case Sequence():
            return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no {type(value).__name__}")
