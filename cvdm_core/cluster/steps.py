"""srun that outlasts a restart of SLURM's controller, and whose step hears the signals that are sent to it (`relay`)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import takewhile

from cvdm_core.cluster import relay
from cvdm_core.cluster.commands import real

PAUSE = 5.0
NOT_STARTED = b"Unable to confirm allocation"
"""What srun says before there is a step: nothing has run yet, so that nothing runs twice."""


def run_step(arguments: Sequence[str]) -> int:
    """Run srun until it could start its step, and return the exit status; the job's time limit ends the waiting.

    The plugin writes each option as one word, and then the command.
    """
    path = real("srun")
    if path is None:
        print("srun: command not found", file=sys.stderr)
        return 127
    options = len(list(takewhile(lambda word: word.startswith("-"), arguments)))
    relayed = [*arguments[:options], sys.executable, "-m", relay.__name__, *arguments[options:]]
    while True:
        started = True
        process = subprocess.Popen([path, *relayed], stderr=subprocess.PIPE)
        assert process.stderr
        for line in process.stderr:
            started = started and NOT_STARTED not in line
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        if process.wait() == 0 or started:
            return process.returncode if process.returncode >= 0 else 128 - process.returncode
        time.sleep(PAUSE)
