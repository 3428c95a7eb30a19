"""Stages that a driver without a queue left running on this machine when it was killed. They are ended before a new driver plans.

They are ended and not waited for, as the jobs in SLURM's queue are, and nothing is lost by it: a training saves its state when it is told
to end, and every other stage goes on from what it has on disk.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from cvdm_core.errors import UserError
from cvdm_core.records.running import Running, announcements

ENDING = 120.0
"""Seconds that a stage gets to save what it has; a step of training and a validation fit into it."""
PAUSE = 0.1
OF_A_RULE = b"CVDM_ATTEMPT="
"""What every rule puts into the environment of its command, and nobody by hand: a person's own `cvdm train` is left alone."""


def find(results: Path) -> dict[Path, Running]:
    """Return the notes of stages that live on this machine and that a rule of the workflow in this folder has started."""
    return {path: who for path, who in announcements(results).items() if who.lives_here and _started_here(who.pid)}


def end(results: Path, say: Callable[[str], None]) -> list[Running]:
    """End the stages that a dead driver left, wait until they are gone, and return them.

    The caller holds the driver's lock and has cleared the queue, so that none of them belongs to a driver that lives.

    Raises
    ------
    UserError
        If one of them may not be ended.
    """
    left = find(results)
    if not left:
        return []
    named = ", ".join(f"{who.stage} of {who.subject} (process {who.pid}, since {who.started})" for who in left.values())
    say(f"an earlier driver left {len(left)} stages running on this machine; they are ended: {named}")
    for number, seconds in ((signal.SIGTERM, ENDING), (signal.SIGKILL, ENDING)):
        for who in left.values():
            _send(who, number)
        until = time.monotonic() + seconds
        while any(who.lives_here for who in left.values()) and time.monotonic() < until:
            time.sleep(PAUSE)
    if going := [str(who.pid) for who in left.values() if who.lives_here]:
        raise UserError(
            f"the processes {', '.join(going)} of an earlier run do not end; see what they wait for, then run the same command again."
        )
    for path in left:  # or they would be told as killed, nobody knows why
        path.unlink(missing_ok=True)
    return list(left.values())


def _send(who: Running, number: signal.Signals) -> None:
    if not who.lives_here:
        return
    try:
        os.kill(who.pid, number)
        os.kill(who.pid, signal.SIGCONT)  # one that was stopped would not hear it
    except ProcessLookupError:
        return
    except PermissionError:
        raise UserError(
            f"process {who.pid} ({who.stage} of {who.subject}) of an earlier run belongs to somebody else; ask them to end it, or wait."
        ) from None


def _started_here(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return any(each.startswith(OF_A_RULE) for each in environment) and Path(f"/proc/{pid}/cwd").samefile(Path.cwd())
    except OSError:  # it has ended, or is another user's
        return False
