"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """A level and a sentence: `fail` must be mended first, `warn` may cost a night, `note` says what was not looked at."""

    level: Literal["ok", "warn", "fail", "note"]
    text: str
