"""Lines and words of an Apache configuration, as Apache takes them apart. PURE.

A line is put together from continued ones, its variables are replaced, and only then is it split into words: so a
variable may stand for several words, or for half of a quoted one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLANKS = " \t\n\v\f\r"
"""What C's isspace() takes for one; Python's str.strip() without argument takes more."""

_QUOTED = {quote: re.compile(rf"{quote}((?:\\[{quote}\\]|[^{quote}])*){quote}?[{BLANKS}]*") for quote in "\"'"}
"""To the closing quote, or to the end of the line when there is none: Apache takes that for one word."""
_BARE = re.compile(rf"([^{BLANKS}]*)[{BLANKS}]*")
_ESCAPED = {quote: re.compile(rf"\\([{quote}\\])") for quote in ("", '"', "'")}
"""A backslash escapes itself everywhere, and the quote in a quoted word; elsewhere it is a backslash."""


def logical_lines(content: str) -> Iterator[tuple[int, str]]:
    """Give the lines that say something, without blanks round them.

    The number is that of the last of continued lines, as Apache counts. Every line can be continued, a comment too, and
    a comment is only what begins a line.
    """
    pending = ""
    physical = content.split("\n")
    for number, line in enumerate(physical, 1):
        is_last = number == len(physical)
        text = line.partition("\0")[0]  # C's end of a string
        if not is_last and (before := text.removesuffix("\r")).endswith("\\"):
            pending += before[:-1]
            continue
        whole, pending = (pending + text).strip(BLANKS), ""
        if whole and not whole.startswith("#"):
            yield number, whole


def replace_variables(text: str, value_of: Callable[[str], str | None], *, longest: int) -> str:
    """Put values in place of ``${NAME}``; what has none stays as it is. Values are not looked at again.

    Raises ValueError when the text would be longer than `longest`: some short lines could fill the memory.
    """
    parts: list[str] = []
    length, end = len(text), 0
    while length <= longest:
        begin = text.find("${", end)
        close = text.find("}", begin) if begin >= 0 else -1
        if close < 0:
            return "".join([*parts, text[end:]])
        whole = text[begin : close + 1]
        value = value_of(whole[2:-1])
        parts += [text[end:begin], whole if value is None else value]
        length += len(parts[-1]) - len(whole)
        end = close + 1
    raise ValueError(f"longer than {longest} characters")


def first_word(text: str) -> tuple[str, str]:
    """Split off one word, without the quotes round it; what follows begins at the next word."""
    text = text.lstrip(BLANKS)
    word, end = _word_at(text, 0)
    return word, text[end:]


def words(text: str) -> tuple[str, ...]:
    """Split into words."""
    text = text.lstrip(BLANKS)
    found, end = [], 0
    while end < len(text):
        word, end = _word_at(text, end)
        found.append(word)
    return tuple(found)


def quoted(word: str) -> str:
    """Write a word so that it is read back as it is."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _word_at(text: str, begin: int) -> tuple[str, int]:
    """Read the word that begins there; say where the next one does."""
    quote = text[begin : begin + 1] if text[begin : begin + 1] in _QUOTED else ""
    found = (_QUOTED[quote] if quote else _BARE).match(text, begin)
    assert found is not None  # one matches whatever begins with its quote, the other anything
    return _ESCAPED[quote].sub(r"\1", found[1]), found.end()
