"""What whoever starts the workflow does first: take the driver's lock, and end what a dead driver left in the queue and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from cvdm_core.cluster import leftovers, orphans
from cvdm_core.cluster.leftovers import Leftover
from cvdm_core.lock import locked
from cvdm_core.records.running import Running


def driver_lock() -> AbstractContextManager[None]:
    """Return the lock that the driver of this folder holds for as long as it lives. Raises UserError where another one has it."""
    return locked(Path(".snakemake/driver"), "runs the workflow in this folder")


def end_what_was_left(results: str | Path, say: Callable[[str], None]) -> list[Leftover | Running]:
    """End the jobs and stages of a dead driver, and return them; the caller holds the driver's lock.

    Raises
    ------
    UserError
        If SLURM does not answer, or something does not end.
    """
    return [*leftovers.clear(say), *orphans.end(Path(results), say)]
