"""The description of the admin interface for programs, OpenAPI 3.1, made from the table of its routes. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from proxy import __version__
from proxy.keeper.admin_access import Right
from proxy.keeper.admin_answers import SHAPES
from proxy.keeper.admin_routes import JSON, ROUTES, Answer, Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_REF = "#/components/schemas/{model}"
_KEY = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "SHA-1 over the DER of the certificate, in hexadecimal: its key in the stapling cache",
    "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{40}$"},
}
_BY_TCP = {
    400: Answer("by TCP: no Host header, or two", "Mistake"),
    401: Answer("by TCP: the token is needed, or wrong", "Mistake"),
    403: Answer("by TCP: not from this address, not for this web page, or not by this door", "Mistake"),
    415: Answer("by TCP: not the Content-Type of this order", "Mistake"),
}
_REFUSALS: Mapping[Right, Iterable[int]] = {
    Right.ALIVE: (400, 403),
    Right.SEE: (400, 401, 403),
    Right.ORDER: (400, 401, 403, 415),
    Right.RULE: (400, 401, 403),
}


def description() -> dict[str, object]:
    """Write it, as JSON has it."""
    paths: dict[str, dict[str, object]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stapleproxy",
            "version": __version__,
            "summary": "How stapling stands, and orders to it",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        # A Unix socket asks for nothing, and neither does loopback without a token.
        "security": [{"bearer": []}, {"basic": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**_schemas(), "Description": {"type": "object", "title": "Description"}},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "what admin.token_file holds"},
                "basic": {"type": "http", "scheme": "basic", "description": "the same as password, with any user name"},
            },
        },
    }


def _schemas() -> dict[str, object]:
    adapters = [(shape.__name__, "serialization", TypeAdapter(shape)) for shape in SHAPES]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=_REF)  # type: ignore[arg-type]  # invariant in its input
    schemas: dict[str, object] = found["$defs"]
    return schemas


def _operation(route: Route) -> dict[str, object]:
    refusals = {status: _BY_TCP[status] for status in _REFUSALS[route.right]}
    operation: dict[str, object] = {
        "operationId": route.name,
        "summary": route.meaning.partition(".")[0],
        "description": route.meaning,
        "responses": {str(status): _answer(each) for status, each in sorted({**refusals, **route.answers}.items())},
    }
    parameters = [*([_KEY] if "{key}" in route.path else []), *map(_parameter, route.query)]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {
            "required": True,
            "description": route.body,
            "content": {route.wanted_type: {}},
        }
    return operation


def _answer(answer: Answer) -> dict[str, object]:
    content: dict[str, object] = {"schema": {"$ref": _REF.format(model=answer.schema)}} if answer.schema else {}
    return {"description": answer.meaning, "content": {answer.media_type if not answer.schema else JSON: content}}


def _parameter(parameter: Parameter) -> dict[str, object]:
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.meaning,
        "schema": dict(parameter.schema),
    }
