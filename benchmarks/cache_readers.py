"""Reads per second of several processes at once, with a writer beside them or not."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from cache_stores import Store

_FORK = multiprocessing.get_context("fork")
SLICE = 64
ANSWER_WITHIN_S = 120.0


class ReadingError(Exception):
    """A store did not give what it was filled with, or a process failed."""


@dataclass(frozen=True, slots=True)
class Rates:
    """In a second: of all readers together, and of the writer."""

    reads: float
    writes: float


def measure(store: Store, entries: Mapping[bytes, bytes], *, readers: int, writes_per_s: int, seconds: float) -> Rates:
    """Let the readers run for so long, each over all keys in an order of its own, after one round to warm up."""
    ends = []
    processes = []
    jobs: list[Callable[[Connection], None]] = [
        partial(_read, store=store, entries=entries, number=number, seconds=seconds) for number in range(readers)
    ]
    if writes_per_s:
        jobs.append(partial(_write, store=store, entries=entries, per_s=writes_per_s, seconds=seconds))
    for job in jobs:
        end, other = _FORK.Pipe()
        process = _FORK.Process(target=job, args=(other,), daemon=True)
        process.start()
        other.close()
        ends.append(end)
        processes.append(process)
    try:
        for end in ends:
            _answer(end)
        for end in ends:
            end.send(None)
        rates = [_answer(end) for end in ends]
    finally:
        for process in processes:
            process.join(1.0)
            process.kill()
            process.join()
    return Rates(sum(rates[:readers]), sum(rates[readers:]))


def _answer(end: Connection) -> float:
    if not end.poll(ANSWER_WITHIN_S):
        raise ReadingError("a process did not answer in time")
    try:
        return float(end.recv())
    except EOFError:
        raise ReadingError("a process failed") from None


def _read(end: Connection, store: Store, entries: Mapping[bytes, bytes], number: int, seconds: float) -> None:
    get = store.reader(number)
    keys = list(entries)
    random.Random(number).shuffle(keys)
    for key in keys:
        if get(key) != entries[key]:
            raise ReadingError(f"another response, or none, for {key!r}")
    slices = [keys[at : at + SLICE] for at in range(0, len(keys), SLICE)]
    end.send(0)
    end.recv()
    count, clock = 0, time.perf_counter
    began = clock()
    over = began + seconds
    while (now := clock()) < over:
        for each in slices:
            for key in each:
                if get(key) is None:
                    raise ReadingError(f"no response for {key!r}")
            count += len(each)
            if (now := clock()) >= over:
                break
    end.send(count / (now - began))


def _write(end: Connection, store: Store, entries: Mapping[bytes, bytes], per_s: int, seconds: float) -> None:
    put = store.writer()
    keys = list(entries)
    random.Random(0).shuffle(keys)
    end.send(0)
    end.recv()
    began = time.perf_counter()
    count = 0
    while (spent := time.perf_counter() - began) < seconds:
        if count < spent * per_s:
            put(keys[count % len(keys)], entries[keys[count % len(keys)]])
            count += 1
        else:
            time.sleep(count / per_s - spent + 1e-4)
    end.send(count / spent)
