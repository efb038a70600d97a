"""Reports as one HTML page that needs neither network nor script: what all of them have in common. PURE.

Light and dark follow the reader's setting.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from proxy.svg import Word, css_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1d20; --faint: #5b6168; --line: #d5d9de;
  --stroke: #00000073; --dot: #1f4e9c; LIGHT }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e7e9ec; --faint: #a3a9b1; --line: #3b4047;
  --stroke: #ffffff73; --dot: #9cc2ff; DARK } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin: 2.5rem 0 .5rem; } figure { margin: 1.5rem 0; }
figcaption, caption { text-align: start; font-weight: 600; padding-bottom: .3rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: end; white-space: nowrap; }
th:first-child, .words td, .words th { text-align: start; } th { font-weight: 600; }
td.zero { color: var(--faint); }
.note { color: var(--faint); } code { font-size: .95em; overflow-wrap: anywhere; }
.plot { display: block; width: 100%; min-width: 40rem; height: auto; }
.plot text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.defs { position: absolute; } .swatch { vertical-align: -1px; }
.axis { stroke: var(--ink); } .grid { stroke: var(--line); }
.stroke { stroke: var(--stroke); stroke-width: 1.4; fill: none; }
.dots { stroke: var(--dot); stroke-linecap: round; fill: none; } .tag { fill: var(--page); opacity: .9; }
"""


def document(
    title: str,
    body: Sequence[str],
    fills: Mapping[Word, tuple[str, str]],
    colours: Mapping[str, tuple[str, str]],
    more: str,
) -> str:
    """The whole page. `fills`: what bands are filled with, by word, in light and in dark; `colours`: other names of
    colours likewise, for `more`, which is the page's own style.
    """
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_style(fills, colours)}{more}</style>\n</head>\n<body>\n"
    )
    return head + "\n".join(body) + "\n</body>\n</html>\n"


def _style(fills: Mapping[Word, tuple[str, str]], colours: Mapping[str, tuple[str, str]]) -> str:
    named = {css_class(word): both for word, both in fills.items()} | {**colours}

    def variables(which: int) -> str:
        return " ".join(f"--{name}: {both[which]};" for name, both in named.items())

    classes = "\n".join(f".{css_class(word)} {{ fill: var(--{css_class(word)}); }}" for word in fills)
    return _STYLE.replace("LIGHT", variables(0)).replace("DARK", variables(1)) + classes + "\n"
