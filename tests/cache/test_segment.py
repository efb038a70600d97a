from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cache import layout
from proxy.cache.entries import whole_entries
from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.errors import StartError

KEY = bytes(range(20))


@contextlib.contextmanager
def attached(path, size_bytes=8192):
    segment = Segment.create(CacheArgument(str(path), size_bytes))
    try:
        yield segment
    finally:
        segment.close()


def refusal(path):
    with pytest.raises(StartError) as caught, attached(path):
        pass
    assert str(caught.value).startswith(f"stapling cache {path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_file_is_the_owners_only(tmp_path):
    with attached(tmp_path / "c"):
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


def test_an_empty_file_becomes_the_cache_and_the_owners_only(tmp_path):
    (tmp_path / "c").touch(0o644)
    with attached(tmp_path / "c"):
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


def test_a_file_that_was_opened_to_others_is_closed_to_them(tmp_path):
    """As one may be that came back from a backup."""
    with attached(tmp_path / "c"):
        pass
    (tmp_path / "c").chmod(0o644)
    with attached(tmp_path / "c"):
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


def test_a_file_cut_short_while_it_is_mapped_is_made_whole(tmp_path):
    """Else touching it would kill each process that is started, for good."""
    path = tmp_path / "c"
    with attached(path) as segment:
        assert not segment.mend()
        length = path.stat().st_size
        CacheWriter(segment).put(KEY, b"response", 2e9, 1e9)
        os.truncate(path, 100)
        assert segment.mend()
        assert path.stat().st_size == length
        writer = CacheWriter(segment)
        assert writer.entries() == []
        writer.put(KEY, b"another", 2e9, 1e9)
    with attached(path) as segment:
        assert [entry.response for entry in whole_entries(segment)] == [b"another"]


def test_entries_survive_a_restart(tmp_path):
    with attached(tmp_path / "c") as segment:
        CacheWriter(segment).put(KEY, b"response", 200.0, 100.0)
    with attached(tmp_path / "c") as segment:
        (entry,) = CacheWriter(segment).entries()
    assert (entry.key, entry.response, entry.serve_until_s, entry.stored_s, entry.last_stapled_s) == (
        KEY,
        b"response",
        200.0,
        100.0,
        None,
    )


def test_entries_survive_a_kill(tmp_path):
    """What was written is in the file, though nobody closed it."""
    program = f"""
import os, signal
from proxy.cache import layout
from proxy.cache.entries import whole_entries
from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
segment = Segment.create(CacheArgument({str(tmp_path / "c")!r}, 8192))
CacheWriter(segment).put(bytes(range(20)), b"response", 200.0, 100.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2]).returncode == -9
    with attached(tmp_path / "c") as segment:
        assert [entry.response for entry in CacheWriter(segment).entries()] == [b"response"]


def test_a_second_instance_is_refused_until_the_first_is_gone(tmp_path):
    with attached(tmp_path / "c"):
        assert "another stapleproxy uses this file" in refusal(tmp_path / "c")
    with attached(tmp_path / "c"):
        pass


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: os.truncate(file, 4000), id="cut short"),
        pytest.param(lambda file: os.truncate(file, 10), id="cut short in the header"),
        pytest.param(lambda file: os.truncate(file, 100_000), id="too long"),
        pytest.param(lambda file: os.pwrite(file, b"\xff", 8), id="another version"),
        pytest.param(lambda file: os.pwrite(file, b"\xff", 30), id="another geometry"),
    ],
)
def test_a_damaged_file_is_set_aside_with_a_log_line(tmp_path, caplog, damage):
    path = tmp_path / "c"
    for number in (1, 2):
        with attached(path) as segment:
            CacheWriter(segment).put(KEY, b"response", 200.0, 100.0)
        with path.open("r+b") as file:
            damage(file.fileno())
        damaged = path.read_bytes()
        with attached(path) as segment:
            assert CacheWriter(segment).entries() == []
        assert (tmp_path / f"c.bad-{number}").read_bytes() == damaged
        assert f"c.bad-{number}" in caplog.messages[-1]


def test_a_cache_of_another_size_is_set_aside(tmp_path):
    with attached(tmp_path / "c", 8192):
        pass
    with attached(tmp_path / "c", 65536), attached(tmp_path / "c.bad-1", 8192):
        pass


def test_a_cache_of_another_eviction_is_set_aside(tmp_path):
    """What is left of one order says nothing about the other."""
    with attached(tmp_path / "c"):
        pass
    Segment.create(CacheArgument(str(tmp_path / "c"), 8192), "fifo").close()
    with attached(tmp_path / "c.bad-1"):
        pass


def test_looking_needs_neither_the_size_nor_the_lock(tmp_path):
    """And nothing can be written through it."""
    with attached(tmp_path / "c", 65536) as segment:
        CacheWriter(segment).put(KEY, b"response", 200.0, 100.0)
        looking = Segment.attach_read_only(str(tmp_path / "c"))
        assert repr(looking) == repr(segment)
        assert [entry.response for entry in whole_entries(looking)] == [b"response"]
        CacheWriter(segment).put(KEY, b"later", 200.0, 100.0)
        assert [entry.response for entry in whole_entries(looking)] == [b"later"]
        with pytest.raises(TypeError):
            looking.words[0] = 0
        looking.close()


def test_looking_goes_on_where_a_writer_died(tmp_path):
    """The checksums decide then."""
    with attached(tmp_path / "c") as segment:
        CacheWriter(segment).put(KEY, b"response", 200.0, 100.0)
        segment.words[segment.geometry.places()[0].sequence_at] |= 1
        looking = Segment.attach_read_only(str(tmp_path / "c"))
        assert [entry.response for entry in whole_entries(looking)] == [b"response"]
        looking.close()


class Disturbed:
    """A segment in which something happens in the middle of a look: before the n-th piece is read."""

    def __init__(self, segment, countdown, meanwhile):
        self.geometry, self.words, self.raw = segment.geometry, segment.words, self
        self._segment, self._countdown, self._meanwhile = segment, countdown, meanwhile

    def __getitem__(self, piece):
        self._countdown -= 1
        if self._countdown == 0:
            self._meanwhile()
        return self._segment.raw[piece]


@pytest.mark.parametrize("countdown", range(1, 6))
def test_a_look_that_met_the_writer_is_taken_again(small, countdown):
    """Else an entry that is moved meanwhile would be seen nowhere."""
    writer = CacheWriter(small)
    for number, length in enumerate((3000, 1000, 2000, 1000)):
        writer.put(bytes([number]) * 20, bytes([number]) * length, 200.0, 100.0 + number)
    writer.remove(bytes([1]) * 20)
    disturbed = Disturbed(small, countdown, lambda: writer.put(b"x" * 20, b"x" * 1900, 200.0, 150.0))
    assert [len(entry.response) for entry in whole_entries(disturbed)] == [3000, 1900, 2000, 1000]


@pytest.mark.parametrize("at", [8, 16, 24, 32, 40, 48, 56])
def test_looking_into_a_file_with_a_damaged_header_is_refused(tmp_path, at):
    with attached(tmp_path / "c"):
        pass
    with (tmp_path / "c").open("r+b") as file:
        file.seek(at)
        file.write(b"\xff\xff")
    with pytest.raises(StartError, match="another version of stapleproxy, or is damaged"):
        Segment.attach_read_only(str(tmp_path / "c"))


@pytest.mark.parametrize("content", [b"x", b"staplers", bytes(8640), b"-----BEGIN PRIVATE KEY-----\n" * 400])
def test_a_file_that_is_not_ours_is_left_alone(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    assert "is not a stapling cache" in refusal(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == content
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").touch()
    (tmp_path / "c").symlink_to(tmp_path / "target")
    assert "symbolic link" in refusal(tmp_path / "c")
    assert (tmp_path / "target").read_bytes() == b""


@pytest.mark.parametrize("content", [b"", layout.header(8192)])
def test_a_file_with_a_second_name_is_refused(tmp_path, content):
    """It could be cut short under that one, which would kill whoever has it mapped. Nothing is done to it."""
    (tmp_path / "other").write_bytes(content)
    (tmp_path / "c").hardlink_to(tmp_path / "other")
    told = "the file has another name as well, a hard link: remove either, or give another path"
    assert refusal(tmp_path / "c") == f"stapling cache {tmp_path / 'c'}: {told}"
    assert (tmp_path / "other").read_bytes() == content
    (tmp_path / "other").unlink()
    with attached(tmp_path / "c"):
        pass


def test_other_places_are_refused_with_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert "its folder does not exist" in refusal(tmp_path / "missing" / "c")
    assert "its folder is not a folder" in refusal(tmp_path / "file" / "c")
    assert "it is a folder" in refusal(tmp_path)
    assert "not a regular file" in refusal(tmp_path / "pipe")
    assert "not a regular file" in refusal("/dev/null")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    assert "permission denied" in refusal(tmp_path / "c")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path):
    """Its owner could cut it short under the mapping."""
    with attached(tmp_path / "c"):
        pass
    os.chown(tmp_path / "c", 65534, 65534)
    assert "belongs to another user" in refusal(tmp_path / "c")


def test_a_full_file_system_leaves_nothing_half_made(tmp_path):
    """The space is taken at the start: a hole found later would kill the process that writes to it."""
    program = f"""
import resource, signal
from proxy.cache import layout
from proxy.cache.entries import whole_entries
from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
try:
    Segment.create(CacheArgument({str(tmp_path / "c")!r}, 8192))
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert re.search(r"StartError: stapling cache .*: File too large\n$", done.stderr)
    assert (tmp_path / "c").read_bytes() == b""


def test_it_tells_its_shape(small):
    assert repr(small) == "<Segment anonymous of 8192 bytes: 1 subcaches of 5 entries in 7968 bytes>"
