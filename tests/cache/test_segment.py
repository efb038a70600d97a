from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("content", [b"x", b"staples", bytes(8640), b"-----BEGIN PRIVATE KEY-----\n" * 400])
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
