"""Faults to plant into a store of 40 x 20 pixels (chunk 16, shard 32) with an image "std" inside, and what must be named for each.

The first 21 are those that were tried on the libraries (ome-zarr-models found 12 of them, yaozarrs 13, ngff-zarr 10).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
BOTH = ("0.5", "0.4")


@dataclass(frozen=True)
class Fault:
    """`says` is in the sentence of `validate`; `file` is the changed file, which `verify` must name."""

    plant: Callable[[Path], object]
    says: str
    file: str = "GROUP"
    formats: tuple[str, ...] = BOTH

    def changed_file(self, version: str) -> str:
        """Name of the file inside the store."""
        group, array, chunks = ("zarr.json", "zarr.json", "c/") if version == "0.5" else (".zattrs", ".zarray", "")
        return self.file.replace("GROUP", group).replace("ARRAY", array).replace("CHUNKS/", chunks)


def _rewrite(path: Path, change: Callable[[Json], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def in_ome(change: Callable[[Json], object], image: str = "") -> Callable[[Path], None]:
    """Change the OME metadata of an image."""

    def plant(store: Path) -> None:
        path = store / image / ("zarr.json" if (store / "zarr.json").exists() else ".zattrs")
        _rewrite(path, lambda content: change(content["attributes"]["ome"] if "attributes" in content else content))

    return plant


def in_multiscale(change: Callable[[Json], object], image: str = "") -> Callable[[Path], None]:
    return in_ome(lambda ome: change(ome["multiscales"][0]), image)


def in_versioned(change: Callable[[Json], object]) -> Callable[[Path], None]:
    """Change the part of the OME metadata that holds the version."""
    return in_ome(lambda ome: change(ome if "version" in ome else ome["multiscales"][0]))


def in_channel(change: Callable[[Json], object]) -> Callable[[Path], None]:
    return in_ome(lambda ome: change(ome["omero"]["channels"][0]))


def in_array(change: Callable[[Json], object], level: int = 1) -> Callable[[Path], None]:
    def plant(store: Path) -> None:
        _rewrite(store / str(level) / ("zarr.json" if (store / "zarr.json").exists() else ".zarray"), change)

    return plant


def scaled(level: int, axis: int, factor: float) -> Callable[[Json], None]:
    """Multiply the scale along one axis, at one level or at all (-1)."""

    def change(multiscale: Json) -> None:
        for dataset in multiscale["datasets"][slice(level, level + 1) if level >= 0 else slice(None)]:
            dataset["coordinateTransformations"][0]["scale"][axis] *= factor

    return change


def shard(store: Path, level: int = 1) -> Path:
    """The first shard of a level."""
    return store / str(level) / ("c/0/0/0/0/0" if (store / "zarr.json").exists() else "0/0/0/0/0")


def _transformations(multiscale: Json) -> list[Json]:
    found: list[Json] = multiscale["datasets"][1]["coordinateTransformations"]
    return found


def _other_type(array: Json) -> None:
    key = "data_type" if "data_type" in array else "dtype"
    array[key] = {"uint16": "int16", "<u2": "<i2"}[array[key]]


SHARD = "1/CHUNKS/0/0/0/0/0"
FAULTS: dict[str, Fault] = {
    "wrong version": Fault(in_versioned(lambda ome: ome.update(version="0.3")), "version"),
    "level path missing": Fault(in_multiscale(lambda image: image["datasets"][1].update(path="7")), " 7"),
    "scale length": Fault(in_multiscale(lambda image: _transformations(image)[0]["scale"].pop()), "datasets.1.coordinateTransformations"),
    "no scale": Fault(in_multiscale(lambda image: _transformations(image).pop(0)), "datasets.1.coordinateTransformations"),
    "axes missing": Fault(in_multiscale(lambda image: image.pop("axes")), "axes"),
    "duplicate axis": Fault(in_multiscale(lambda image: image["axes"][3].update(name="x")), "'x', 'x'"),
    "x before y": Fault(in_multiscale(lambda image: image["axes"].append(image["axes"].pop(3))), "'x', 'y'"),
    "fewer axes than dimensions": Fault(in_multiscale(lambda image: image["axes"].pop(0)), "axes"),
    "levels out of order": Fault(in_multiscale(lambda image: image["datasets"].reverse()), "datasets"),
    "no version": Fault(in_versioned(lambda ome: ome.pop("version")), "version"),
    "no dimension names": Fault(in_array(lambda array: array.pop("dimension_names")), "dimension_names", "1/ARRAY", ("0.5",)),
    "other dimension names": Fault(in_array(lambda array: array["dimension_names"].reverse()), "dimension", "1/ARRAY", ("0.5",)),
    "no window": Fault(in_channel(lambda channel: channel.pop("window")), "channels.0.window"),
    "bad colour": Fault(in_channel(lambda channel: channel.update(color="green")), "channels.0.color"),
    "negative scale": Fault(in_multiscale(scaled(-1, 2, -1)), "pixel size [1.0, 1.0, -1.0"),
    "unit um": Fault(in_multiscale(lambda image: image["axes"][4].update(unit="um")), "unit of x is 'um'"),
    "factor 3": Fault(in_multiscale(scaled(1, 4, 1.5)), "level 1 has the scale"),
    "shape of a level": Fault(in_array(lambda array: array["shape"].append(array["shape"].pop() + 1)), "level 1 has the shape", "1/ARRAY"),
    "type of a level": Fault(in_array(_other_type), "level 1 has the d", "1/ARRAY"),
    "missing shard": Fault(lambda store: shard(store).unlink(), f"{SHARD} is missing", SHARD),
    "truncated shard": Fault(lambda store: shard(store).write_bytes(shard(store).read_bytes()[:-1]), SHARD, SHARD),
}  # fmt: skip
FURTHER: dict[str, Fault] = {
    "zero scale": Fault(in_multiscale(scaled(-1, 0, 0)), "pixel size [0.0"),
    "scale of a level in z": Fault(in_multiscale(scaled(2, 2, 2), "std"), "level 2 has the scale", "std/GROUP"),
    "translation": Fault(
        in_multiscale(lambda image: image["datasets"][2]["coordinateTransformations"][1]["translation"].__setitem__(3, 0.0)), "level 2"
    ),
    "no translation": Fault(in_multiscale(lambda image: _transformations(image).pop(1)), "level 1 has no translation"),
    "a level not described": Fault(in_multiscale(lambda image: image["datasets"].pop()), "levels were expected"),
    "metadata not written": Fault(in_multiscale(lambda image: image.clear()), "axes"),
    "no channel name": Fault(in_channel(lambda channel: channel.pop("label")), "channels.0.label"),
    "dark window": Fault(in_channel(lambda channel: channel["window"].update(start=7.0, end=7.0)), "channels.0.window"),
    "a channel too many": Fault(in_ome(lambda ome: ome["omero"]["channels"].append(ome["omero"]["channels"][0])), "omero.channels"),
    "fill value": Fault(in_array(lambda array: array.update(fill_value=1)), "fill_value", "1/ARRAY"),
    "no metadata of a level": Fault(
        lambda store: (store / "2" / ("zarr.json" if (store / "zarr.json").exists() else ".zarray")).unlink(), " 2", "2/ARRAY"
    ),
    "missing shard of a subimage": Fault(lambda store: shard(store / "std").unlink(), f"std/{SHARD} is missing", f"std/{SHARD}"),
    "empty shard": Fault(lambda store: shard(store, 2).write_bytes(b""), "2/CHUNKS/0/0/0/0/0 is empty", "2/CHUNKS/0/0/0/0/0"),
    "surplus file": Fault(lambda store: (store / "1" / "notes.txt").write_text("x"), "1/notes.txt", "1/notes.txt"),
    "surplus shard": Fault(lambda store: shutil.copy(shard(store), shard(store).with_name("77")), SHARD[:-1] + "77", SHARD[:-1] + "77"),
}
