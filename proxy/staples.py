"""What the cache holds, for people: a row for each response, found by name. Pure: entries in, rows and text out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.x509 import ocsp

from proxy.cache.layout import geometry
from proxy.cache.room import TYPICAL_RESPONSE_BYTES, count_fitting, size_for_all
from proxy.ocsp.signer import PARSE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.cache.entries import Entry
    from proxy.cache.layout import CacheArgument, Eviction

NOT_HELD = "not held"
UNREADABLE = "unreadable"
LEAST_KEY_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Known:
    """What a configuration tells about a certificate."""

    names: tuple[str, ...]
    label: str
    serial: str


@dataclass(frozen=True, slots=True)
class Row:
    """One response of the cache; or a configured certificate that has none there, with nothing but the first four."""

    names: tuple[str, ...]
    """None without a configuration: a response names its certificate by number only."""
    certificate: str
    """The configuration's word for it: file and kind of key."""
    serial: str
    key: str
    """SHA-1 of the certificate, by which the cache finds it."""
    status: str = NOT_HELD
    this_update: datetime | None = None
    next_update: datetime | None = None
    serve_until: datetime | None = None
    next_refresh: datetime | None = None
    last_stapled: datetime | None = None
    size: int = 0
    hits: int = 0
    """More or less, see `cache.entries.Entry`."""
    response: bytes = b""

    def to_json(self) -> dict[str, object]:
        fields = {name: _plain(value) for name, value in asdict(self).items()}
        del fields["response"]
        return fields


def rows(entries: Iterable[Entry], known: Mapping[bytes, Known]) -> list[Row]:
    """Make the rows: responses of known certificates, in their order, those that have none, then all others."""
    held = {entry.key: entry for entry in entries}
    configured = [_row(key, held.get(key), each) for key, each in known.items()]
    others = [_row(key, entry, None) for key, entry in held.items() if key not in known]
    return [*configured, *sorted(others, key=lambda row: row.key)]


def find(all_rows: Iterable[Row], name: str, *, held: bool = True) -> list[Row]:
    """Find by a server name, by the serial number, or by the key, of which the beginning will do.

    `held`: only responses, not the certificates that have none.
    """
    wanted = name.lower().rstrip(".")
    names = {wanted, f"*.{wanted.partition('.')[2]}"}
    digits = wanted.replace(":", "")
    return [
        row
        for row in all_rows
        if (not held or row.status != NOT_HELD)
        and (
            not names.isdisjoint(row.names)
            or (row.serial and digits.lstrip("0") == row.serial.lstrip("0"))
            or (len(digits) >= LEAST_KEY_DIGITS and row.key.startswith(digits))
        )
    ]


@dataclass(frozen=True, slots=True)
class Room:
    """How many responses of the configured certificates a cache can hold at a time."""

    fitting: int
    count: int
    assumed: int
    """Of how many the size is not known, and taken as the typical one."""
    size_for_all: int | None
    """The least size, from the cache's own on, that would do for all; None: none does."""

    def __str__(self) -> str:
        if not self.count:
            return "no certificate's responses to hold"
        responses = f"{self.count} responses" if self.count > 1 else "1 response"
        all_or_some = f"{self.fitting} of" if self.fitting < self.count else "all" if self.count > 1 else "the"
        if not self.assumed:
            return f"room for {all_or_some} {responses}"
        taken = "" if self.assumed == self.count else f", {self.assumed} of them taken as"
        return f"room for {all_or_some} {responses}{taken or ' of'} about {TYPICAL_RESPONSE_BYTES // 1024} KiB"


def room_for(keys: Iterable[bytes], held: Iterable[Entry], size_bytes: int, eviction: Eviction) -> Room:
    """Reckon with the sizes of what is held, and for what is not, with the typical one."""
    known = {entry.key: len(entry.response) for entry in held}
    lengths = {key: known.get(key, TYPICAL_RESPONSE_BYTES) for key in keys}
    return Room(
        count_fitting(lengths, geometry(size_bytes), eviction),
        len(lengths),
        len(lengths.keys() - known),
        size_for_all(lengths, eviction, size_bytes),
    )


def cache_line(argument: CacheArgument, what: str) -> str:
    """Say something about a cache, for people."""
    return f"cache {argument.path or 'in memory'}, {argument.size_bytes} bytes: {what}"


def _row(key: bytes, entry: Entry | None, known: Known | None) -> Row:
    names, label = (known.names, known.label) if known else ((), "")
    serial = known.serial if known else ""
    if entry is None:
        return Row(names, label, serial, key.hex())
    # In the profiles that are as Apache an octet stands before the response: 1 if it was right when it was stored.
    response = entry.response[1:] if entry.response[:1] in {b"\0", b"\1"} else entry.response
    this_update = next_update = None
    try:
        single = _single(response, serial)
        status, this_update, next_update = (
            single.certificate_status.name.lower(),
            single.this_update_utc,
            single.next_update_utc,
        )
        serial = serial or f"{single.serial_number:x}"
    except PARSE_ERRORS:  # the checksum is right, so this is what somebody stored
        status = UNREADABLE
    return Row(
        names,
        label,
        serial,
        key.hex(),
        status,
        this_update,
        next_update,
        moment(entry.serve_until_s),
        moment(entry.refresh_at_s),
        moment(entry.last_stapled_s),
        len(response),
        entry.hits,
        response,
    )


def _single(der: bytes, serial: str) -> ocsp.OCSPSingleResponse:
    """Give the one for the certificate, where its number is known; else the first."""
    singles = list(ocsp.load_der_ocsp_response(der).responses)
    matching = [single for single in singles if serial and single.serial_number == int(serial, 16)]
    if not singles:
        raise ValueError("it is about no certificate")
    return (matching or singles)[0]


def moment(seconds: float | None) -> datetime | None:
    """Give a time of the cache as a date; None where there is none, or a number that cannot be one."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value
