"""The index is openssl's: what its tools write is read, and what they read is written."""

from datetime import UTC, datetime

import pytest
from cryptography.x509 import ReasonFlags

from proxy.lab.ca import LabCA
from proxy.lab.index import add_certificate, read_revocations

EDITED_AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def line(revocation="", *, state="R", serial="0A"):
    return f"{state}\t270101000000Z\t{revocation}\t{serial}\tunknown\t/CN=a.test\n"


@pytest.mark.parametrize(
    ("revocation", "at", "reason"),
    [
        ("", EDITED_AT, None),
        ("260102030405Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("20260102030405Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("260102030405Z,superseded", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), ReasonFlags.superseded),
        ("260102030405Z,CACompromise", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), ReasonFlags.ca_compromise),
        (",keyCompromise", EDITED_AT, ReasonFlags.key_compromise),
        (",keyTime,20260101000000Z", EDITED_AT, ReasonFlags.key_compromise),
        (",holdInstruction,holdInstructionReject", EDITED_AT, ReasonFlags.certificate_hold),
    ],
)
def test_a_revocation_is_read_as_openssl_writes_it(revocation, at, reason):
    found = read_revocations(line(state="V", serial="09") + line(revocation) + "\n", EDITED_AT)
    assert (found.times, found.reasons) == ({10: at}, {10: reason} if reason else {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (line(state="r"), "line 1: write V, R or E, then five more fields, a tab before each"),
        (line() + line().replace("\t", " "), "line 2: write V, R or E"),
        (line(serial="xyz"), "line 1: 'xyz' is no serial number in hexadecimal"),
        (line("yesterday"), "line 1: 'yesterday' is no time: write it as YYMMDDHHMMSSZ"),
        (line("261302030405Z"), "line 1: '261302030405Z' is no time"),
        (line(",stolen"), "line 1: 'stolen' is no reason"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text, told):
    with pytest.raises(ValueError, match=told):
        read_revocations(text, EDITED_AT)


def test_an_edited_line_is_not_written_again():
    """Else the next certificate issued would take a revocation back; an editor may leave out the last line's end."""
    leaf = LabCA.create(EDITED_AT).issue(["a.test"]).leaf
    edited = add_certificate("", leaf, file="a.pem", name="a.test").replace("V", "R", 1)
    assert add_certificate(edited, leaf, file="a.pem", name="a.test") == edited
    other = LabCA.create(EDITED_AT).issue(["b.test"]).leaf
    assert len(add_certificate(edited.rstrip(), other, file="b.pem", name="b.test").splitlines()) == 2
