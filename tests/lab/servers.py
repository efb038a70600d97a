"""The lab's programs as the tests run them."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from proxy.lab.answers import right_answer


def require_peer(name):
    """Skip where a foreign program is not installed; fail where it has to be, as in CI for all but those it names."""
    if shutil.which(name) is None:
        is_required = os.environ.get("REQUIRE_PEERS") and name not in os.environ.get("WITHOUT_PEERS", "").split()
        (pytest.fail if is_required else pytest.skip)(f"peer not installed: {name}")


def openssl(*arguments, stdin=b""):
    """Run the system's openssl and give what it said."""
    require_peer("openssl")
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=20)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def openssl_server(*options):
    """Run ``openssl s_server``, which answers any GET with a page; gives its port."""
    require_peer("openssl")
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if found := re.match(r"ACCEPT .*:(\d+)$", line):
                    yield int(found[1])
                    break
            else:
                pytest.fail(f"openssl s_server did not start: {said}")
        finally:
            process.kill()


@contextlib.contextmanager
def process_at(name, *options):
    """Run ``python -m proxy.lab.NAME`` on a free port; gives its address and the process, and ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"proxy.lab.{name}", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            line = process.stdout.readline()
            assert line.startswith(f"{name} listening on http://127.0.0.1:"), line
            yield line.split()[-1], process
        finally:
            process.kill()


def build_response(request_der, signing, now, *, validity, revoked, reasons=None):
    """Answer as the lab's `right_answer` does, in DER."""
    answer = right_answer(request_der, signing, now, validity=validity, revoked_at=revoked, reasons=reasons)
    return answer if isinstance(answer, bytes) else answer.encoded
