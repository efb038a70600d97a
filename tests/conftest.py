"""What is so in all tests."""

from __future__ import annotations

import os

from proxy.log import FORM_VARIABLE

# Tests read the log's lines for people from files and pipes, where without a word they would be JSON.
os.environ.setdefault(FORM_VARIABLE, "human")
