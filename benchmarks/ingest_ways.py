"""The ways that `ingest.py` compares, each in a process of its own: python ingest_ways.py WAY SET SOURCE OUT.

Prints the CPU seconds (user + system, of the process and its children) of the work alone: everything after the imports.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SHARD, CHUNK = 1024, 256
BLOCK = CHUNK**2 * 2
"""Bytes that blosc compresses in one piece: a chunk of uint16. The ways that let one choose have it; left at 0, all take longer."""


def planes(source: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and page of every plane."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    number = 0
    for file in files:
        with tifffile.TiffFile(file) as tiff:
            for page in tiff.pages:
                yield number, page
                number += 1


def blocks(source: Path) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield plane, top, left and pixels of every piece of one shard, read with as little as can be: uncompressed tiles or one strip."""
    for number, page in planes(source):
        handle, (height, width) = page.parent.filehandle, page.shape
        for top in range(0, height, SHARD):
            rows = min(SHARD, height - top)
            band = np.empty((rows, width), page.dtype)
            if page.is_tiled:
                edge, across = page.tilelength, -(-width // page.tilewidth)
                for index in range(top // edge * across, -(-(top + rows) // edge) * across):
                    raw = os.pread(handle.fileno(), page.databytecounts[index], page.dataoffsets[index])
                    y, x = index // across * edge - top, index % across * edge
                    band[y : y + edge, x : x + edge] = np.frombuffer(raw, page.dtype).reshape(edge, edge)
            else:
                offset = page.dataoffsets[0] + top * width * page.dtype.itemsize
                band[:] = np.frombuffer(os.pread(handle.fileno(), band.nbytes, offset), page.dtype).reshape(band.shape)
            for left in range(0, width, SHARD):
                yield number, top, left, band[:, left : left + SHARD]


def size_of(source: Path) -> tuple[int, int, int]:
    """Return planes, rows and columns."""
    if source.is_dir():
        files = sorted(source.iterdir())
        return (len(files), *tifffile.TiffFile(files[0]).pages[0].shape)
    with tifffile.TiffFile(source) as tiff:
        return (len(tiff.pages), *tiff.pages[0].shape)


def level_count(height: int, width: int) -> int:
    """Return how many levels the pyramid has, until one chunk holds the plane."""
    count = 1
    while max(height, width) >> (count - 1) > CHUNK:
        count += 1
    return count


def pyramid(plane: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the plane and its 2x2 means."""
    for _ in range(count):
        yield plane
        even = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2].astype(np.uint32)
        rows = even[0::2] + even[1::2]
        plane = ((rows[:, 0::2] + rows[:, 1::2] + 2) // 4).astype(plane.dtype)


def whole_shards(pieces: Iterator[tuple[int, int, int, np.ndarray]], size: tuple[int, int, int]) -> Iterator[tuple[int, ...]]:
    """Yield level, plane, top, left and pixels of every shard of every level, from the pieces of level 0 row by row."""
    _, height, width = size
    count = level_count(height, width)
    opened: dict[tuple[int, ...], list] = {}
    for number, top, left, plane in pieces:
        for level, part in enumerate(pyramid(plane, count)):
            y, x, reach = top >> level, left >> level, SHARD << level
            at = (level, number, y // SHARD * SHARD, x // SHARD * SHARD)
            if at not in opened:
                shape = [min(SHARD, (whole >> level) - begin) for whole, begin in ((height, at[2]), (width, at[3]))]
                ends = [(begin << level, min(whole, (begin << level) + reach)) for whole, begin in ((height, at[2]), (width, at[3]))]
                children = [-(-(end - begin) // SHARD) for begin, end in ends]
                opened[at] = [np.empty(shape, plane.dtype), children[0] * children[1]]
            opened[at][0][y - at[2] : y - at[2] + part.shape[0], x - at[3] : x - at[3] + part.shape[1]] = part
            opened[at][1] -= 1
            if not opened[at][1]:
                yield (*at, opened.pop(at)[0])


def timed(pieces: Iterator[Any], spent: list[float]) -> Iterator[Any]:
    """Pass on what comes and add the CPU time that it took."""
    while True:
        begin = time.process_time()
        piece = next(pieces, None)
        spent.append(time.process_time() - begin)
        if piece is None:
            return
        yield piece


def floor(kind: str, source: Path, out: Path) -> float:
    """Read, compress, write: only these are timed, and the sum is returned; making the pyramid is not."""
    codec, spent = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE, blocksize=BLOCK), [0.0]
    for level, number, top, left, pixels in whole_shards(timed(blocks(source), spent), size_of(source)):
        cut = [
            np.ascontiguousarray(pixels[y : y + CHUNK, x : x + CHUNK])
            for y in range(0, pixels.shape[0], CHUNK)
            for x in range(0, pixels.shape[1], CHUNK)
        ]
        begin = time.process_time()
        content = b"".join(codec.encode(part) for part in cut)
        (out / f"{level}.{number}.{top}.{left}").write_bytes(content)
        spent.append(time.process_time() - begin)
    return sum(spent)


def hashes(kind: str, source: Path, out: Path) -> None:
    """Take the checksums that cvdm takes and the others do not: of the source and of all that it wrote into `out`."""
    for path in sorted(source.iterdir()) if source.is_dir() else [source]:
        sha256_file(path)
    for path in sorted((out / "results/image/raw.ome.zarr").rglob("*")):
        if path.is_file():
            checksum_file(path)


def cvdm(kind: str, source: Path, out: Path) -> None:
    """Run the whole stage, as the workflow does; registration, which reads the headers, is in it."""
    sheet = out / "acquisitions.tsv"
    places = {"results": str(out / "results"), "models": str(out / "models"), "acquisitions": str(sheet)}
    given = str(source / "image_T{t}.tif") if source.is_dir() else str(source)
    row = {
        "acquisition": "image",
        "specimen": "s",
        "split": "predict",
        "input": given,
        "stated_pixel_size_um": 0.1 if source.is_dir() else None,
    }
    write_sheet(sheet, {"image": Acquisition.model_validate(row)})
    config = parse({**places, "store": {"shard": SHARD, "chunk": CHUNK}}, "benchmark")
    register(config, [])
    ingest(config, "image")


def tensorstore(kind: str, source: Path, out: Path, five: bool = False) -> None:
    """Write shard by shard with tensorstore, which syncs every file as cvdm does; pyramid in the same pass.

    The store has the axes (plane, Y, X) and a shard a plane, or with `five` those of cvdm: (T, C, Z, Y, X), small planes in shared shards.
    """
    number, height, width = size_of(source)
    many = (number, 1, 1) if kind == "files" else (1, 1, number)
    front = many if five else (number,)
    ones = [1] * len(front)
    together = [planes_together(number, height >> level, width >> level) if five else 1 for level in range(level_count(height, width))]
    stores, opened = [], {}
    for level, planes in enumerate(together):
        packed = {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "typesize": 2, "blocksize": BLOCK}
        inner = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "blosc", "configuration": packed}, {"name": "crc32c"}]
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {"chunk_shape": [*ones, CHUNK, CHUNK], "codecs": inner, "index_codecs": index, "index_location": "end"}
        metadata = {
            "shape": [*front, height >> level, width >> level],
            "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [*(min(size, planes) for size in front), SHARD, SHARD]}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        }
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(out / "image.zarr" / str(level))}, "metadata": metadata}
        context = ts.Context({"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}})
        stores.append(ts.open(spec, create=True, context=context).result())
    for level, plane, top, left, pixels in whole_shards(blocks(source), (number, height, width)):
        first = plane // together[level] * together[level]
        group = opened.setdefault((level, first, top, left), [])
        group.append(pixels)
        if len(group) == min(together[level], number - first):
            place = (slice(first, first + len(group)) if size > 1 else 0 for size in front)
            yx = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
            whole = opened.pop((level, first, top, left))
            stores[level][(*place, *yx)].write(np.stack(whole) if len(whole) > 1 else pixels[None] if number > 1 else pixels).result()


def planes_together(number: int, height: int, width: int) -> int:
    """Return how many planes of a level share a shard of cvdm (`Layout.planes`)."""
    rows, columns, across = -(-height // CHUNK), -(-width // CHUNK), SHARD // CHUNK
    room = 1 if max(rows, columns) > across else across**2 // (rows * columns)
    return min(1 << room.bit_length() - 1, 1 << (number - 1).bit_length())


def tensorstore_tczyx(kind: str, source: Path, out: Path) -> None:
    """Write the very store that cvdm writes."""
    tensorstore(kind, source, out, five=True)


def ngff_zarr(kind: str, source: Path, out: Path) -> None:
    """ngff-zarr with its exact 2x2 mean; it chooses codec and level itself (zstd without shuffle)."""
    image = nz.to_ngff_image(_lazy(source), dims=["z", "y", "x"], scale={"z": 1.0, "y": 0.1, "x": 0.1})
    _, height, width = size_of(source)
    factors = [{"z": 1, "y": 2**level, "x": 2**level} for level in range(1, level_count(height, width))]
    chunks = {"z": 1, "y": CHUNK, "x": CHUNK}
    multiscales = nz.to_multiscales(image, scale_factors=factors, chunks=chunks, method=nz.Methods.ITKWASM_BIN_SHRINK)
    assert isinstance(multiscales.images[0].data, da.Array)
    nz.to_ngff_zarr(str(out / "image.zarr"), multiscales, version="0.5", chunks_per_shard=SHARD // CHUNK)


def ome_zarr(kind: str, source: Path, out: Path) -> None:
    """ome-zarr-py, through dask, with its mean."""
    _, height, width = size_of(source)
    group = zarr.open_group(out / "image.zarr", mode="w", zarr_format=3)
    options = {
        "chunks": (1, CHUNK, CHUNK),
        "shards": (1, SHARD, SHARD),
        "compressors": [BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", blocksize=BLOCK)],
    }
    factors = [{"z": 1, "y": 2**level, "x": 2**level} for level in range(1, level_count(height, width))]
    write_image(_lazy(source), group, axes="zyx", scale_factors=factors, method=Methods.LOCAL_MEAN, storage_options=options)


def bioio(kind: str, source: Path, out: Path) -> None:
    """bioio: its OME-Zarr writer with its compressor, from the same lazy array."""
    number, height, width = size_of(source)
    shapes = [(number, height >> level, width >> level) for level in range(level_count(height, width))]
    writer = OMEZarrWriter(
        store=str(out / "image.zarr"), level_shapes=shapes, dtype=np.dtype(np.uint16), zarr_format=3, axes_names=["z", "y", "x"],
        axes_types=["space"] * 3, chunk_shape=(1, CHUNK, CHUNK), shard_shape=(1, SHARD, SHARD),
    )  # fmt: skip
    writer.write_full_volume(_lazy(source))


def _lazy(source: Path) -> Any:
    dask.config.set(scheduler="threads", num_workers=1)
    store: Any = tifffile.imread(sorted(source.iterdir()), aszarr=True) if source.is_dir() else tifffile.imread(source, aszarr=True)
    array = zarr.open(store, mode="r")
    array = array if hasattr(array, "shape") else array["0"]
    lazy = da.from_zarr(array) if array.ndim == 3 else da.from_zarr(array)[None]
    return lazy.rechunk((1, min(SHARD, lazy.shape[1]), min(SHARD, lazy.shape[2])))


def check(kind: str, source: Path, out: Path) -> None:
    """Compare every pixel of level 0 with the TIFF."""
    stores = [
        out / "image.zarr" / "0",
        out / "image.zarr" / "s0",
        out / "image.zarr" / "scale0" / "image",
        out / "results/image/raw.ome.zarr/0",
    ]
    found = next(path for path in stores if path.is_dir())
    array = zarr.open_array(found, mode="r")
    for number, top, left, plane in blocks(source):
        at = (number, slice(top, top + plane.shape[0]), slice(left, left + plane.shape[1]))
        axes = (number, 0, 0, *at[1:]) if array.shape[0] > 1 and array.ndim == 5 else (0, 0, number, *at[1:])
        if not np.array_equal(array[at if array.ndim == 3 else axes], plane):
            raise SystemExit(f"{found}: pixels differ in plane {number} at {top}, {left}")


WAYS = {
    "floor": floor,
    "hashes": hashes,
    "cvdm": cvdm,
    "tensorstore": tensorstore,
    "tensorstore-tczyx": tensorstore_tczyx,
    "ngff-zarr": ngff_zarr,
    "ome-zarr": ome_zarr,
    "bioio": bioio,
    "check": check,
}


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main(way: str, kind: str, source: str, out: str) -> None:
    begin = _cpu()
    counted = WAYS[way](kind, Path(source), Path(out))
    print(_cpu() - begin if counted is None else counted)


if __name__ == "__main__":
    # Imported here, so that the time of each way's imports can be told from that of its work.
    way = sys.argv[1]
    if way == "floor":
        from numcodecs import Blosc, blosc

        blosc.use_threads = False
    elif way == "hashes":
        from cvdm_core.files import checksum_file
        from cvdm_core.records.receipts import sha256_file
    elif way == "cvdm":
        from cvdm_core.acquisitions.ingest import ingest
        from cvdm_core.acquisitions.register import register
        from cvdm_core.config import parse
        from cvdm_core.sheet import Acquisition, write_sheet
    elif way.startswith("tensorstore"):
        import tensorstore as ts
    else:
        import dask
        import dask.array as da
        import zarr
        from zarr.codecs import BloscCodec

        if way == "ngff-zarr":
            import ngff_zarr as nz
        elif way == "ome-zarr":
            from ome_zarr.scale import Methods
            from ome_zarr.writer import write_image
        elif way == "bioio":
            from bioio_ome_zarr.writers import OMEZarrWriter
    main(*sys.argv[1:])
