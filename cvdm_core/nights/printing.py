"""What a night prints: for people who look on, or for a log on a disk that may be full."""

from __future__ import annotations

import sys
from contextlib import suppress


def show(text: str, error: bool = False) -> None:
    """Print a text that ends with its own newline, if that is possible; the night does not end where it is not."""
    with suppress(OSError, ValueError):  # no space; letters that the terminal does not know
        print(text, end="", file=sys.stderr if error else sys.stdout, flush=True)
