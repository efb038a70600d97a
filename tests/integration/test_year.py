"""The real proxy through a year of a responder whose answers last seven days: what was stapled when, by the rule.

`faketime` makes the clocks of proxy, responder and client run 150,000 times as fast, the monotonic one and every wait
included, so that a year takes three and a half minutes. An exchange of some milliseconds then takes minutes: what is
said below of days is exact to `SLACK`, what is said of the ends of responses is exact.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.x509 import ocsp
from integration.faked_year import DAY_S, Plan, Seen
from lab.servers import require_peer

ROOT = Path(__file__).parents[2]
BEGIN, SPEED = "2030-01-01 00:00:00", 150_000
DAY, VALIDITY = timedelta(days=1), timedelta(days=7)
SLACK = DAY
"""Half a second of the machine's own time."""
PLAN = Plan(
    days=365,
    validity_s=int(VALIDITY.total_seconds()),
    outages=((120 * DAY_S, 5 * DAY_S), (240 * DAY_S, 9 * DAY_S)),
    look_each_s=DAY_S / 4,
)
PATIENCE_S = 300


@dataclass(frozen=True)
class Served:
    """One staple: its dates, and when it was first and last seen."""

    number: int
    this_update: datetime
    next_update: datetime
    first: datetime
    last: datetime


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def year_of(folder: Path, plan: Plan) -> Seen:
    """Let it happen."""
    require_peer("faketime")
    script = ROOT / "tests" / "integration" / "faked_year.py"
    # -m: the variant for programs with threads.
    command = ["faketime", "-m", "-f", f"@{BEGIN} x{SPEED}", sys.executable, script, folder, json.dumps(asdict(plan))]
    environment = os.environ | {"TZ": "UTC", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            assert process.wait(PATIENCE_S) == 0, (folder / "front.log").read_text()[-3000:]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
    return Seen(**json.loads((folder / "seen.json").read_text()))


def served_in(seen: Seen) -> list[Served]:
    """The list of what was served when."""
    served = []
    for number, text in enumerate(seen.staples):
        response = ocsp.load_der_ocsp_response(bytes.fromhex(text))
        looks = [look for look in seen.looks if look[2] == number]
        dates = response.this_update_utc, response.next_update_utc
        served.append(Served(number, *dates, moment(looks[0][0]), moment(looks[-1][0])))
    return served


def openssl_at(now: datetime, staple: Path, folder: Path, chain: str) -> str:
    """What ``openssl ocsp`` says of a staple at this moment, for a client that trusts the root and has the issuer."""
    trusted, issuer = folder / "trusted.pem", folder / "intermediate.pem"
    trusted.write_bytes((folder / "root.pem").read_bytes() + issuer.read_bytes())
    asked = ["openssl", "ocsp", "-respin", staple, "-issuer", issuer, "-cert", chain, "-CAfile", trusted, "-no_nonce"]
    done = subprocess.run(
        ["faketime", f"{now:%Y-%m-%d %H:%M:%S}", *asked, "-validity_period", "0"],
        env=os.environ | {"TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S + 120)
def test_a_year_of_a_responder_that_is_away_twice(tmp_path):
    """Always a staple that openssl takes at that moment, never one that is over, and none missing but where it must be.

    The outage of five days begins with a fresh staple held, and no client notices. In that of nine days the clients go
    without from the end of the staple held until the responder is back. All the time else a staple is replaced when
    half of its life is over, or up to a tenth of it sooner.
    """
    require_peer("openssl")
    seen = year_of(tmp_path, PLAN)
    served = served_in(seen)
    told = "\n".join(map(str, served))
    assert seen.errors == []
    assert len(seen.outages) == 2
    assert len(seen.looks) > 1_000
    assert "http-status: 503" in (tmp_path / "front.log").read_text(), "the responder was asked in vain"

    # Nothing that a client would refuse, and nothing from its nextUpdate on.
    for before_s, after_s, number in seen.looks:
        if number is not None:
            assert served[number].this_update <= moment(after_s), told
            assert moment(before_s) < served[number].next_update, told
    for each in served:
        staple = tmp_path / "staple.der"
        staple.write_bytes(bytes.fromhex(seen.staples[each.number]))
        for now in (each.first, each.last):
            said = openssl_at(max(now, each.this_update), staple, tmp_path, seen.chain)
            assert "Response verify OK" in said, said
            assert f"{seen.chain}: good" in said, said
            assert "WARNING" not in said, f"{now}: {said}"

    # Nothing missing but in the second outage, from the end of what was held on, and then nothing was sent.
    (away, back), (away_again, back_again) = ((moment(one), moment(other)) for one, other in seen.outages)
    held = max((each for each in served if each.this_update <= away_again), key=lambda each: each.this_update)
    assert held.next_update < back_again - DAY, "the outage outlives the staple"
    without = [(moment(before_s), moment(after_s)) for before_s, after_s, number in seen.looks if number is None]
    assert without, "the second outage is noticed"
    for before, after in without:
        assert after >= held.next_update, told
        assert before <= back_again + SLACK, told
    for before_s, after_s, number in seen.looks:
        if held.next_update <= moment(before_s) and moment(after_s) < back_again:
            assert number is None

    # Replaced at half-life, in their order; after an outage as soon as the responder is asked again.
    ages = []
    for one, other in pairwise(served):
        age = other.this_update - one.this_update
        if away - VALIDITY / 2 - SLACK < one.this_update < back or one.number == held.number:
            continue
        assert age >= VALIDITY * 0.4 - timedelta(minutes=1), told
        assert age <= VALIDITY * 0.5 + SLACK, told
        ages.append(age)
    assert len(ages) > 80
    for end in (back, back_again):
        assert min(each.this_update for each in served if each.this_update >= end - timedelta(minutes=1)) <= end + SLACK
