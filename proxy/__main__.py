"""``python -m proxy`` is the command ``stapleproxy``."""

from proxy.cli import main

main()
