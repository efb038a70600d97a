"""``stapleproxy staples``: a cache's responses, seen from another process."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from certs import make_chain
from click.testing import CliRunner
from ocsp.pki import Answer, cert_id, single

from proxy.cache.layout import CacheArgument
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.cli import main
from proxy.identity import load_identity
from proxy.ocsp.text import response_text
from proxy.settings.model import CertificateFiles

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
NOW_S = NOW.timestamp()
OTHER_KEY = bytes.fromhex("0123456789abcdef0123456789abcdef01234567")


def run(*arguments):
    result = CliRunner().invoke(main, ["staples", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout_bytes, result.stderr


@cache  # each has another signature
def response(serial):
    return Answer(
        singles=(single(cert_id(serial=serial), this_update=NOW - HOUR, next_update=NOW + HOUR),), produced_at=NOW
    ).der


@pytest.fixture
def served(tmp_path):
    """A cache in use with a configured certificate's response and another one, and the configuration.

    Two more certificates are configured: one without a response, one whose response is over.
    """
    lines = ["[stapling]", 'cache = "shmcb:cache(65536)"']
    keys = {}
    for label, kind in (("www", "ec"), ("www-rsa", "rsa"), ("missing", "ec"), ("over", "ec")):
        name = label.removesuffix("-rsa") + ".test"
        made = make_chain(
            tmp_path,
            label=label,
            kind=kind,
            names=[name, f"*.{name}"],
            ocsp=["http://ocsp.test/"],
            not_before=NOW - 24 * HOUR,
            not_after=NOW + 24 * HOUR,
        )
        keys[label] = load_identity(CertificateFiles(chain=made.files.chain, key=made.files.key), where="")
        if label != "www-rsa":
            lines += ["[[site]]", 'upstream = "http://127.0.0.1:8000"']
        lines += ["[[site.certificate]]", f'chain = "{label}.chain.pem"', f'key = "{label}.key.pem"']
    (tmp_path / "x.toml").write_text("\n".join(lines))
    segment = Segment.create(CacheArgument(str(tmp_path / "cache"), 65536))
    writer, reader = CacheWriter(segment), CacheReader(segment)
    for label, end in (("www", NOW + HOUR), ("www-rsa", NOW + HOUR), ("over", NOW - HOUR)):
        key, serial = keys[label].cache_key, keys[label].leaf.serial_number
        writer.put(key, response(serial), end.timestamp(), NOW_S - 60)
    writer.put(OTHER_KEY, response(0xABCDEF), NOW_S + 3600, NOW_S)
    writer.note_refresh(keys["www"].cache_key, NOW_S + 1800)
    for seconds in (-2, -1, 0):
        reader.get(keys["www"].cache_key, NOW_S + seconds)
    yield tmp_path, keys
    segment.close()


def test_one_row_for_each_response_with_the_names_of_the_configuration(served):
    folder, keys = served
    status, out, _ = run(folder / "x.toml", "--json")
    told = json.loads(out)
    assert (status, told["cache"], told["eviction"]) == (0, str(folder / "cache"), "lru")
    rows = {row["certificate"].partition(".")[0]: row for row in told["responses"]}

    def text(moment):
        return moment.isoformat().replace("+00:00", "Z")

    serial = keys["www"].leaf.serial_number
    assert rows["www"] == {
        "names": ["www.test", "*.www.test"],
        "certificate": "www.chain.pem (EC secp256r1)",
        "serial": f"{serial:x}",
        "key": keys["www"].cache_key.hex(),
        "status": "good",
        "this_update": text(NOW - HOUR),
        "next_update": text(NOW + HOUR),
        "serve_until": text(NOW + HOUR),
        "next_refresh": text(NOW + HOUR / 2),
        "last_stapled": text(NOW),
        "size": len(response(serial)),
        "hits": 3,
    }
    assert (rows["www-rsa"]["last_stapled"], rows["www-rsa"]["hits"], rows["www-rsa"]["next_refresh"]) == (
        None,
        0,
        None,
    )
    assert (rows["missing"]["status"], rows["missing"]["serve_until"]) == ("not held", None)
    assert (rows[""]["names"], rows[""]["serial"], rows[""]["status"]) == ([], "abcdef", "good")


def test_the_list_for_people(served):
    folder, keys = served
    status, out, _ = run(folder / "x.toml")
    table, _, _ = out.decode().partition("with all responders gone from now:\n")
    lines = [re.split(r"  +", line.rstrip()) for line in table.splitlines()]
    assert status == 0
    assert lines[0][:3] == ["names", "status", "thisUpdate"]
    times = [f"{moment:%Y-%m-%d %H:%MZ}" for moment in (NOW - HOUR, NOW + HOUR, NOW + HOUR, NOW + HOUR / 2, NOW)]
    size = str(len(response(keys["www"].leaf.serial_number)))
    www = "www.test, *.www.test (www.chain.pem (EC secp256r1))"
    assert [www, "good", *times, size, "3"] in lines
    assert ["missing.test, *.missing.test (missing.chain.pem (EC secp256r1))", "not held", *"-------"] in lines
    assert any(line[1] == "good, over" for line in lines)
    assert lines[-2][:2] == ["0123456789ab serial abcdef", "good"]


def test_until_when_each_site_is_stapled_without_responders(served):
    """The outage forecast: what ends first counts, and what is over, or not there, is not stapled."""
    folder, _ = served
    told = json.loads(run(folder / "x.toml", "--json")[1])["forecast"]
    assert [(each["names"][0], each["stapled_until"]) for each in told] == [
        ("www.test", (NOW + HOUR).isoformat().replace("+00:00", "Z")),
        ("missing.test", None),
        ("over.test", None),
    ]
    nothing = "not stapled now: there is nothing to staple for"
    _, block = run(folder / "x.toml")[1].decode().split("with all responders gone from now:\n")
    assert block.splitlines() == [
        f"  www.test, *.www.test: stapled until {NOW + HOUR:%Y-%m-%d %H:%MZ}, when {told[0]['certificate']} ends first",
        f"  missing.test, *.missing.test: {nothing} missing.chain.pem (EC secp256r1)",
        f"  over.test, *.over.test: {nothing} over.chain.pem (EC secp256r1)",
    ]
    assert json.loads(run(folder / "cache", "--json")[1])["forecast"] is None, "it takes a configuration to know sites"


def test_how_many_responses_there_is_room_for(served):
    """Of the configured certificates, by the size of what is held; the one that is not held is reckoned with 2 KiB."""
    folder, keys = served
    last = run(folder / "x.toml")[1].decode().partition("\nwith all responders")[0].splitlines()[-1]
    assert last == f"cache {folder / 'cache'}, 65536 bytes: room for all 4 responses, 1 of them taken as about 2 KiB"
    assert run(folder / "cache")[1].decode().splitlines()[-1] == f"cache {folder / 'cache'}, 65536 bytes: 4 held"
    told = json.loads(run(folder / "x.toml", "--json")[1])
    assert (told["size_bytes"], told["room"]) == (
        65536,
        {"fitting": 4, "count": 4, "assumed": 1, "size_for_all": 65536},
    )
    assert json.loads(run(folder / "cache", "--json")[1])["room"] is None
    (folder / "x.toml").write_text((folder / "x.toml").read_text().replace("shmcb:cache(65536)", "shmcb:own(8192)"))
    segment = Segment.create(CacheArgument(str(folder / "own"), 8192))
    for each in keys.values():
        CacheWriter(segment).put(each.cache_key, bytes(1900), NOW_S + 60, NOW_S)
    segment.close()
    last = run(folder / "x.toml")[1].decode().partition("\nwith all responders")[0].splitlines()[-1]
    assert last == f"cache {folder / 'own'}, 8192 bytes: room for all 4 responses"


def test_the_file_alone_tells_numbers_and_keys(served):
    folder, keys = served
    _, out, _ = run(folder / "cache", "--json")
    rows = {row["key"]: row for row in json.loads(out)["responses"]}
    assert set(rows) == {*(keys[label].cache_key.hex() for label in ("www", "www-rsa", "over")), OTHER_KEY.hex()}
    assert {tuple(row["names"]) for row in rows.values()} == {()}
    assert rows[keys["www"].cache_key.hex()]["serial"] == f"{keys['www'].leaf.serial_number:x}"


@pytest.mark.parametrize("name", ["0123", OTHER_KEY.hex().upper(), "abcdef", "AB:CD:EF", "00abcdef"])
def test_show_finds_by_key_and_by_number(served, name):
    folder, _ = served
    status, out, _ = run(folder / "cache", "show", name)
    assert (status, out.decode()) == (0, response_text(response(0xABCDEF)))


@pytest.mark.parametrize("name", ["over.test", "OVER.test.", "a.over.test"])
def test_show_finds_by_name(served, name):
    folder, keys = served
    status, out, _ = run(folder / "x.toml", "show", name)
    assert (status, out.decode()) == (0, response_text(response(keys["over"].leaf.serial_number)))


def test_a_name_of_two_certificates_needs_the_key(served):
    folder, keys = served
    status, out, err = run(folder / "x.toml", "show", "www.test")
    assert (status, out) == (1, b"")
    assert "'www.test' has 2 responses: give one of the keys " in err
    assert f"{keys['www-rsa'].cache_key.hex()[:12]} (www-rsa.chain.pem (RSA 2048))" in err


@pytest.mark.parametrize("name", ["missing.test", "nobody.test", "a.b.over.test", "", "012"])
def test_a_name_without_a_response_is_one_sentence(served, name):
    folder, _ = served
    status, out, err = run(folder / "x.toml", "show", name)
    assert (status, out) == (1, b"")
    assert err == f"{folder / 'cache'}: no response for {name!r}: stapleproxy staples lists what there is\n"


def test_export_writes_the_very_bytes(served):
    folder, keys = served
    expected = response(keys["over"].leaf.serial_number)
    assert run(folder / "x.toml", "export", "over.test") == (0, expected, "")
    assert run(folder / "x.toml", "export", "over.test", "-o", folder / "out") == (0, b"", "")
    assert (folder / "out").read_bytes() == expected
    status, _, err = run(folder / "x.toml", "export", "over.test", "-o", folder / "no" / "out")
    assert (status, err) == (1, f"{folder / 'no' / 'out'}: cannot be written: No such file or directory\n")


def test_the_figures_under_both_names(served):
    folder, _ = served
    _, out, _ = run(folder / "cache", "--figures", "apache")
    told = dict(line.split(": ") for line in out.decode().splitlines())
    assert (told["CacheType"], told["CacheSharedMemory"], told["CacheCurrentEntries"]) == ("SHMCB", "65536", "3")
    assert (told["CacheStoreCount"], told["CacheRetrieveHitCount"]) == ("4", "3")
    _, out, _ = run("--figures", "prometheus", folder / "cache")
    assert "\nstapleproxy_cache_entries 3\n" in out.decode()


def test_it_is_seen_from_another_process_while_it_changes(tmp_path):
    """Neither the lock nor the writer is in the way, and nothing is changed by looking."""
    segment = Segment.create(CacheArgument(str(tmp_path / "cache"), 65536))
    writer = CacheWriter(segment)
    looking = subprocess.Popen(
        [sys.executable, "-c", _LOOK_FOR_EVER, tmp_path / "cache"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert looking.stdout is not None
    try:
        assert looking.stdout.readline() == b"begun\n"
        end = time.monotonic() + 0.2
        number = 0
        while time.monotonic() < end:
            number += 1
            writer.put(bytes([number % 50]) * 20, bytes([number % 50]) * (number % 3000), NOW_S + 60, NOW_S)
        writer.put(b"end of it".ljust(20), b"", NOW_S + 60, NOW_S)
        before = (tmp_path / "cache").read_bytes()
        assert looking.stdout.readline() == b"ended\n"
        assert (tmp_path / "cache").read_bytes() == before
    finally:
        looking.kill()
        looking.wait()
        looking.stdout.close()
        segment.close()


_LOOK_FOR_EVER = """
import sys
from proxy.cache.entries import whole_entries
from proxy.cache.segment import Segment
segment = Segment.attach_read_only(sys.argv[1])
print("begun", flush=True)
while True:
    entries = {entry.key: entry for entry in whole_entries(segment)}
    if b"end of it".ljust(20) in entries:
        break
    assert all(set(entry.response) <= set(entry.key) for entry in entries.values())
print("ended", flush=True)
"""


def test_nonsense_in_the_words_that_nothing_relies_on_is_left_out(served):
    """They have no checksum."""
    folder, _ = served
    segment = Segment.create(CacheArgument(str(folder / "own"), 65536))
    writer = CacheWriter(segment)
    for number, nonsense in enumerate((float("nan"), float("inf"), 1e300)):
        writer.put(bytes([number]) * 20, b"no response", NOW_S + 60, NOW_S)
        writer.note_refresh(bytes([number]) * 20, nonsense)
        CacheReader(segment).get(bytes([number]) * 20, -nonsense)
    status, out, _ = run(folder / "own", "--json")
    segment.close()
    assert status == 0
    assert {(row["status"], row["next_refresh"]) for row in json.loads(out)["responses"]} == {("unreadable", None)}
    status, _, err = run(folder / "own", "show", "0000")
    assert (status, err.count("\n")) == (1, 1)
    assert "cannot be read" in err


def test_what_is_no_cache_is_one_sentence(tmp_path):
    (tmp_path / "text").write_text("x" * 200)
    (tmp_path / "cut").write_bytes(b"staples\0" + bytes(100))
    (tmp_path / "link").symlink_to(tmp_path / "text")
    os.mkfifo(tmp_path / "pipe")
    for name, what in (
        ("nothing", "there is no such file"),
        ("text", "the file is not a stapling cache"),
        ("cut", "the file was made by another version of stapleproxy, or is damaged"),
        ("link", "it is a symbolic link, which is never followed: give the path of the file itself"),
        ("pipe", "it is not a regular file"),
        (".", "it is not a regular file"),
    ):
        path = tmp_path / name if name != "." else tmp_path
        assert run(path) == (1, b"", f"stapling cache {path}: {what}\n")


@pytest.mark.parametrize(
    ("cache", "key"), [("shmcb:", "stapling.cache"), ("redis:localhost", "stapling.redis.local_cache")]
)
def test_a_cache_in_memory_cannot_be_looked_into(tmp_path, cache, key):
    """In a fleet the path belongs to the cache on this machine, and not where the server is named."""
    make_chain(tmp_path)
    (tmp_path / "x.toml").write_text(
        f'[stapling]\ncache = "{cache}"\n'
        '[[site]]\nupstream = "http://127.0.0.1:8000"\n[[site.certificate]]\nchain = "ec.chain.pem"\nkey = "ec.key.pem"'
    )
    status, _, err = run(tmp_path / "x.toml")
    assert status == 2
    assert err.startswith(f"{tmp_path / 'x.toml'}: {key}: this cache is in memory only")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["export"], "Missing argument 'NAME'"),
        (["remove", "x"], "unexpected extra arguments (remove x)"),
        (["show", "x", "--json"], "--json is for the list, without NAME"),
        (["--json", "--figures", "apache"], "each without the other"),
        (["show", "x", "-o", "y"], "No such option"),
        (["refresh"], "give a NAME, or --all"),
        (["refresh", "x", "--all"], "give a NAME, or --all"),
        (["set", "x"], "Missing argument 'RESPONSE'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, what):
    status, out, err = run(tmp_path / "cache", *arguments)
    assert (status, out) == (2, b"")
    assert what in err


def test_an_empty_cache_is_told(tmp_path):
    Segment.create(CacheArgument(str(tmp_path / "cache"), 8192)).close()
    assert run(tmp_path / "cache") == (
        0,
        f"no responses\ncache {tmp_path / 'cache'}, 8192 bytes: 0 held\n".encode(),
        "",
    )
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o600
