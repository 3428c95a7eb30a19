"""The demo's acquisitions: files as a microscope would write them, and the part of the sample sheet that a person writes.

Thirteen acquisitions of eight specimens in three channels; OME-TIFF where there are several channels, planes or times, ImageJ TIFF
otherwise. The same seed gives the same files, byte for byte.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from rich.progress import track

from cvdm_core.config import Split
from cvdm_core.sheet import Acquisition, write_sheet
from cvdm_core.simulation.microscope import Image, Microscope, acquire
from cvdm_core.simulation.specimen import STRUCTURES, drift

EMISSION_NM = {"tubulin": 525.0, "vesicles": 600.0, "membrane": 460.0}
Z_STEP_UM = 0.3
TIME_STEP_S = 2.0


@dataclass(frozen=True)
class Plan:
    """One acquisition to be simulated; `photons` is the 99.9th percentile of the signal in an input pixel."""

    name: str
    specimen: str
    split: Split
    channels: tuple[str, ...]
    photons: float
    shape: tuple[int, int] = (512, 512)
    times: int = 1
    planes: int = 1
    target: bool = True


DEMO = (
    Plan("cell01_tubulin", "specimen01", "train", ("tubulin",), 150),
    Plan("cell02_dual", "specimen01", "train", ("tubulin", "vesicles"), 220),
    Plan("cell03_membrane", "specimen02", "train", ("membrane",), 120),
    Plan("cell04_dual", "specimen02", "train", ("membrane", "vesicles"), 90),
    Plan("cell05_tubulin", "specimen03", "train", ("tubulin",), 80, shape=(640, 768)),
    Plan("cell06_movie", "specimen03", "train", ("membrane",), 180, times=2, planes=2),
    Plan("cell07_vesicles", "specimen04", "train", ("vesicles",), 150),
    Plan("cell08_tubulin", "specimen04", "train", ("tubulin",), 250),
    Plan("cell09_dual", "specimen05", "val", ("tubulin", "membrane"), 150),
    Plan("cell10_dual", "specimen06", "test", ("tubulin", "vesicles"), 150),
    Plan("cell11_membrane", "specimen07", "test", ("membrane",), 120),
    Plan("cell12_tubulin", "specimen08", "predict", ("tubulin",), 100, target=False),
    Plan("cell13_membrane", "specimen08", "predict", ("membrane",), 200, shape=(600, 520), target=False),
)


def simulate(plan: Plan, seed: int, microscope: Microscope | None = None) -> tuple[Image, Image]:
    """Return the input (T, C, Z, Y, X) and the target (T, C, Z, 2Y, 2X) of one acquisition, uint16."""
    used = microscope or Microscope()
    rng = np.random.default_rng([seed, zlib.crc32(plan.name.encode())])
    extent = (plan.shape[0] * used.pixel_size_um, plan.shape[1] * used.pixel_size_um)
    size = (plan.times, len(plan.channels), plan.planes)
    inputs = np.empty((*size, *plan.shape), np.uint16)
    targets = np.empty((*size, 2 * plan.shape[0], 2 * plan.shape[1]), np.uint16)
    for c, channel in enumerate(plan.channels):
        specimen = STRUCTURES[channel](extent, rng)
        for t in range(plan.times):
            for z in range(plan.planes):
                height = (z - (plan.planes - 1) / 2) * Z_STEP_UM
                pair = acquire(specimen, plan.shape, EMISSION_NM[channel], plan.photons, rng, height, used)
                inputs[t, c, z], targets[t, c, z] = pair
            specimen = drift(specimen, rng)
    return inputs, targets


def _write_ome(path: Path, image: Image, pixel_size_um: float, channels: tuple[str, ...]) -> None:
    metadata: dict[str, Any] = {
        "axes": "TCZYX",
        "UUID": f"urn:uuid:00000000-0000-4000-8000-{zlib.crc32(path.name.encode()):012x}",
        "PhysicalSizeX": pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": list(channels), "EmissionWavelength": [EMISSION_NM[channel] for channel in channels]},
    }
    if image.shape[2] > 1:
        metadata |= {"PhysicalSizeZ": Z_STEP_UM, "PhysicalSizeZUnit": "µm"}
    if image.shape[0] > 1:
        metadata |= {"TimeIncrement": TIME_STEP_S, "TimeIncrementUnit": "s"}
    tifffile.imwrite(path, image, ome=True, metadata=metadata, photometric="minisblack")


def _write_imagej(path: Path, image: Image, pixel_size_um: float) -> None:
    metadata = {"axes": "YX", "unit": "um"}
    tifffile.imwrite(path, image[0, 0, 0], imagej=True, resolution=(1 / pixel_size_um, 1 / pixel_size_um), metadata=metadata)


def _write(folder: Path, plan: Plan, role: str, image: Image, pixel_size_um: float) -> Path:
    if image.shape[:3] == (1, 1, 1):
        path = folder / f"{plan.name}_{role}.tif"
        _write_imagej(path, image, pixel_size_um)
    else:
        path = folder / f"{plan.name}_{role}.ome.tif"
        _write_ome(path, image, pixel_size_um, plan.channels)
    return path


def _write_acquisition(folder: Path, seed: int, plan: Plan) -> Acquisition:
    microscope = Microscope()
    inputs, targets = simulate(plan, seed, microscope)
    source = _write(folder, plan, "input", inputs, microscope.pixel_size_um)
    truth = _write(folder, plan, "target", targets, microscope.pixel_size_um / 2) if plan.target else None
    return Acquisition(
        acquisition=plan.name,
        specimen=plan.specimen,
        split=plan.split,
        input=str(source),
        target=str(truth or ""),
        stated_channels=plan.channels,
        na=microscope.na,
        emission_nm=tuple(EMISSION_NM[channel] for channel in plan.channels),
        note="simulated",
    )


def write_demo(folder: str | Path, *, seed: int = 0, plans: tuple[Plan, ...] = DEMO) -> Path:
    """Write the raw TIFFs of `plans` and `acquisitions.tsv` into `folder`, and return the path of the sheet.

    The sheet holds what a person knows; `cvdm register` measures the rest.
    """
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(partial(_write_acquisition, where, seed), plans)
        rows = {row.acquisition: row for row in track(done, description="simulating", total=len(plans), transient=True)}
    write_sheet(where / "acquisitions.tsv", rows)
    return where / "acquisitions.tsv"
