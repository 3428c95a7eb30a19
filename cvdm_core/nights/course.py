"""What was asked of a night, and how it goes: the facts that its steps fill in."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.nights.outcome import Outcome
from cvdm_core.nights.tonight import Tonight, write_tonight
from cvdm_core.records.nights import Night

GRACE_S = 3600.0
"""How long after the deadline what has begun may go on: jobs are sized for 10 to 60 minutes."""
LONGEST_S = 23 * 3600.0
"""How long a night without a deadline may last: the next one begins after 24 hours."""


@dataclass(frozen=True)
class Order:
    """What was asked for: the profile's folder, the configuration files, the inbox (empty: none), and the deadline as `HH:MM` or empty."""

    profile: Path
    configs: Sequence[Path]
    inbox: str = ""
    by: str = ""


@dataclass
class Course:
    """How a night goes. Times are in seconds since 1970; `names` are the acquisitions that run; the other fields are those of `Night`."""

    config: Config
    order: Order
    started: float
    until: float | None = None
    status: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    registered: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    deferred: dict[str, str] = field(default_factory=dict)
    reduced: dict[str, tuple[int, int]] = field(default_factory=dict)
    came: Outcome = field(default_factory=Outcome)
    log: str = ""

    @property
    def end(self) -> float:
        """When the run is stopped, whatever it does."""
        return self.started + LONGEST_S if self.until is None else self.until + GRACE_S

    def note(self, step: str) -> None:
        """Note for the Snakefile and for the next night what this one does now."""
        owner = f"process {os.getpid()} on {platform.node()}"
        write_tonight(self.config.results, Tonight(self.started, self.end, owner, step, self.deferred))

    def night(self, ended: float) -> Night:
        """Return the night as it is written down."""
        came = self.came
        return Night(
            started=_utc(self.started),
            ended=_utc(ended),
            until="" if self.until is None else _utc(self.until),
            profile=str(self.order.profile),
            status=self.status,
            problems=tuple(self.problems),
            remarks=tuple(self.remarks),
            registered=self.registered,
            restored=came.restored,
            unfinished=came.unfinished,
            failed=came.failed,
            deferred=self.deferred,
            reduced=self.reduced,
            gpu_seconds=came.gpu_seconds,
            megapixels=came.megapixels,
        )


def deadline(by: str, now: float) -> float:
    """Return the next time that the clock on the wall shows `HH:MM` [seconds since 1970].

    Raises
    ------
    UserError
        If `by` is no time of day.
    """
    try:
        wall = datetime.strptime(by, "%H:%M").time()
    except ValueError:
        raise UserError(f"--by {by}: write the time of day as HH:MM, for example 07:00.") from None
    today = datetime.combine(datetime.fromtimestamp(now).date(), wall)
    return today.timestamp() if today.timestamp() > now else (today + timedelta(days=1)).timestamp()


def moment(seconds: float) -> str:
    """Return a time for people, in the time zone of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
