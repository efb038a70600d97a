"""What a site changes in the heads that pass: headers, Host, paths, and the addresses that its backends name."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from proxy.http.fields import DROP, FORWARDED, HOST, ONCE, PASS, REQUEST_FIELDS, RESPONSE_FIELDS, as_gateways_read
from proxy.settings.base import Model
from proxy.settings.upstreams import Prefix
from proxy.settings.values import NOT_REPEATED, Flag

Action = Literal["set", "append", "add", "unset"]

_MAX_EDITS = 64
_MAX_VALUE_CHARACTERS = 4096
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# Nothing that two readers could read differently, and no query, fragment or user: see `Prefix`.
_URL = re.compile(
    r"(?i:https?://(?:\[[0-9A-F:.]+\]|[A-Z0-9._-]+)(?::[0-9]{1,5})?)?(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?"
)


def _mistake(what: str) -> PydanticCustomError:
    return PydanticCustomError(NOT_REPEATED, "{what}", {"what": what})


def _check_value(text: str) -> str:
    # No line break and no other control character: a value is a part of one line.
    if len(text) > _MAX_VALUE_CHARACTERS or not all(each == "\t" or each.isprintable() for each in text):
        raise _mistake(f"must be one line of at most {_MAX_VALUE_CHARACTERS} printable characters")
    return text.strip(" \t")


def _check_url(text: str) -> str:
    if not text or not _URL.fullmatch(text):
        raise ValueError('must be the beginning of a URL, such as "http://127.0.0.1:8000/", or of a path')
    return text


class HeaderEdit(Model):
    """One change of a head; made in the order in which they stand."""

    action: Action = Field(
        "set", description="one line instead of all there are; to the end of the last; one line more; or none"
    )
    name: str = Field(strict=True, description="of the header")
    value: Annotated[str, AfterValidator(_check_value)] = Field(
        "", strict=True, validate_default=True, description="as it is written; nothing is put in place of a part of it"
    )

    @field_validator("name")
    @classmethod
    def _may_be_edited(cls, name: str, info: ValidationInfo) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError('must be the name of a header, such as "X-Frame-Options"')
        kind = cls._kind(name.encode("ascii"))
        action = info.data.get("action")  # missing when it is wrong itself
        if kind == ONCE and action in {"append", "add"}:
            raise _mistake(f'{name} is no list and may be there only once: use "set"')
        if kind == FORWARDED and "_" in name:
            raise _mistake(f'write "-" instead of "_" in {name}, where it is looked for')
        # What is always dropped may well be unset: many configurations do it with "Proxy" (CVE-2016-5385).
        if kind not in {PASS, ONCE, FORWARDED} and not (kind == DROP and action == "unset"):
            hint = ": see preserve_host" if kind == HOST else ""
            raise _mistake(f"{name} cannot be edited: it is for one connection only, or ours to write{hint}")
        return name

    @staticmethod
    def _kind(name: bytes) -> int:
        raise NotImplementedError

    @field_validator("value")
    @classmethod
    def _fits_the_action(cls, value: str, info: ValidationInfo) -> str:
        action = info.data.get("action")
        if action == "unset" and value:
            raise _mistake('"unset" takes no value: leave it out')
        if action == "append" and not value:
            raise _mistake('is missing: what "append" puts behind the rest')
        return value


class RequestHeaderEdit(HeaderEdit):
    """A change of what goes to the backend."""

    @staticmethod
    def _kind(name: bytes) -> int:
        return REQUEST_FIELDS.kind(as_gateways_read(name))


class ResponseHeaderEdit(HeaderEdit):
    """A change of what goes to the client."""

    @staticmethod
    def _kind(name: bytes) -> int:
        return RESPONSE_FIELDS.kind(name.lower())


class LocationRewrite(Model):
    """Where clients find what a backend names by its own address."""

    url: Annotated[str, Field(strict=True), AfterValidator(_check_url)] = Field(
        description="Location, Content-Location and URI that begin with this; a path is looked for behind any host"
    )
    path: Prefix = Field(description="this in its place, on the host that the client asked")


class SiteRewriting(Model):
    """The part of a site that is about rewriting."""

    preserve_host: Flag = Field(True, description="the backend gets the client's Host; or else its own host and port")
    upstream_path: Prefix | None = Field(
        None, description="the backend gets this in place of the first / of each path; unset: paths go on as they are"
    )
    request_header: tuple[RequestHeaderEdit, ...] = Field((), max_length=_MAX_EDITS, description="one table each")
    response_header: tuple[ResponseHeaderEdit, ...] = Field((), max_length=_MAX_EDITS, description="one table each")
    location_rewrite: tuple[LocationRewrite, ...] = Field((), max_length=_MAX_EDITS, description="one table each")
