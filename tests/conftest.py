"""What is so in all tests."""

from __future__ import annotations

import os
import signal

from proxy.log import FORM_VARIABLE

# Tests read the log's lines for people from files and pipes, where without a word they would be JSON.
os.environ.setdefault(FORM_VARIABLE, "human")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As of what a script starts in its background; those that tests start would not hear of Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
