"""Whose rights on a secret's file are too many."""

import pytest

from proxy.keyfile import exposure, judge

ROOT, OWNER, ANOTHER = 0, 1000, 1001


def judged(mode, reader=OWNER):
    """What is done about it, and the command that mends it."""
    found = judge(0o100000 | mode, OWNER, reader, "the key", "/etc/a key")
    if found is None:
        return None
    return "refused" if found.is_refused else "warned", found.what.partition(": ")[2]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o700, 0o601])
def test_owner_and_group_may_read(mode):
    """0640 is how Debian's ssl-cert and certbot's hooks give a key to a server without root's rights."""
    assert judged(mode) is None


@pytest.mark.parametrize(
    ("mode", "change"), [(0o644, "o="), (0o604, "o="), (0o602, "o="), (0o666, "g-w,o="), (0o777, "g-w,o=")]
)
def test_what_everybody_gets_at_is_refused(mode, change):
    """By its owner and by root, who can mend it; as OpenSSH, it is only told where the file is another's."""
    told = f"chmod {change} '/etc/a key'"
    assert judged(mode) == ("refused", told)
    assert judged(mode, ROOT) == ("refused", told)
    assert judged(mode, ANOTHER) == ("warned", told)


def test_a_group_that_may_write_is_warned_of():
    """It can put another key there, which every client would notice: no secret is lost."""
    assert judged(0o660) == ("warned", "chmod g-w '/etc/a key'")


def test_a_real_file(tmp_path):
    """Judged by what a link leads to; a file that is not there is told by whoever reads it."""
    path, link = tmp_path / "key", tmp_path / "link"
    link.symlink_to(path)
    assert exposure(link, "the key") is None
    path.touch(0o600)
    assert exposure(link, "the key") is None
    path.chmod(0o604)
    found = exposure(link, "the key")
    assert found.is_refused
    assert found.what == f"everybody on this machine may read the key in {link}: chmod o= {link}"
