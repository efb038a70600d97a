"""`Header` and `RequestHeader`. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from proxy.settings.rewriting import RequestHeaderEdit, ResponseHeaderEdit

if TYPE_CHECKING:
    from proxy.settings.httpd.block import Server
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive

_ACTIONS = {"set", "append", "add", "unset"}
_KNOWN = {*_ACTIONS, "setifempty", "merge", "echo", "note", "edit", "edit*"}
_WRONG_ACTION = (
    "first argument must be 'add', 'set', 'setifempty', 'append', 'merge', 'unset', 'echo', 'note', 'edit', or 'edit*'."
)
_FIELD = re.compile(r"%(?:%|\{[^}]*\}[A-Za-z]|[A-Za-z])?")
_MAX_EDITS = 64


def table(server: Server, told: Told) -> dict[str, object]:
    """Make the edits of a site's requests and answers, in the order of the file."""
    values: dict[str, object] = {}
    for name, key in (("requestheader", "request_header"), ("header", "response_header")):
        edits = [edit for each in server.all(name) if (edit := _edit(each, told, is_request=key[2] == "q"))]
        if len(edits) > _MAX_EDITS:
            told.mistake(server.all(name)[_MAX_EDITS].where, f"at most {_MAX_EDITS} of these are taken")
        if edits:
            values[key] = edits[:_MAX_EDITS]
    return values


def _edit(directive: Directive, told: Told, *, is_request: bool) -> dict[str, object] | None:
    words = list(directive.arguments)
    if not is_request and words and words[0].lower() in {"always", "onsuccess"}:
        words.pop(0)
    action = words[0].lower() if words else ""
    if action not in _KNOWN:
        told.mistake(directive.where, _WRONG_ACTION)
        return None
    if is_request and action == "echo":
        told.mistake(directive.where, "Header echo only valid on Header directives")
        return None
    takes_value = action not in {"unset", "echo"}
    if len(words) < (3 if takes_value else 2):
        needed = "three" if takes_value else "two"
        told.mistake(directive.where, f"{directive.name} requires {needed} arguments")
        return None
    name, value, further = words[1].removesuffix(":"), words[2] if takes_value else "", words[3 if takes_value else 2 :]
    if action not in _ACTIONS:
        told.unlike(directive.where, f"{directive.name} {action} is not done: there are set, append, add and unset")
        return None
    # "unset … early" is how Proxy is kept from CGI programs (CVE-2016-5385); when it goes makes no difference here.
    if further and not (action == "unset" and further == ["early"]):
        condition = further[0]
        if condition != "early" and not condition.startswith(("env=", "expr=")):
            told.mistake(directive.where, f"Unknown parameter: {condition}")
        else:
            told.unlike(directive.where, f"{directive.name} {name}: {condition.partition('=')[0]} is not done")
        return None
    plain = _value(directive, value, told)
    return None if plain is None else _checked(directive, {"action": action, "name": name, "value": plain}, told)


def _value(directive: Directive, text: str, told: Told) -> str | None:
    """Put %% to %; what would be put in place of another field is nothing that is known here."""
    for field in _FIELD.findall(text):
        if field == "%":
            told.mistake(directive.where, "Unrecognized header format %")
            return None
        if field != "%%":
            told.unlike(directive.where, f"{directive.name}: {field} in a value is not done")
            return None
    return text.replace("%%", "%")


def _checked(directive: Directive, edit: dict[str, object], told: Told) -> dict[str, object] | None:
    model = RequestHeaderEdit if directive.name.lower() == "requestheader" else ResponseHeaderEdit
    try:
        model.model_validate(edit)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = first.get("ctx", {}).get("error", first["msg"])
        told.unlike(directive.where, f"{directive.name} {edit['name']}: {said}")
        return None
    if not edit["value"]:
        del edit["value"]
    return edit
