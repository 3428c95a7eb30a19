"""Is a store what it should be? Every image in it, every key that readers rely on, every file of every level.

ome-zarr-models checks the metadata against the specification. No library minds missing and truncated shards, wrong level shapes and
factors, mixed data types, scales below zero, misspelt units, wrong dimension names, or channels that viewers cannot show; those are
checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import ome_zarr_models.v04
import ome_zarr_models.v05
import zarr
from pydantic import ValidationError

from cvdm_core.errors import UserError
from cvdm_core.files import files_below
from cvdm_core.images.layout import Layout, read_layout
from cvdm_core.images.omezarr import create_level
from cvdm_core.images.omezarr_metadata import read_metadata
from cvdm_core.images.shards import chunk_problem, shard_problem

UNITS = {"t": {"second"}, "c": set[str](), "z": {"micrometer"}, "y": {"micrometer"}, "x": {"micrometer"}}
WINDOW = {"min", "max", "start", "end"}


def validate(store: Path, files: Iterable[str] | None = None) -> None:
    """Check the structure of a store; pixels are not decoded (`cvdm verify` compares every byte with the receipt).

    `files` are the names of its files, from a caller who has listed them already: thousands of folders take their time.

    Raises
    ------
    UserError
        Naming the image and the first file or key that is wrong.
    """
    root = read_layout(store)
    metadata = "zarr.json" if root.format == "0.5" else ".zgroup"
    expected = {f"OME/{name}" for name in (metadata, ".zattrs", "METADATA.ome.xml")}
    for image in images(store):
        layout = read_layout(store, image)
        try:
            problem = _metadata_problem(store, image, layout)
        except UserError:
            raise
        except Exception as error:  # ome-zarr-models and zarr raise several kinds for damaged metadata; each means the same
            problem = f"this is no valid OME-Zarr {layout.format}: {_reason(error)}"
        if problem:
            raise UserError(f"{store / image}: {problem}; delete the store and run the stage that makes it again.")
        expected |= _check_files(store, image, layout)
    if surplus := [name for name in (files_below(store) if files is None else files) if name not in expected]:
        raise UserError(f"{store}: {surplus[0]} does not belong to the store; delete this file, then run the same command again.")


def images(store: Path) -> list[str]:
    """Return the names of the images in a store: "" for the one at its root, then those inside, for example "std"."""
    groups = {path.parent.name for name in ("zarr.json", ".zgroup") for path in store.glob(f"*/{name}")}
    return ["", *sorted(name for name in groups if name != "OME" and not name.isdecimal())]


def _metadata_problem(store: Path, image: str, layout: Layout) -> str:
    group = zarr.open_group(store / image, mode="r")
    model = ome_zarr_models.v05.Image if layout.format == "0.5" else ome_zarr_models.v04.Image
    model.from_zarr(group)
    multiscale, omero, _ = read_metadata(store, image)
    if layout.format == "0.4" and multiscale.get("version") != "0.4":
        return "multiscales.0.version is missing"
    return _scales_problem(multiscale, layout) or _channels_problem(omero, layout) or _arrays_problem(group, layout)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'metadata'}: {first['msg']}"
    return " ".join(str(error).split())


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
        if "translation" not in step:
            return f"level {level} has no translation"
        factors = (1, 1, 1, 2**level, 2**level)
        scale = [size * factor for size, factor in zip(first["scale"], factors, strict=True)]
        shifts = zip(first["translation"], first["scale"], factors, strict=True)
        translation = [origin + (factor - 1) / 2 * size for origin, size, factor in shifts]
        if not (_close(step["scale"], scale, first["scale"]) and _close(step["translation"], translation, first["scale"])):
            return f"level {level} has the scale {step['scale']} and translation {step['translation']}, not {scale} and {translation}"
    return ""


def _close(found: list[float], wanted: list[float], pixel: list[float]) -> bool:
    return all(abs(one - other) <= 1e-6 * size for one, other, size in zip(found, wanted, pixel, strict=True))


def _channels_problem(omero: dict[str, Any], layout: Layout) -> str:
    channels = omero.get("channels", [])
    if len(channels) != layout.shape[1]:
        return f"omero.channels has {len(channels)} entries for {layout.shape[1]} channels"
    for number, channel in enumerate(channels):
        if not channel.get("label"):
            return f"omero.channels.{number}.label is missing"
        window = channel.get("window") or {}
        if missing := sorted(WINDOW - set(window)):
            return f"omero.channels.{number}.window lacks {', '.join(missing)}"
        if not window["start"] < window["end"]:
            return f"omero.channels.{number}.window begins at {window['start']} and ends at {window['end']}"
        if not re.fullmatch("[0-9a-fA-F]{6}", str(channel.get("color"))):
            return f"omero.channels.{number}.color is {channel.get('color')!r}, not six hexadecimal digits"
    return ""


def _arrays_problem(group: zarr.Group, layout: Layout) -> str:
    """Return the first key in which an array differs from the one that `create_image` makes."""
    for level, wanted in enumerate(_wanted_arrays(layout)):
        array: Any = group[str(level)]
        found = array.metadata.to_dict()
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                return f"level {level} has the {key} {found.get(key)}, not {wanted.get(key)}"
    return ""


def _wanted_arrays(layout: Layout) -> Iterator[dict[str, Any]]:
    group = zarr.create_group(zarr.storage.MemoryStore(), zarr_format=3 if layout.format == "0.5" else 2)
    for level in range(layout.levels):
        create_level(group, layout, level)
        array: Any = group[str(level)]
        yield array.metadata.to_dict()


def _check_files(store: Path, image: str, layout: Layout) -> set[str]:
    prefix = f"{image}/" if image else ""
    group_files, array_files = (
        (("zarr.json",), ("zarr.json",)) if layout.format == "0.5" else ((".zgroup", ".zattrs"), (".zarray", ".zattrs"))
    )
    expected = {prefix + name for name in group_files}
    for level in range(layout.levels):
        expected |= {f"{prefix}{level}/{name}" for name in array_files}
        edge, planes = layout.file_edge, layout.planes(level)
        rows, columns = layout.level_shape(level)[3:]
        for *file, row, column in product(*map(range, layout.files(level))):
            name = prefix + layout.file_name(level, (*file, row, column))
            inside = min(edge, rows - row * edge), min(edge, columns - column * edge)
            try:
                if layout.format == "0.5":
                    held = *layout.held(level, (file[0], file[1], file[2])), *inside
                    problem = shard_problem(f"{store}/{name}", planes, held, edge, layout.chunk)
                else:
                    problem = chunk_problem(f"{store}/{name}", edge, layout.dtype)
            except FileNotFoundError:
                problem = "is missing"
            if problem:
                raise UserError(f"{store}: the shard {name} {problem}; delete it and run the stage that writes it again.")
            expected.add(name)
    return expected
