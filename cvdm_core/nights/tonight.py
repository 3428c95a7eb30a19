"""The night that is going on: one small file, `<results>/.night.json`, while `cvdm night` runs.

The Snakefile reads it, so that what was deferred is not run; and the next night reads it when the one before was killed. Nothing but the
standard library is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cvdm_core.files import write_file


@dataclass(frozen=True)
class Tonight:
    """What is known of a night while it goes on.

    `started` and `until` are in seconds since 1970; after `until` the file counts for nothing, so that a night that was killed defers
    nothing for ever. `deferred` holds the acquisitions that do not run, with the reason.
    """

    started: float
    until: float
    owner: str
    step: str
    deferred: Mapping[str, str] = field(default_factory=dict)


def tonight_file(results: str | Path) -> Path:
    """Return where the file lies."""
    return Path(results) / ".night.json"


def read_tonight(results: str | Path) -> Tonight | None:
    """Return what the file says; None where there is none, or it cannot be read."""
    try:
        night = Tonight(**json.loads(tonight_file(results).read_text(encoding="utf-8")))
        return Tonight(float(night.started), float(night.until), str(night.owner), str(night.step), dict(night.deferred))
    except (OSError, ValueError, TypeError):
        return None


def write_tonight(results: str | Path, night: Tonight) -> None:
    """Write the file by rename."""
    write_file(tonight_file(results), json.dumps(asdict(night), indent=1) + "\n")
