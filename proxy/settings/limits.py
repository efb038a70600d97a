"""What one worker takes on, and what it writes down of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from proxy.accesslog.formats import FormatError, compile_format
from proxy.settings.base import Model
from proxy.settings.values import NOT_REPEATED, FileName, Whole


def _check_format(text: str) -> str:
    try:
        compile_format(text, datetime.fromtimestamp)
    except FormatError as error:
        # Not repeated: a format is long, and the sentence names what is wrong in it.
        raise PydanticCustomError(NOT_REPEATED, "{why}", {"why": str(error)}) from None
    return text


LogFormat = Annotated[str, Field(strict=True), AfterValidator(_check_format)]


class LimitSettings(Model):
    """How many clients each worker serves at once."""

    max_connections: Whole = Field(
        16_384, ge=1, le=1_048_576, description="client connections per worker; more are closed as soon as they come"
    )
    max_connections_per_client: Whole = Field(
        0,
        ge=0,
        le=1_048_576,
        description="of one IPv4 address or IPv6 /64 per worker; more are closed as soon as they come; 0: any number",
    )


class AccessLogSettings(Model):
    """One line a request, and in mode tcp one a connection."""

    path: FileName | None = Field(
        None, description="file to append to, opened again at SIGUSR1; - is standard output; unset: no access log"
    )
    format: LogFormat = Field(
        "combined", description="common, combined, json, or a format with the fields of nginx or Apache"
    )
