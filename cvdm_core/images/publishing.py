"""From a partial store to a finished one: everything is checked, then one rename makes it visible.

The libraries' own validation passes missing and truncated shards, wrong level shapes and factors, mixed data types, scales below
zero and misspelt units; those are checked here.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import ome_zarr_models.v04
import ome_zarr_models.v05
import zarr

from cvdm_core.errors import UserError
from cvdm_core.files import PARTIAL, replace_folder
from cvdm_core.images.omezarr import Layout, read_layout
from cvdm_core.images.omezarr_metadata import read_metadata
from cvdm_core.images.shards import CHECKSUM_BYTES

UNITS = {"t": {"second"}, "c": set[str](), "z": {"micrometer"}, "y": {"micrometer"}, "x": {"micrometer"}}
INDEX_ENTRY_BYTES = 16


def publish(partial: Path, final: Path) -> None:
    """Check a complete partial store and rename it to its final place, replacing what is there.

    Raises
    ------
    UserError
        If the store is not complete and right; nothing has changed then.
    """
    for path in partial.rglob(f"*{PARTIAL}"):
        path.unlink()  # what a killed writer left behind; its file was written again by the next one
    validate(partial)
    replace_folder(partial, final)


def validate(store: Path) -> None:
    """Check a store with ome-zarr-models and for what that passes; every image in it, every file of every level.

    Raises
    ------
    UserError
        Naming the image and the first thing that is wrong.
    """
    root = read_layout(store)
    metadata = "zarr.json" if root.format == "0.5" else ".zgroup"
    groups = sorted(path.parent.name for path in store.glob(f"*/{metadata}"))
    images = ["", *(name for name in groups if name != "OME" and not name.isdecimal())]
    expected = {f"OME/{name}" for name in (metadata, ".zattrs", "METADATA.ome.xml")}
    for image in images:
        layout = read_layout(store, image)
        _check_metadata(store, image, layout)
        expected |= _check_files(store, image, layout)
    found = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    if surplus := sorted(found - expected):
        raise UserError(f"{store}: {surplus[0]} does not belong to the store; delete the store and run the stage again.")


def _check_metadata(store: Path, image: str, layout: Layout) -> None:
    group = zarr.open_group(store / image, mode="r")
    model = ome_zarr_models.v05.Image if layout.format == "0.5" else ome_zarr_models.v04.Image
    try:
        model.from_zarr(group)
    except Exception as error:  # the library raises several kinds; each means the same
        reason = " ".join(str(error).split())
        raise UserError(f"{store / image}: this is no valid OME-Zarr {layout.format} ({reason}); run the stage again.") from error
    multiscale, _, _ = read_metadata(store, image)
    problem = _scales_problem(multiscale, layout) or _arrays_problem(group, layout)
    if problem:
        raise UserError(f"{store / image}: {problem}; delete the store and run the stage again.")


def _scales_problem(multiscale: dict[str, Any], layout: Layout) -> str:
    for axis in multiscale["axes"]:
        if axis.get("unit") is not None and axis["unit"] not in UNITS[axis["name"]]:
            return f"the unit of {axis['name']} is {axis['unit']!r}"
    datasets = multiscale["datasets"]
    if [dataset["path"] for dataset in datasets] != [str(level) for level in range(layout.levels)]:
        return f"{layout.levels} levels were expected, {len(datasets)} are described"
    steps = [{step["type"]: step[step["type"]] for step in dataset["coordinateTransformations"]} for dataset in datasets]
    first = steps[0]
    if min(first["scale"]) <= 0:
        return f"the pixel size {first['scale']} is not positive"
    for level, step in enumerate(steps):
        factors = (1, 1, 1, 2**level, 2**level)
        scale = [size * factor for size, factor in zip(first["scale"], factors, strict=True)]
        shifts = zip(first["translation"], first["scale"], factors, strict=True)
        translation = [origin + (factor - 1) / 2 * size for origin, size, factor in shifts]
        if not (_close(step["scale"], scale, first["scale"]) and _close(step["translation"], translation, first["scale"])):
            return f"level {level} has the scale {step['scale']} and translation {step['translation']}, not {scale} and {translation}"
    return ""


def _close(found: list[float], wanted: list[float], pixel: list[float]) -> bool:
    return all(abs(one - other) <= 1e-6 * size for one, other, size in zip(found, wanted, pixel, strict=True))


def _arrays_problem(group: zarr.Group, layout: Layout) -> str:
    for level in range(layout.levels):
        array: Any = group[str(level)]
        if array.shape != layout.level_shape(level):
            return f"level {level} has the shape {array.shape}, not {layout.level_shape(level)}"
        if array.dtype != layout.dtype:
            return f"level {level} has the type {array.dtype}, level 0 {layout.dtype}"
    return ""


def _check_files(store: Path, image: str, layout: Layout) -> set[str]:
    prefix = f"{image}/" if image else ""
    group_files, array_files = (
        (("zarr.json",), ("zarr.json",)) if layout.format == "0.5" else ((".zgroup", ".zattrs"), (".zarray", ".zattrs"))
    )
    expected = {prefix + name for name in group_files}
    for level in range(layout.levels):
        expected |= {f"{prefix}{level}/{name}" for name in array_files}
        edge = layout.file_edge(level)
        chunks = (edge // min(edge, layout.chunk)) ** 2
        least = chunks * INDEX_ENTRY_BYTES + CHECKSUM_BYTES if layout.format == "0.5" else 0
        *outer, rows, columns = layout.level_shape(level)
        for index in product(*map(range, outer), range(-(-rows // edge)), range(-(-columns // edge))):
            name = prefix + layout.file_name(level, index)
            try:
                size = (store / name).stat().st_size
            except FileNotFoundError:
                raise UserError(f"{store}: the shard {name} is missing; run the stage that writes it again.") from None
            if size <= least:
                raise UserError(f"{store}: the shard {name} is empty; delete it and run the stage that writes it again.")
            expected.add(name)
    return expected
