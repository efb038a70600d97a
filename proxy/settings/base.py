"""What all tables of the configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

from proxy.settings.values import NOT_REPEATED


class Model(BaseModel):
    """A table: frozen, without keys that are not known, and its values are not repeated in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def ordered(longest: float, info: ValidationInfo) -> float:
    """Refuse a setting named so with "max" that is below the one with "min"."""
    name = str(info.field_name).replace("max", "min")
    least = info.data.get(name, 0)  # missing when it is wrong itself
    if least > longest:
        said = {"name": name, "least": f"{least:.10g}", "longest": f"{longest:.10g}"}
        raise PydanticCustomError(NOT_REPEATED, "must not be below {name}: {longest} is below {least}", said)
    return longest
