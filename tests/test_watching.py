"""Files that are replaced: said once, and when it is over."""

from __future__ import annotations

import math
from pathlib import Path

from proxy.settings.build import build
from proxy.staplefile import Mark
from proxy.watching import Watch, Watcher, files_of, marks_of

A, B = Path("a"), Path("b")


def mark(number):
    return Mark(number, 1, 1)


def looks(*found):
    """What the watch says to each."""
    watch = Watch({A: mark(0), B: mark(0)})
    return [watch.look({A: mark(a), B: b if b is None else mark(b)}) for a, b in found]


def test_nothing_changes():
    assert looks((0, 0), (0, 0)) == [False, False]


def test_a_change_is_said_once_when_it_is_still():
    assert looks((1, 0), (1, 0), (1, 0), (1, 0)) == [False, True, False, False]


def test_while_one_file_after_the_other_is_written_nothing_is_said():
    """Certbot writes chain and key: between them they do not fit each other."""
    assert looks((1, 0), (1, 1), (1, 1), (1, 1)) == [False, False, True, False]


def test_a_file_that_is_away_for_a_moment():
    assert looks((0, None), (0, 1), (0, 1)) == [False, False, True]


def test_what_is_changed_back_is_no_change():
    assert looks((1, 0), (0, 0), (0, 0)) == [False, False, False]


def test_each_further_change_is_said():
    """Also of a configuration that was refused: it is tried again when something has changed."""
    assert looks((1, 0), (1, 0), (2, 0), (2, 0)) == [False, True, False, True]


def test_links_are_followed(tmp_path):
    """Certbot's live/ has links into archive/, which it turns."""
    (tmp_path / "1.pem").write_text("one")
    (tmp_path / "2.pem").write_text("other")
    link = tmp_path / "live.pem"
    link.symlink_to("1.pem")
    before = marks_of([link])
    link.unlink()
    link.symlink_to("2.pem")
    assert marks_of([link]) != before
    assert marks_of([tmp_path / "none"]) == {tmp_path / "none": None}


def test_every_file_that_is_read_once_is_looked_at(tmp_path):
    """The staple file is the keeper's."""
    from toml_file import load

    path = tmp_path / "x.toml"
    path.write_text(
        """
        [[stapling.issuer]]
        certificate = "known.pem"
        [[site]]
        upstream = "https://127.0.0.1:1"
        upstream_ca = "backends.pem"
        stapling.issuers = "issuers.pem"
        client_certificate = { mode = "require", ca = "clients.pem", crl = "clients.crl" }
        [[site.certificate]]
        chain = "chain.pem"
        key = "key.pem"
        intermediates = "more.pem"
        issuer = "issuer.pem"
        staple = "staple.der"
        """
    )
    assert {file.name for file in files_of(load(path))} == {
        "known.pem", "backends.pem", "issuers.pem", "clients.pem", "clients.crl",
        "chain.pem", "key.pem", "more.pem", "issuer.pem",
    }  # fmt: skip


def settings_of(folder, **reload):
    certificate = {"chain": "chain.pem", "key": "key.pem"}
    data = {"site": [{"upstream": "http://127.0.0.1:1", "certificate": [certificate]}], "reload": reload}
    return build(data, folder=folder)


def test_it_looks_when_it_is_time_to(tmp_path):
    """And at what was there when the configuration was read: a file that was replaced meanwhile is a change."""
    settings = settings_of(tmp_path, watch_certificates_s=5)
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).write_text("1")
    taken = marks_of(files_of(settings))
    (tmp_path / "key.pem").write_text("22")
    watcher = Watcher(settings, taken, 100.0)
    assert watcher.due_at == 105
    assert [watcher.look(at) for at in (104.9, 105, 109.9, 110, 115)] == [False, False, False, True, False]


def test_where_it_is_not_wanted_it_is_never_due(tmp_path):
    watcher = Watcher(settings_of(tmp_path, watch_certificates_s=0), {}, 100.0)
    assert watcher.due_at == math.inf
    assert not watcher.look(1e9)
