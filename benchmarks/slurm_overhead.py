"""What a job costs beyond its work on a real SLURM: the smallest workflow (one tiny acquisition to ingest), and where its seconds go.

    python benchmarks/slurm_overhead.py            # as root; starts the cluster of tests/slurm, and ends it

For each value of `slurm-init-seconds-before-status-checks` the wall-clock seconds from typing to the prompt are split into: the driver's
start until it submits; waiting in the queue; in the job around the stage (two starts of Snakemake, srun, Python); the stage itself;
and from the job's end until the driver has noticed, looked at the output, written the index and ended. Plain `sbatch` stands beside it.
SLURM keeps whole seconds, so each part is right to a second.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / part) for part in ("slurm", "workflow", "")]

from cluster import Cluster, running  # noqa: E402
from site_tree import Site  # noqa: E402

from cvdm_core.records.receipts import read_json  # noqa: E402

PARTS = ("driver's start", "in the queue", "around the stage", "the stage", "until noticed")


def one_run(folder: Path, cluster: Cluster, first_look: int) -> tuple[float, list[float]]:
    """Run the smallest workflow in a fresh tree; return its seconds, and those of its parts."""
    site = Site.fresh(folder, cluster)
    site.facility.acquire("pair", "train")
    registered = site.typed("cvdm register")
    assert registered.returncode == 0, registered.stderr
    begin = time.time()
    done = site.typed(f"snakemake --profile slurm --slurm-init-seconds-before-status-checks {first_look} ingest_all")
    end = time.time()
    assert done.returncode == 0, done.stdout + done.stderr
    said = cluster.said("scontrol", "show", "job", "--oneliner", str(max(site.jobs())))
    submit, start, stop = (
        datetime.fromisoformat(re.findall(rf"\b{name}=(\S+)", said)[0]).timestamp() for name in ("SubmitTime", "StartTime", "EndTime")
    )
    stage = read_json(site.folder / "results/pair/ingest.json")["seconds"]
    return end - begin, [submit - begin, start - submit, stop - start - stage, stage, end - stop]


def plain(cluster: Cluster) -> float:
    """Return the seconds of `sbatch --wait` with nothing to do."""
    begin = time.perf_counter()
    cluster.said("sbatch", "--wait", "--chdir=/", "--output=/dev/null", "--wrap=true")
    return time.perf_counter() - begin


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-looks", type=int, nargs="+", default=[1, 5, 10, 20, 40], help="seconds before the first look")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, running(Path(temporary) / "cluster") as cluster:
        print(f"plain sbatch of `true`: {plain(cluster):.1f} s\n")
        print(f"{'first look':>12} {'total':>8} " + " ".join(f"{part:>16}" for part in PARTS))
        for first_look in options.first_looks:
            total, parts = one_run(Path(temporary) / f"site-{first_look}", cluster, first_look)
            print(f"{first_look:>10} s {total:>6.1f} s " + " ".join(f"{part:>14.1f} s" for part in parts), flush=True)


if __name__ == "__main__":
    main()
