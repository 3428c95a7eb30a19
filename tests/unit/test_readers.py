"""What we write opens in the readers that people use, with the right pixels, sizes and channel names.

`make test-readers` installs them (envs/readers.txt); without them these tests are skipped. ome-zarr-py, which is always there, is
tested in test_omezarr_metadata.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_tree import fill, pixels, settings

from cvdm_core.images.export import export
from cvdm_core.images.omezarr_metadata import write_ome_xml

SHAPE = (2, 2, 3, 40, 35)
SCALE = {"t": 2.5, "z": 0.3, "y": 0.11, "x": 0.13}
STATISTICS = ("", "std", "lower", "upper")
ROOT = Path(__file__).parents[2]


@dataclass
class Seen:
    """What a reader says; a step is missing from `scale` where the reader has no place for it."""

    pixels: np.ndarray
    scale: dict[str, float]
    channels: list[str]


def reader(module: str) -> Any:
    return pytest.importorskip(module, reason=f"{module} is not installed; `make test-readers` installs the readers")


def ngff_zarr(path: Path) -> Seen:
    multiscales = reader("ngff_zarr").from_ngff_zarr(str(path))
    image = multiscales.images[0]
    assert image.axes_units["x"] == "micrometer"
    scale = {axis: size for axis, size in image.scale.items() if axis != "c"}
    return Seen(np.asarray(image.data), scale, [channel.label for channel in multiscales.metadata.omero.channels])


def _seen_by_bioio(image: Any) -> Seen:
    assert image.dims.order == "TCZYX"
    scale = {axis.lower(): size for axis, size in image.scale._asdict().items() if axis != "C" and size is not None}
    return Seen(image.data, scale, [str(name) for name in image.channel_names])


def bioio(path: Path) -> Seen:
    return _seen_by_bioio(reader("bioio").BioImage(str(path)))


def bioio_ome_zarr(path: Path) -> Seen:
    return _seen_by_bioio(reader("bioio_ome_zarr").Reader(str(path)))


def bioio_tifffile(path: Path) -> Seen:
    return _seen_by_bioio(reader("bioio_tifffile").Reader(str(path)))


def napari(path: Path) -> Seen:
    read = reader("napari_ome_zarr").napari_get_reader(str(path))
    ((data, options, kind),) = read(str(path))
    assert (kind, options["channel_axis"]) == ("image", 1)
    assert options["units"] == ("second", "micrometer", "micrometer", "micrometer")
    scale = dict(zip(options["axis_labels"], options["scale"], strict=True))
    return Seen(np.asarray(data[0]), scale, [name.removeprefix("cells: ") for name in options["name"]])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Everything that is handed out, by name, and the pixels it must show."""
    folder = tmp_path_factory.mktemp("written")
    facts: dict[str, Any] = {"pixel_size_um": (SCALE["y"], SCALE["x"]), "z_step_um": SCALE["z"], "time_step_s": SCALE["t"]}
    made = {}
    for version in ("0.5", "0.4"):
        raw = pixels(SHAPE)
        made[f"raw {version}"] = fill(folder / version / "raw.ome.zarr", raw, settings(format=version), grouped=True, **facts), raw
        write_ome_xml(folder / version / "raw.ome.zarr", "<OME/>")
        for seed, image in enumerate(STATISTICS):
            plane = pixels(SHAPE, "float32", seed)
            store = fill(folder / version / "restored.ome.zarr", plane, settings(format=version), image, **facts)
            made[f"{image or 'mean'} {version}"] = store / image, plane
    for name, image, ending in (("raw", "", ".ozx"), ("restored", "", ".ozx"), ("raw", "", ".ome.tif"), ("restored", "std", ".ome.tif")):
        out = folder / f"{image or name}{ending}"
        export(folder / "0.5" / f"{name}.ome.zarr", out, image)
        made[out.name] = out, made[f"{image or {'restored': 'mean'}.get(name, name)} 0.5"][1]
    return made


STORES = [f"{name} {version}" for version in ("0.5", "0.4") for name in ("raw", "mean")]
INSIDE = [f"{name} {version}" for version in ("0.5", "0.4") for name in STATISTICS[1:]]
ZIPS = ["raw.ozx", "restored.ozx"]
TIFFS = ["raw.ome.tif", "std.ome.tif"]
PLACES: dict[Callable[[Path], Seen], list[str]] = {
    ngff_zarr: [*STORES, *INSIDE, *ZIPS],
    bioio: [*STORES, *ZIPS, *TIFFS],
    bioio_ome_zarr: [*STORES, *INSIDE, *ZIPS],
    bioio_tifffile: TIFFS,
    napari: [*STORES, *INSIDE],
}


@pytest.mark.parametrize(("read", "name"), [(read, name) for read, names in PLACES.items() for name in names])
def test_a_reader_sees_pixels_sizes_and_names(written: dict[str, tuple[Path, np.ndarray]], read: Callable[[Path], Seen], name: str) -> None:
    path, array = written[name]
    seen = read(path)
    assert seen.pixels.dtype == array.dtype
    np.testing.assert_array_equal(seen.pixels, array)
    # OME-TIFF: bioio's readers give no time step, and bioio-tifffile neither z step nor names.
    expected = set(SCALE) - ({"t"} if name in TIFFS else set()) - ({"z"} if read is bioio_tifffile else set())
    assert seen.scale.keys() == expected
    assert all(abs(size - SCALE[axis]) < 1e-6 for axis, size in seen.scale.items())
    if read is not bioio_tifffile:
        assert seen.channels == ["channel 0", "channel 1"]


def test_the_readers_are_pinned_beside_the_lock_and_not_against_it() -> None:
    names = [{line.split("==")[0].lower().replace("_", "-") for line in (ROOT / file).read_text().splitlines() if "==" in line}
             for file in ("envs/readers.txt", "requirements.lock")]  # fmt: skip
    assert {"ngff-zarr", "bioio", "bioio-ome-zarr", "bioio-ome-tiff", "bioio-tifffile", "napari-ome-zarr"} <= names[0]
    assert names[0] & names[1] == {"ngff-zarr"}  # held back by multiview-stitcher in the lock; `make test-readers` takes the newer one
