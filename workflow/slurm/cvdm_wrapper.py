#!/usr/bin/env python3
"""Stands before SLURM's squeue, sacct, sbatch and srun while Snakemake runs; cvdm_core/cluster/{status,submission,steps}.py say why.

Each is a link to this file; workflow/rules/common.smk puts the folder on the PATH.
"""

import sys
from pathlib import Path

from cvdm_core.cluster.wrappers import main

sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
