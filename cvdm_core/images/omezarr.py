"""OME-Zarr stores: create one, write whole shards into it from many processes.

An image is a Zarr group with one array `(T, C, Z, Y, X)` a pyramid level. OME-Zarr 0.5 is Zarr v3 with shards of S x S pixels and a
CRC-32C behind every chunk; OME-Zarr 0.4 is Zarr v2 with one file a chunk, and there a "shard" is the group of whole chunks that one
writer owns. Two writers in one shard lose data without an error, so only whole shards can be written here. A shard holds one plane, so
that many processes can write; where one process writes all, the small planes of a stack or a series share files (`grouped`).

A store is written in this order: `create_image`, every shard (`write_region`, `pyramid_writer`), `omezarr_metadata.write_metadata`,
`publishing.publish`. Until then it is no OME-Zarr and nobody can take it for a finished one.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from cvdm_core.config import StoreSettings
from cvdm_core.errors import UserError
from cvdm_core.files import checksum, files_below, sync, write_file
from cvdm_core.images.layout import Layout, read_layout
from cvdm_core.images.shards import block_bytes, chunks, codec, encode_shard, fill_value
from cvdm_core.images.tiles import Shape, Shard

AXES = ("t", "c", "z", "y", "x")
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def create_image(
    folder: Path, shape: Shape, dtype: DTypeLike, store: StoreSettings, path_in_store: str = "", grouped: bool = False
) -> None:
    """Create the arrays of all levels, without pixels and without OME metadata.

    Several processes may do this at the same time: the first one wins, the others see that it is what they wanted.

    Parameters
    ----------
    folder
        The store. An image inside another one (`path_in_store`) needs the outer one to be created first.
    shape
        (T, C, Z, Y, X) at level 0.
    dtype
        One of `DTYPES`. Floats are filled with NaN, so that what was never written shows.
    store
        Format, chunk, shard and compressor.
    path_in_store
        Name of the image inside the store, for example "std"; "" is the store itself.
    grouped
        Let small planes share files; then one process must write all of the image, with `PyramidWriter`.

    Raises
    ------
    UserError
        If the data type cannot be stored, or an image of another kind is there already.
    """
    layout = Layout(store.format, shape, np.dtype(dtype), store.chunk, store.shard, store.compressor, grouped)
    if layout.dtype.name not in DTYPES:
        raise UserError(f"{folder}: pixels of type {layout.dtype} cannot be stored; convert them to one of {', '.join(DTYPES)}.")
    if path_in_store and not folder.is_dir():
        raise ValueError(f"{folder}: create the image at the root of the store before {path_in_store!r}")
    target = folder / path_in_store
    target.parent.mkdir(parents=True, exist_ok=True)
    build = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        group = zarr.open_group(build, mode="w-", zarr_format=3 if layout.format == "0.5" else 2)
        group.attrs["cvdm"] = layout.own_attributes
        for level in range(layout.levels):
            create_level(group, layout, level)
        if not target.is_dir():
            for name in files_below(build):
                sync(build / name)
        try:
            build.rename(target)
        except OSError:
            if not target.is_dir() or not any(target.iterdir()):
                raise
            _check_same(build, target, layout)
    finally:
        shutil.rmtree(build, ignore_errors=True)


def create_level(group: zarr.Group, layout: Layout, level: int) -> None:
    """Create the array of one level in a group, without pixels."""
    common = {
        "name": str(level),
        "shape": layout.level_shape(level),
        "dtype": layout.dtype,
        "chunks": (1, 1, 1, layout.chunk, layout.chunk),
        "fill_value": fill_value(layout.dtype),
    }
    if layout.format == "0.5":
        along_t, along_z = layout.planes(level)
        block = block_bytes(layout.chunk, layout.dtype)
        codecs = [BloscCodec(cname=layout.compressor, clevel=1, shuffle="bitshuffle", blocksize=block), Crc32cCodec()]
        group.create_array(**common, shards=(along_t, 1, along_z, layout.shard, layout.shard), compressors=codecs, dimension_names=AXES)
    else:
        packer = codec(layout.compressor, layout.chunk, layout.dtype)
        group.create_array(**common, compressors=packer, chunk_key_encoding={"name": "v2", "separator": "/"})


def _check_same(wanted: Path, found: Path, layout: Layout) -> None:
    try:
        same = read_layout(found) == layout and all(
            _array_json(wanted / str(level), layout).read_bytes() == _array_json(found / str(level), layout).read_bytes()
            for level in range(layout.levels)
        )
    except (UserError, FileNotFoundError):
        same = False
    if not same:
        raise UserError(f"{found}: an image of another shape, type or layout is there already; delete it and run again.")


def _array_json(array: Path, layout: Layout) -> Path:
    return array / ("zarr.json" if layout.format == "0.5" else ".zarray")


def write_region(folder: Path, region: Shard, plane: NDArray[Any], path_in_store: str = "") -> dict[str, list[int | str]]:
    """Write one piece of one plane, made of whole shards, at level 0 (`pyramid_writer` writes the levels above).

    Each file is written beside its place, synced, and renamed: whoever is killed leaves whole old files or whole new ones.

    Parameters
    ----------
    folder, path_in_store
        The image, made by `create_image`.
    region
        Where the piece lies at level 0; ends at shard borders or at the image's edge.
    plane
        (Y, X), of the image's data type.

    Returns
    -------
    dict
        Bytes and checksum of each file, by its name relative to `folder`: what a receipt holds.

    Raises
    ------
    ValueError
        If the region is not whole shards, or shape or data type differ from it.
    """
    layout = read_layout(folder, path_in_store)
    check_region(layout, region, plane)
    if layout.planes(0) != (1, 1):
        raise ValueError(f"{folder}: several planes share a file; only PyramidWriter writes such an image")
    return write_level(folder, path_in_store, layout, 0, (region.t, region.c, region.z), (region.y, region.x), plane[None, None])


def check_region(layout: Layout, region: Shard, plane: NDArray[Any]) -> None:
    """Raise `ValueError` unless a region is made of whole shards and the pixels are what belongs there."""
    for axis, position in enumerate((region.t, region.c, region.z)):
        if not 0 <= position < layout.shape[axis]:
            raise ValueError(f"{AXES[axis]} = {position} lies outside the image of shape {layout.shape}")
    for pixels, size in zip((region.y, region.x), layout.shape[3:], strict=True):
        ends = pixels.stop == size or (pixels.stop < size and pixels.stop % layout.shard == 0)
        if not (0 <= pixels.start < pixels.stop and pixels.start % layout.shard == 0 and ends):
            raise ValueError(f"{pixels.start}:{pixels.stop} of {size} is not made of whole shards of {layout.shard} pixels")
    if plane.shape != region.shape or plane.dtype != layout.dtype:
        raise ValueError(f"a region of {region.shape} {layout.dtype} pixels cannot be filled with {plane.shape} {plane.dtype}")


def write_level(
    folder: Path,
    path_in_store: str,
    layout: Layout,
    level: int,
    file: tuple[int, int, int],
    yx: tuple[slice, slice],
    pixels: NDArray[Any],
) -> dict[str, list[int | str]]:
    """Write whole files of one level; returns as `write_region`.

    Parameters
    ----------
    file
        Number of the files along (t, c, z), as `Layout.place` gives it.
    yx
        Their rows and columns at that level.
    pixels
        (T, Z, Y, X): all planes that the files hold.
    """
    written: dict[str, list[int | str]] = {}
    edge = layout.file_edge
    rows, columns = yx
    prefix = f"{path_in_store}/" if path_in_store else ""
    for top in range(rows.start, rows.stop, edge):
        for left in range(columns.start, columns.stop, edge):
            content = _encode(pixels[:, :, top - rows.start :, left - columns.start :][:, :, :edge, :edge], layout, level)
            name = prefix + layout.file_name(level, (*file, top // edge, left // edge))
            write_file(f"{folder}/{name}", content)
            written[name] = [len(content), checksum(content)]
    return written


def _encode(pixels: NDArray[Any], layout: Layout, level: int) -> bytes:
    if layout.format == "0.5":
        return encode_shard(pixels, layout.planes(level), layout.shard, layout.chunk, layout.compressor)
    (_, _, whole), *_ = chunks(pixels[0, 0], layout.chunk)
    packed: bytes = codec(layout.compressor, layout.chunk, layout.dtype).encode(whole)
    return packed
