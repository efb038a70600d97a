"""From plain data to `Settings`, with every mistake told in the words of who wrote the data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from proxy.accesslog.formats import STDOUT
from proxy.cache.layout import parse_argument
from proxy.errors import ConfigError, Problem
from proxy.settings.caching import REDIS_FILES, is_redis
from proxy.settings.model import CertificateFiles, IssuerStapling, Settings, Site, TlsSettings
from proxy.settings.values import NOT_REPEATED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from proxy.settings.modes import ClientCertificates

M = TypeVar("M", bound=BaseModel)

_MAX_SHOWN_CHARACTERS = 60
_MAX_CHARACTERS = 500
"""Of a whole sentence: a key may be as long as the file."""
_SECRET = re.compile(r"key|pass|secret|token|credential", re.IGNORECASE)
"""Values of keys so named are not repeated: somebody may have put the secret itself there."""

_EXPECTED = {
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "path_type": "must be the name of a file",
    "string_type": "must be text in quotes",
}


@dataclass(frozen=True, slots=True)
class Right:
    """What is right in a configuration that may have mistakes: there may be more of them in the files that it names."""

    sites: dict[int, Site]
    """Those without a mistake, by their index."""
    files: dict[str, CertificateFiles]
    """The certificates of the other sites, by key path."""
    tls: TlsSettings | None
    issuers: dict[int, IssuerStapling]
    """Those without a mistake, by their index."""
    is_as_in_apache: bool
    """The profile is one of Apache's."""


def build(data: Mapping[str, object], *, folder: Path) -> Settings:
    """Check everything; relative paths are relative to `folder`. ConfigError has all mistakes, each at its key path."""
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        told = (each for each in error.errors(include_url=False) if not (each["type"] == "too_short" and each["input"]))
        # Left out: a list is too short for pydantic also when it has entries, but wrong ones, each of them told.
        raise ConfigError(*map(_problem, told)) from None
    return _with_absolute_paths(settings, folder)


def what_is_right(data: Mapping[str, object], *, folder: Path) -> Right:
    """Find in data with mistakes what can be looked at all the same; relative paths are relative to `folder`."""
    sites: dict[int, Site] = {}
    files: dict[str, CertificateFiles] = {}
    for index, table in enumerate(_entries(data.get("site"))):
        try:
            sites[index] = _absolute_site(Site.model_validate(table), folder)
        except ValidationError:
            certificates = _entries(table.get("certificate")) if isinstance(table, dict) else ()
            for number, each in enumerate(certificates):
                if found := _without_mistakes(CertificateFiles, each):
                    files[f"site[{index}].certificate[{number}]"] = _absolute_files(found, folder)
    stapling = data.get("stapling")
    issuers: dict[int, IssuerStapling] = {}
    for index, table in enumerate(_entries(stapling.get("issuer")) if isinstance(stapling, dict) else ()):
        if right := _without_mistakes(IssuerStapling, table):
            issuers[index] = _absolute_issuer(right, folder)
    is_as_in_apache = isinstance(stapling, dict) and stapling.get("profile", "prefetch") != "prefetch"
    tls = _without_mistakes(TlsSettings, data.get("tls", {}))
    return Right(sites, files, tls, issuers, is_as_in_apache=is_as_in_apache)


def range_text(field: FieldInfo) -> str:
    """Say which numbers a setting takes, such as ``from 1 to 256``; empty for other settings."""
    bounds = {
        name: getattr(item, name) for item in field.metadata for name in ("gt", "ge", "le") if hasattr(item, name)
    }
    if "ge" in bounds and "le" in bounds:
        return f"from {bounds['ge']} to {bounds['le']}"
    return f"above 0 and at most {bounds['le']}" if "le" in bounds else ""


def all_fields(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """List every setting that is no table, by its dotted path without indexes."""
    for name, field in model.model_fields.items():
        table = table_of(field)
        if table is None:
            yield prefix + name, field
        else:
            yield from all_fields(table, f"{prefix}{name}.")


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """Give the model of a table or of each in an array of tables; None for a plain value."""
    kind = field.annotation
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _entries(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _without_mistakes(model: type[M], table: object) -> M | None:
    """Read a table without the keys that are wrong; None when that leaves too little."""
    if not isinstance(table, dict):
        return None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        wrong = {each["loc"][0] for each in error.errors(include_url=False)}
    try:
        return model.model_validate({key: value for key, value in table.items() if key not in wrong})
    except ValidationError:
        return None


def _problem(details: ErrorDetails) -> Problem:
    where, what = _key_path(details["loc"]), _what(details)
    return Problem(*("".join(c if c.isprintable() else "?" for c in text)[:_MAX_CHARACTERS] for text in (where, what)))


def _what(details: ErrorDetails) -> str:
    location, found = details["loc"], details["input"]
    context = details.get("ctx", {})
    keys = [part for part in location if isinstance(part, str)]
    path = ".".join(keys)
    fields = dict(all_fields())
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key{_suggestion(keys)}"
        case "missing":
            return f"is missing: {fields[path].description}" if path in fields else f"is missing: add [[{path}]]"
        case kind if kind == NOT_REPEATED:
            return details["msg"]
        case "value_error":
            expected = str(context["error"])
        case "literal_error":
            expected = f"must be {context['expected']}".replace("'", '"')
        case "greater_than" | "greater_than_equal" | "less_than_equal":
            expected = f"must be {range_text(fields[path])}"
        case "too_short":
            expected = "must have at least one entry"
        case "too_long":
            expected = f"must have at most {context['max_length']} entries"
        case "tuple_type":
            expected = "must be a list: [...]" if path in fields else f"is a list of tables: write [[{path}]]"
        case "model_type":
            expected = f"must be a table: {_header(path)}"
        case kind:
            expected = _EXPECTED.get(kind, details["msg"])
    shown = _shown(found, secret=bool(keys and _SECRET.search(keys[-1])))
    return f"{expected}, found {shown}" if shown else expected


def _key_path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _suggestion(keys: list[str]) -> str:
    """Say what was meant: the same key, but of another table, or one of this table that looks like it."""
    *table, wrong = keys
    here: type[BaseModel] = Settings
    for name in table:
        here = table_of(here.model_fields[name]) or here
    elsewhere = [path for path, _ in all_fields() if path.rpartition(".")[2] == wrong]
    if elsewhere:
        return f": it belongs to {' or '.join(map(_place, elsewhere))}"
    near = get_close_matches(wrong, here.model_fields, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _place(path: str) -> str:
    table = path.rpartition(".")[0]
    return _header(table) if table else "the top of the file, before the first [table]"


def _header(path: str) -> str:
    """Write a table's header as TOML does, with two brackets where there may be many."""
    here: type[BaseModel] = Settings
    is_array = False
    for name in path.split("."):
        field = here.model_fields[name]
        here, is_array = table_of(field) or here, get_origin(field.annotation) is tuple
    return f"[[{path}]]" if is_array else f"[{path}]"


def _shown(value: object, *, secret: bool) -> str:
    """Name a value of the file on one line; empty where the value is not worth telling or is nobody's business."""
    match value:
        case dict():
            return "a table"
        case list():
            return "a list" if value else "none"
        case date() | time():
            return "a date or a time"
        case str() if secret or "-----BEGIN" in value or "@" in value:
            return ""
        case bool() | str():
            text = json.dumps(value, ensure_ascii=False)  # as TOML writes them; control characters escaped
        case int() if value.bit_length() > 64:
            return "a number far out of range"
        case int() | float() if not secret:
            text = str(value)
        case _:
            return ""
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[:_MAX_SHOWN_CHARACTERS] + "…"


def _absolute_files(files: CertificateFiles, folder: Path) -> CertificateFiles:
    named = {name: path for name in CertificateFiles.model_fields if (path := getattr(files, name))}
    return files.model_copy(update={name: folder / path for name, path in named.items()})


def _absolute_site(site: Site, folder: Path) -> Site:
    """Copy only what changes: of thousands of sites the tables that say nothing are one and the same."""
    update: dict[str, object] = {"certificate": tuple(_absolute_files(each, folder) for each in site.certificate)}
    if site.upstream_ca:
        update["upstream_ca"] = folder / site.upstream_ca
    if site.client_certificate.ca or site.client_certificate.crl:
        update["client_certificate"] = _absolute_client_certificates(site.client_certificate, folder)
    if site.stapling.issuers:
        update["stapling"] = site.stapling.model_copy(update={"issuers": folder / site.stapling.issuers})
    return site.model_copy(update=update)


def _absolute_client_certificates(settings: ClientCertificates, folder: Path) -> ClientCertificates:
    files = {"ca": settings.ca and folder / settings.ca, "crl": settings.crl and folder / settings.crl}
    return settings.model_copy(update=files)


def _absolute_issuer(issuer: IssuerStapling, folder: Path) -> IssuerStapling:
    return issuer.model_copy(update={"certificate": folder / issuer.certificate})


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    stapling, cache = settings.stapling, parse_argument(settings.stapling.local_cache)
    # The size is always written: a folder's name that ends in ")" would else be read as one.
    local = f"shmcb:{folder / cache.path}({cache.size_bytes})" if cache.path else stapling.local_cache
    if is_redis(stapling.cache):
        redis = stapling.redis
        files = {name: getattr(redis, name) for name in REDIS_FILES}
        changed = {"local_cache": local, **{name: file and folder / file for name, file in files.items()}}
        stapling = stapling.model_copy(update={"redis": redis.model_copy(update=changed)})
    else:
        stapling = stapling.model_copy(update={"cache": local})
    issuers = tuple(_absolute_issuer(each, folder) for each in settings.stapling.issuer)
    admin, acme_folder = settings.admin, settings.redirect.acme_folder
    admin_files = {
        "socket": admin.socket and folder / admin.socket,
        "token_file": admin.token_file and folder / admin.token_file,
    }
    access_log = settings.access_log
    if access_log.path and str(access_log.path) != STDOUT:
        access_log = access_log.model_copy(update={"path": folder / access_log.path})
    return settings.model_copy(
        update={
            "stapling": stapling.model_copy(update={"issuer": issuers}),
            "admin": admin.model_copy(update=admin_files),
            "redirect": settings.redirect.model_copy(update={"acme_folder": acme_folder and folder / acme_folder}),
            "access_log": access_log,
            "site": tuple(_absolute_site(each, folder) for each in settings.site),
        }
    )
