"""Writes docs/faults.md from the table of faults: ``python -m proxy.lab.faults_page > docs/faults.md``."""

from __future__ import annotations

from proxy.lab.faults import FAULTS, Fault

_HEAD = """\
# What can go wrong at a responder

Written by `python -m proxy.lab.faults_page` from the one table that drives the lab's responder and the tests.

The last column is the proxy's word for it: in the log, in the metrics and in `stapleproxy explain`. Where it is
*stapled*, the answer is odd but good. Whatever else the word is, a good response that is held stays until its end; only
`revoked` withdraws it.

In the lab: `stapleproxy lab --fault expired --after 30s --for 60s`, or with many faults one after the other
`stapleproxy lab --scenario config/lab.toml`. By hand while it runs, for everything or for the certificates whose OCSP
URL ends with `/PREFIX`, which is `ec` or `rsa` for those that the lab begins with:

```console
$ stapleproxy lab --folder lab &
…
Running until Ctrl-C.
$ responder=$(openssl x509 -in lab/localhost.ec.pem -noout -ocsp_uri | sed 's:/ec$::')
$ curl --silent --request PUT --data expired "$responder/-/faults"
expired for everything: nextUpdate was an hour ago.
$ curl --silent --request DELETE "$responder/-/faults"
…
$ curl --silent --request PUT --data expired "$responder/-/faults/ec"
expired for /ec: nextUpdate was an hour ago.
```
"""
_GROUPS = {
    "transport": "The connection",
    "http": "The HTTP answer",
    "response": "The OCSP response",
}


def page() -> str:
    """Give the whole text."""
    parts = [_HEAD]
    for group, title in _GROUPS.items():
        rows = [_row(fault) for fault in FAULTS if fault.group == group]
        parts.append("\n".join([f"## {title}", "", "| name | what | reason |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row(fault: Fault) -> str:
    what = fault.what + (f" Only when {fault.only_when}." if fault.only_when else "")
    return f"| {fault.name} | {what} | {f'`{fault.reason}`' if fault.reason else '*stapled*'} |"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 (what it is for)
