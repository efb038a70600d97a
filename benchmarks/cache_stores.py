"""The stores that are compared, each filled with the same responses and read by processes of its own.

Each is read in the quickest way that it documents, and durability, which ours does not promise either, is off.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import proxy
from proxy.cache.layout import MIN_SIZE_BYTES, CacheArgument
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

Get = Callable[[bytes], bytes | None]
Put = Callable[[bytes, bytes], object]

SERVED_FOR_S = 86_400.0
LMDB_MAP_BYTES = 1 << 31
REDIS_READY_WITHIN_S = 10.0
POLL_INTERVAL_S = 0.01


class MissingError(Exception):
    """A peer is not installed."""


@dataclass(frozen=True, slots=True)
class Store:
    """`reader` and `writer` are called in the process that is to read or write."""

    version: str
    reader: Callable[[int], Get]
    writer: Callable[[], Put]


Start = Callable[[Path, "Mapping[bytes, bytes]"], AbstractContextManager[Store]]
"""(folder of its own, what it shall hold) -> the store."""


@contextlib.contextmanager
def segment_with(entries: Mapping[bytes, bytes]) -> Iterator[Segment]:
    """Make a cache that holds them all: its size counts 1,520 bytes for each, and subcaches do not fill evenly."""
    size_bytes = MIN_SIZE_BYTES
    while True:
        segment = Segment.create(CacheArgument("", size_bytes))
        room = segment.geometry.data_bytes_per_subcache * segment.geometry.subcaches
        if room > 1.2 * sum(map(len, entries.values())) and _filled(segment, entries):
            break
        segment.close()
        size_bytes *= 2
    try:
        yield segment
    finally:
        segment.close()


def _filled(segment: Segment, entries: Mapping[bytes, bytes]) -> bool:
    writer, now = CacheWriter(segment), time.time()
    for number, (key, response) in enumerate(entries.items()):
        writer.put(key, response, now + SERVED_FOR_S, now + number * 1e-6)
    return len(writer.entries()) == len(entries)


def through_first_level(segment: Segment, number: int = 0) -> Get:
    """Read as the handshake does."""
    get, clock = CacheReader(segment, number).get, time.time
    return lambda key: get(key, clock())


def through_shared_memory(segment: Segment, number: int = 0) -> Get:
    """Read without the copies of one's own, so that the memory is read and the sum checked each time."""
    reader = CacheReader(segment, number)
    get, forget, clock = reader.get, reader._held.clear, time.time  # noqa: SLF001  nothing else needs to forget

    def read(key: bytes) -> bytes | None:
        forget()
        return get(key, clock())

    return read


@contextlib.contextmanager
def ours(_folder: Path, entries: Mapping[bytes, bytes]) -> Iterator[Store]:
    with segment_with(entries) as segment:

        def writer() -> Put:
            put = CacheWriter(segment).put
            return lambda key, value: put(key, value, time.time() + SERVED_FOR_S, time.time())

        yield Store(proxy.__version__, partial(through_first_level, segment), writer)


@contextlib.contextmanager
def manager_dict(_folder: Path, entries: Mapping[bytes, bytes]) -> Iterator[Store]:
    with multiprocessing.get_context("fork").Manager() as manager:
        shared = manager.dict(entries)
        yield Store("of this Python", lambda _number: shared.get, lambda: shared.__setitem__)


@contextlib.contextmanager
def diskcache(folder: Path, entries: Mapping[bytes, bytes]) -> Iterator[Store]:
    module = _module("diskcache")
    cache = module.Cache(str(folder))
    with cache.transact():
        for key, value in entries.items():
            cache.set(key, value)
    cache.close()
    yield Store(
        version("diskcache"),
        lambda _number: module.Cache(str(folder)).get,
        lambda: module.Cache(str(folder)).set,
    )


@contextlib.contextmanager
def lmdb(folder: Path, entries: Mapping[bytes, bytes]) -> Iterator[Store]:
    module = _module("lmdb")

    def environment(**more: bool) -> Any:
        return module.open(str(folder), map_size=LMDB_MAP_BYTES, sync=False, metasync=False, readahead=False, **more)

    def reader(_number: int) -> Get:
        begin = environment(readonly=True).begin

        def get(key: bytes) -> bytes | None:
            transaction = begin()  # a `with` costs a tenth of a microsecond more
            value: bytes | None = transaction.get(key)
            transaction.abort()
            return value

        return get

    def writer() -> Put:
        begin = environment().begin

        def put(key: bytes, value: bytes) -> None:
            with begin(write=True) as transaction:
                transaction.put(key, value)

        return put

    filling = environment()
    with filling.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    filling.close()
    yield Store(version("lmdb"), reader, writer)


@contextlib.contextmanager
def redis(folder: Path, entries: Mapping[bytes, bytes]) -> Iterator[Store]:
    module = _module("redis")
    program = shutil.which("redis-server")
    if program is None:
        raise MissingError("redis-server is not installed; on Debian: apt install redis-server")
    path = folder / "socket"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        try:
            give_up_at = time.monotonic() + REDIS_READY_WITHIN_S
            while not path.exists():
                if server.poll() is not None or time.monotonic() > give_up_at:
                    raise MissingError("redis-server does not start")
                time.sleep(POLL_INTERVAL_S)

            def client() -> Any:
                return module.Redis(unix_socket_path=str(path))

            filling = client()
            for key, value in entries.items():
                filling.set(key, value)
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            server_version = said.split("v=", 1)[1].split()[0]
            yield Store(
                f"{server_version}, redis-py {version('redis')}, Unix socket",
                lambda _number: client().get,
                lambda: client().set,
            )
        finally:
            server.terminate()


STARTS: dict[str, Start] = {
    "stapleproxy": ours,
    "Manager().dict()": manager_dict,
    "diskcache": diskcache,
    "lmdb": lmdb,
    "Redis": redis,
}


def _module(name: str) -> ModuleType:
    try:
        version(name)
        return importlib.import_module(name)
    except (ImportError, PackageNotFoundError):
        raise MissingError(f"the package {name} is not installed: pip install {name}") from None
