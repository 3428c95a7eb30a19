"""The first process of a job's step: passes signals on to all that runs below it, and stays until that has saved what it has.

Where processes are tracked with cgroups, as on most clusters, SLURM sends a signal to the first process of a step and to no other (seen
with 22.05), so that neither the site's warning nor SIGTERM would come to the stage below it; and when the first process ends, the others
get SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1)
PAUSE = 0.1


def run_relayed(command: Sequence[str]) -> int:
    """Run a command in a process group of its own, pass signals on to all of it, and end as it ends.

    Once told to end, a shell and Snakemake do so at once, and the stage below them after it has saved its state: that is waited for.
    """
    # The Snakemake below would die of a warning, and the stage with it; what is ignored stays so in its children until one listens.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    process = subprocess.Popen(command, process_group=0)
    told: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        told.append(number)
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(process.pid, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    status = process.wait()
    while told and _lives(process.pid):
        time.sleep(PAUSE)
    if status < 0:  # so that SLURM says of the step what is true of the command
        with suppress(OSError):  # SIGKILL has no other way
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run_relayed(sys.argv[1:]))
