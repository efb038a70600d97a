"""The same bytes through our proxy, nginx and Apache, and what reaches the backend behind each.

`verdicts` says what is compared, and has the table of what we accept and the others do not. DIFFERENTIAL_SEED chooses
other cases by chance. Bytes that were once a finding are files in seeds/.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from differential import generator, strict, verdicts
from differential.corpus import CASES, NEXT, head
from differential.fronts import APACHE, NGINX, OURS, all_three

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = int(os.environ.get("DIFFERENTIAL_SEED", "1"))
FEW, MANY = 300, 12_000
MAX_TRIES = 500
SEEDS = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "seeds").glob("*.http"))}
# What every proxy must pass on: without these the others could refuse all, and nothing would be compared.
PLAIN = {
    "no body": NEXT,
    "length": head(b"Content-Length: 5") + b"01234" + NEXT,
    "chunked": head(b"Transfer-Encoding: chunked") + b"5\r\n01234\r\n0\r\n\r\n" + NEXT,
    "pipelined": NEXT * 3,
    "HTTP/1.0": head(start=b"GET /first HTTP/1.0"),
}


@pytest.fixture(scope="module")
def fronts(tmp_path_factory):
    with all_three(tmp_path_factory.mktemp("differential")) as running:
        yield running


@pytest.fixture
def play(fronts):
    return lambda data: verdicts.judge(data, {name: front.play(data) for name, front in fronts.items()})


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_what_is_plain_reaches_every_backend_alike(fronts, data):
    expected = [verdicts.Meaning.of(request) for request in strict.read(data).requests]
    for front in fronts.values():
        got = [verdicts.Meaning.of(request) for request in front.play(data).record.requests]
        assert got == expected, front.name


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
def test_what_parsers_disagree_about(play, data):
    """No case reaches our backend framed otherwise than nginx's and Apache's, or than RFC 9112 has it."""
    assert not play(data).findings


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS)
def test_what_was_once_a_finding(play, data):
    assert not play(data).findings


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=(pytest.mark.slow, pytest.mark.timeout(900)))])
def test_cases_by_chance(play, count):
    print(f"DIFFERENTIAL_SEED={SEED}, {count} cases")  # noqa: T201  # so that a failure can be had again
    bad = (data for data in (generator.case(SEED, number) for number in range(count)) if play(data).findings)
    said = [_tell(data, play) for data in islice(bad, 3)]
    assert not said, "\n".join([f"seed {SEED}", *said])


def _tell(data: bytes, play) -> str:
    kind = _kind(play(data).findings)
    data = _shrink(data, lambda smaller: _kind(play(smaller).findings) == kind)
    return f"{data!r}\n    " + "\n    ".join(play(data).findings)


def _kind(findings: tuple[str, ...]) -> list[str]:
    """What begins alike is alike: the bytes come later in the line."""
    return findings[0].split()[:3] if findings else []


def _shrink(data: bytes, is_bad: Callable[[bytes], bool]) -> bytes:
    """Leave out as much as can be left out."""
    for candidate in islice(_smaller(data), MAX_TRIES):
        if len(candidate) < len(data) and is_bad(candidate):
            return _shrink(candidate, is_bad)
    return data


def _smaller(data: bytes) -> Iterator[bytes]:
    size = len(data) // 2
    while size:
        for at in range(0, len(data), size):
            yield data[:at] + data[at + size :]
        size //= 2


@pytest.mark.parametrize("data", (CASES | SEEDS).values(), ids=CASES | SEEDS)
def test_how_the_bytes_are_cut_changes_nothing(fronts, data):
    """Each in a record of its own where it is short; else in pieces."""
    step = 1 if len(data) < 400 else len(data) // 50
    cut = fronts[OURS].play(*(data[at : at + step] for at in range(0, len(data), step)))
    assert not verdicts.judge(data, {OURS: cut}).findings
    whole = fronts[OURS].play(data)
    assert [_unchunked(request) for request in cut.record.requests] == [
        _unchunked(request) for request in whole.record.requests
    ]
    assert cut.statuses == whole.statuses


def _unchunked(request: strict.Request) -> strict.Request:
    """A body goes on as it comes, in other chunks."""
    return replace(request, raw=b"")


@pytest.mark.slow
def test_no_class_is_listed_that_nothing_falls_into(play):
    """An excuse for what is no more would hide the next fault."""
    listed = {(peer, each.name) for each in (*verdicts.REFUSED, *verdicts.OTHERWISE) for peer in each.peers}
    found = {each for data in (CASES | SEEDS).values() for each in play(data).classes}
    assert listed == found


@pytest.mark.parametrize("peer", [NGINX, APACHE])
def test_the_judge_finds_what_others_let_through(fronts, peer):
    """In our place they are judged as we are, and both pass on what the RFC has refused."""
    found = [name for name, data in CASES.items() if verdicts.judge(data, {OURS: fronts[peer].play(data)}).findings]
    assert len(found) > 10, found
