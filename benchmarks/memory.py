"""Peak memory of `cvdm sample`: a restored image of 4096 x 4096 pixels against one of 1024 x 1024, with the default store and network.

    python benchmarks/memory.py [--samples 2] [--steps 1]

Each image is restored by one process, all its shards in one job; the ratio of the two peaks is to stay within 1.1. (Samples cost
4 bytes a pixel of a shard; steps cost time only.)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from restoration_world import NAME, make_world, write_model  # the same small world that the tests use

COMMAND = "from cvdm_core.cli import main; main()"


def peak_of(edge: int, samples: int, steps: int) -> int:
    """Return the peak resident memory of sampling an image of `edge` x `edge` restored pixels, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        sampling = {"samples": samples, "steps": steps, "halo": 64, "tile": 576, "shards_per_job": 1000}
        config = make_world(Path(folder), (edge // 2, edge // 2), sampling=sampling, store={"chunk": 256, "shard": 1024})
        write_model(config, denoiser={}, schedule={})
        arguments = ["sample", "--config", f"{folder}/config.yaml", "--acquisition", NAME, "--block", "0", "--threads", "1"]
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments])
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"cvdm sample failed with status {status}")
        return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1)
    options = parser.parse_args()
    peaks = {edge: peak_of(edge, options.samples, options.steps) for edge in (1024, 4096)}
    for edge, peak in peaks.items():
        print(f"{edge} x {edge}: peak {peak / 2**20:.0f} MiB")
    print(f"ratio {peaks[4096] / peaks[1024]:.3f}")


if __name__ == "__main__":
    main()
