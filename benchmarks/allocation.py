"""What keeping freed memory is worth: CPU time and peak memory of the network's steps, with and without, in processes of their own.

python benchmarks/allocation.py --edge 1024
"""

from __future__ import annotations

import argparse
import subprocess
import sys

RUN = """
import resource, sys, time, torch
from cvdm_core.model import ModelSpec, build_model, keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
torch.set_num_threads(1)
model, edge = build_model(ModelSpec(), seed=0).eval(), int(sys.argv[2])
with torch.inference_mode():
    image = torch.zeros(1, 1, edge, edge)
    lam = model.schedule.condition(image)
    model.predict_x0(image, image, lam, 0.5)
    begin = time.process_time()
    for _ in range(5):
        model.predict_x0(image, image, lam, 0.5)
print((time.process_time() - begin) / 5, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=1024)
    given = parser.parse_args()
    seconds = {}
    for name in ("default", "kept"):
        done = subprocess.run([sys.executable, "-c", RUN, name, str(given.edge)], capture_output=True, text=True, check=True)
        seconds[name], peak = (float(number) for number in done.stdout.split())
        print(f"{name:8} {seconds[name]:.3f} CPU-s a step of {given.edge} x {given.edge}, peak {peak:.0f} MiB")
    print(f"ratio {seconds['default'] / seconds['kept']:.2f}")


if __name__ == "__main__":
    main()
