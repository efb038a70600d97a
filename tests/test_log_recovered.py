"""That a trouble is over is always told, and is no line more than that."""

from __future__ import annotations

import logging
from datetime import timedelta

from keeper.world import ONE, stapled
from ocsp.pki import NOW, Answer, cert_id, single

from proxy.keeper.reporter import Observer, Reporter
from proxy.keeper.watched import Trouble, Watched
from proxy.ocsp.response import Rules, verify
from proxy.settings.model import StaplingSettings

HOUR = timedelta(hours=1)


def test_the_same_response_as_before_is_news_after_a_failure(caplog):
    """'No new staple' was told, and would else be the last word though all is well; the second time it is none."""
    caplog.set_level(logging.INFO, "stapleproxy.keeper")
    der = Answer(singles=(single(cert_id(ONE), this_update=NOW - HOUR, next_update=NOW + HOUR),)).der
    certificate = stapled(ONE, "http://r/")
    rules = Rules.from_settings(StaplingSettings())
    staple = verify(der, leaf=ONE.cert, issuer=certificate.identity.issuer, now=NOW, rules=rules)
    watched = Watched(certificate, certificate.identity.issuer, newest=staple)
    reporter = Reporter(logging.getLogger("stapleproxy.keeper"), Observer())

    def told():
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    def accept():
        reporter.accepted(watched, staple, staple, "http://r/", NOW, None)

    accept()
    assert told() == []
    watched.troubles = (Trouble("http://r/", "timeout", "no answer"),)
    reporter.refused(watched, NOW, 5)
    assert len(told()) == 1
    accept()
    assert ["stapled until" in line for line in told()] == [True]
    accept()
    assert told() == []
