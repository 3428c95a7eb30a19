"""How exactly ingest measures the displacement of a target, and what moving it back costs: the figures of docs/pairs.md.

    python benchmarks/pair_registration.py                                # simulated pairs: blurred inputs at half the sampling
    python benchmarks/pair_registration.py --w2s ../shared/data/w2s       # real single frames against the mean of 400

In the simulation the fluorophores themselves are moved between input and target, so that the displacement is known exactly and nothing was
interpolated. Of the real pairs the displacement is not known: each is measured as it is, and the first ones again with their target
moved by known amounts, which the second measurement must differ by.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from cvdm_core.acquisitions.certify import judge
from cvdm_core.images.registration import Plane, Registration, register
from cvdm_core.images.similarity import Similarity, read_moved
from cvdm_core.simulation.microscope import Microscope, expected_photons
from cvdm_core.simulation.specimen import STRUCTURES

EDGE = 256
MARGIN_UM = 3.0
MOVES = (Similarity(), Similarity(0.3, -0.45), Similarity(-5.2, 3.1), Similarity(0.4, 0.2, 3e-3), Similarity(1, -1, -8e-3, 4e-3))
REAL_MOVES = ((0.4, -0.25), (-2.3, 3.6))


def plane(input: NDArray[np.generic], target: NDArray[np.generic]) -> Plane:
    shape = (input.shape[0], input.shape[1])
    return Plane(lambda y, x: input[y, x], lambda y, x: target[y, x], shape, target.shape[0] // input.shape[0])


def measure(input: NDArray[np.generic], target: NDArray[np.generic]) -> tuple[Registration, float]:
    both = plane(input, target)
    before = time.process_time()
    return register([both], both), time.process_time() - before


def photons(kind: str, level: float, move: Similarity, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Expected photons of input and target, of fluorophores that are displaced by `move` [input pixels, about the centre]."""
    microscope = Microscope()
    extent = EDGE * microscope.pixel_size_um
    specimen = STRUCTURES[kind]((extent + 2 * MARGIN_UM,) * 2, np.random.default_rng(seed)).copy()
    p = (specimen[:, 2] + 1j * specimen[:, 1] - (extent / 2 + MARGIN_UM) * (1 + 1j)) / microscope.pixel_size_um
    p = (p + move.at(p)) * microscope.pixel_size_um + extent / 2 * (1 + 1j)
    specimen[:, 1], specimen[:, 2] = p.imag, p.real
    inside = np.all(abs(specimen[:, 1:3] - extent / 2) < extent / 2 + MARGIN_UM / 2, axis=1)
    return expected_photons(specimen[inside], (EDGE, EDGE), 525.0, level, 0.0, microscope)


def simulated() -> None:
    camera = Microscope().camera
    print("structure, photons | cases | largest error: shift [px], rotation [mrad], scale | CPU s a pair")
    for kind in STRUCTURES:
        for level in (20.0, 150.0):
            errors, seconds = [], []
            for seed, move in enumerate(MOVES):
                random = np.random.default_rng(seed)
                input = camera.expose(photons(kind, level, Similarity(), seed)[0], random)
                target = camera.expose(photons(kind, level, move, seed)[1], random)
                found, spent = measure(input, target)
                if found.similarity is None:
                    errors.append((math.inf,) * 3)
                    continue
                wrong = found.similarity.minus(move)
                errors.append((abs(wrong.shift), 1000 * abs(wrong.rotation), abs(wrong.scale_error)))
                seconds.append(spent)
            worst = np.max(errors, axis=0)
            print(f"{kind}, {level:g} | {len(MOVES)} | {worst[0]:.3f} {worst[1]:.2f} {worst[2]:.5f} | {np.median(seconds):.1f}", flush=True)
    moved_back()


def moved_back() -> None:
    """Error of a noise-free target that is moved back, as a share of its standard deviation, and of one left as it is."""
    move = Similarity(0.75, -1.25)
    for kind in STRUCTURES:
        truth, displaced = (photons(kind, 150.0, displacement, 1)[1] for displacement in (Similarity(), move))
        whole = (slice(0, 2 * EDGE), slice(0, 2 * EDGE))
        back = read_moved(lambda y, x, image=displaced: image[y, x], truth.shape, move.enlarged(2), whole)
        inner = (slice(8, -8), slice(8, -8))
        shares = [float(np.std((image - truth)[inner]) / np.std(truth[inner])) for image in (displaced, back)]
        print(f"{kind}: error before {shares[0]:.4f}, moved back {shares[1]:.4f} of the target's standard deviation")


def real(folder: Path, most: int) -> None:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    print("field channel | displacement ± standard error [px], verdict | error of known moves [px]")
    for number, line in enumerate(lines):
        input, target = tifffile.imread(folder / line["input"]), tifffile.imread(folder / line["target"])
        found, _ = measure(input, target)
        if found.similarity is None or found.shift_alone is None:
            print(f"{line['fov']} {line['channel']} | not measurable")
            continue
        inner = (slice(8, input.shape[0] - 8), slice(8, input.shape[1] - 8))
        errors = []
        for y, x in REAL_MOVES if number < most else ():
            moved = read_moved(lambda rows, columns, image=target: image[rows, columns], target.shape, Similarity(-y, -x), inner)
            again, _ = measure(input[inner], moved)
            known = found.shift_alone.shift + complex(x, y)
            errors.append(math.inf if again.shift_alone is None else abs(again.shift_alone.shift - known))
        verdict, _, _ = judge(found, input.shape)
        print(
            f"{line['fov']} {line['channel']} | {abs(found.shift_alone.shift):.3f} ± {found.uncertainty:.3f} {verdict} | "
            + " ".join(f"{error:.3f}" for error in errors),
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--w2s", type=Path, help="folder of the real pairs")
    parser.add_argument("--most", type=int, default=9, help="real pairs that are also measured with a moved target")
    arguments = parser.parse_args()
    if arguments.w2s:
        real(arguments.w2s, arguments.most)
    else:
        simulated()
