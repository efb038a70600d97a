"""``python -m differential.modssl``: the comparison as a page of Markdown on standard output."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from differential.modssl import compare, texts
from differential.modssl.compare import Verdict
from differential.modssl.report import markdown
from differential.modssl.servers import apache_command
from OpenSSL import SSL


def main() -> int:
    """Give 1 if there is a difference without a reason, 2 if there is no Apache to compare with."""
    if shutil.which("apache2") is None:
        sys.stderr.write("There is no apache2 on this machine: install it (Debian: apt install apache2-bin).\n")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compared = compare.compare(folder)
        apache, ours = texts.told_by_apache(folder / "texts-apache"), texts.told_by_ours(folder / "texts-ours")
        steps = [step for each in compared for step in each.steps()]
    sys.stdout.write(markdown(steps, [(str(each), said, ours[each]) for each, said in apache.items()], _versions()))
    return int(any(step.verdict in {Verdict.FINDING, Verdict.GONE} for step in steps))


def _versions() -> str:
    apache = subprocess.run(apache_command("-v"), capture_output=True, check=True, text=True).stdout.splitlines()[0]
    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    return f"{apache}. Ours: {openssl}, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
