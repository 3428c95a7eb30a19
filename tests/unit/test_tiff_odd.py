"""Odd and hostile TIFFs, none of them rare in microscopy: each comes in exactly, or gives one sentence at once and in little memory."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tiff_dialects import pixels, read_all

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import open_planes, read_header

Array = np.ndarray[Any, Any]


def raw_tiff(entries: list[tuple[int, int, int, int]], byteorder: str = "<") -> bytes:
    """Header and one page of a TIFF; texts and pixels are put behind it by the caller."""
    table = b""
    for tag, kind, count, value in sorted(entries):
        short = kind == 3 and count == 1
        table += struct.pack(f"{byteorder}HHI", tag, kind, count)
        table += struct.pack(f"{byteorder}HH", value, 0) if short else struct.pack(f"{byteorder}I", value)
    magic = {"<": b"II*\0", ">": b"MM\0*"}[byteorder]
    return magic + struct.pack(f"{byteorder}I", 8) + struct.pack(f"{byteorder}H", len(entries)) + table + bytes(4)


def grey(height: int, width: int, bits: int, stored: int, at: int) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, at),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, stored),
    ]  # fmt: skip


def packed(path: Path, bits: int) -> Array:
    """Pixels of some bits, packed without gaps; rows begin with a byte."""
    array = pixels(20, 30) % 2**bits
    unpacked = (array[..., None] >> np.arange(bits)[::-1]) & 1
    data = np.packbits(unpacked.reshape(20, -1).astype("uint8"), axis=1).tobytes()
    path.write_bytes(raw_tiff(grey(20, 30, bits, len(data), 200)).ljust(200, b"\0") + data)
    return array.astype("uint8" if bits < 8 else "uint16")


def planar(path: Path) -> Array:
    array = pixels(2, 3, 20, 30)
    tifffile.imwrite(path, array, photometric="rgb", planarconfig="separate", rowsperstrip=7, metadata={"axes": "TSYX"})
    return array[:, :, None]


def alpha(path: Path) -> Array:
    array = pixels(20, 30, 4, dtype="uint8")
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"], compression="lzw", tile=(16, 16))
    return np.moveaxis(array, -1, 0)[None, :, None]


def pyramid(path: Path) -> Array:
    array = pixels(2, 3, 70, 90)
    options: dict[str, Any] = {"tile": (32, 32), "photometric": "minisblack", "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True, byteorder=">") as file:
        file.write(array, subifds=2, metadata={"axes": "TCYX"}, **options)
        for step in (2, 4):
            file.write(array[..., ::step, ::step], subfiletype=1, **options)
    return array[:, :, None]


def flat_pyramid(path: Path) -> Array:
    array = pixels(70, 90)
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2, 4):
            file.write(array[::step, ::step], subfiletype=int(step > 1), tile=(32, 32), photometric="minisblack", metadata=None)
    return array[None, None, None]


def imagej_tail(path: Path) -> Array:
    """What ImageJ writes above 4 GB: one page, and the other planes behind it without pages of their own."""
    array = pixels(2, 3, 20, 30)
    text = b"ImageJ=1.53c\nimages=6\nslices=3\nframes=2\nhyperstack=true\nunit=micron\nspacing=0.5\n\0"
    page = raw_tiff([*grey(20, 30, 16, 20 * 30 * 2, 400), (270, 2, len(text), 200)], ">")
    path.write_bytes(page.ljust(200, b"\0") + text.ljust(200, b"\0") + array.astype(">u2").tobytes())
    return array[:, None]


def scanimage(path: Path) -> Array:
    array = pixels(7, 20, 30, dtype="int16")
    with tifffile.TiffWriter(path) as file:
        for plane in array:
            file.write(plane, photometric="minisblack", description="state.configName='scan'", metadata=None, contiguous=False)
    return array


ODD: dict[str, Callable[[Path], Array]] = {
    "1 bit": lambda path: packed(path, 1).astype(bool), "2 bit": lambda path: packed(path, 2), "4 bit": lambda path: packed(path, 4),
    "10 bit": lambda path: packed(path, 10), "12 bit": lambda path: packed(path, 12), "14 bit": lambda path: packed(path, 14),
    "planar": planar, "alpha": alpha, "pyramid": pyramid, "flat pyramid": flat_pyramid, "imagej tail": imagej_tail,
    "ScanImage 3": scanimage,
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_odd_layouts_come_in_exactly(tmp_path: Path, kind: str) -> None:
    expected = ODD[kind](tmp_path / "a.tif")
    with open_planes(tmp_path / "a.tif") as planes:
        planes.check_complete()
        found = read_all(planes)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.squeeze(), expected.squeeze())


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}], ids=str)
def test_every_number_type_in_both_byte_orders(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    array = (pixels(20, 30).astype("int64") - (0 if dtype[0] == "u" else 2000)).astype(dtype)
    used = {name: value for name, value in options.items() if name != "predictor" or dtype not in ("int64", "uint64")}  # not written
    for byteorder in "<>":
        tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, photometric="minisblack", **used)
        with open_planes(tmp_path / "a.tif") as planes:
            found = read_all(planes)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found[0, 0, 0], array)


LOSSLESS = {"jpegxl": {"lossless": True}, "webp": {"lossless": True}, "jpeg2000": {"reversible": True}}


@pytest.mark.parametrize("codec", ["lzw", "zlib", "packbits", "lzma", "zstd", "lerc", "jpegxl", "jpeg2000", "jpegxr", "png", "webp"])
@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}], ids=str)
def test_every_codec(tmp_path: Path, codec: str, options: dict[str, Any]) -> None:
    array, photometric = (pixels(40, 50, 3, dtype="uint8"), "rgb") if codec == "webp" else (pixels(40, 50), "minisblack")
    arguments = {"compressionargs": LOSSLESS[codec]} if codec in LOSSLESS else {}
    tifffile.imwrite(tmp_path / "a.tif", array, compression=codec, photometric=photometric, **arguments, **options)
    with open_planes(tmp_path / "a.tif") as planes:
        np.testing.assert_array_equal(read_all(planes)[0, :, 0].squeeze(), np.moveaxis(array, -1, 0) if array.ndim == 3 else array)


def test_an_imagej_stack_above_4_gib_is_read_to_its_end(tmp_path: Path) -> None:
    text = b"ImageJ=1.53c\nimages=5000\nslices=5000\nunit=micron\nspacing=0.5\n\0"
    page = raw_tiff([*grey(1000, 1000, 8, 10**6, 400), (270, 2, len(text), 200)], ">")
    (tmp_path / "a.tif").write_bytes(page.ljust(200, b"\0") + text)
    os.truncate(tmp_path / "a.tif", 400 + 5 * 10**9)  # a hole: nothing of it is on the disk
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\x07\x09")
    with open_planes(tmp_path / "a.tif") as planes:
        planes.check_complete()
        assert planes.header.shape == (1, 1, 5000, 1000, 1000)
        assert planes.read(0, 0, 4999, slice(999, 1000), slice(997, 1000)).tolist() == [[0, 7, 9]]


def set_tags(path: Path, **values: int) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in values.items():
            file.pages[0].tags[name].overwrite(value)


def too_large_strip(path: Path) -> None:
    tifffile.imwrite(path, pixels(20, 30), bigtiff=True, compression="zlib")
    set_tags(path, ImageLength=2**21, ImageWidth=3 * 2**18, RowsPerStrip=2**21)


def too_large_tile(path: Path) -> None:
    tifffile.imwrite(path, pixels(20, 30), bigtiff=True, compression="zlib", tile=(32, 32))
    set_tags(path, ImageLength=2**21, ImageWidth=3 * 2**18, TileLength=2**21, TileWidth=3 * 2**18)


def bomb(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((21_000, 20_000), "uint8"), compression="zlib", rowsperstrip=21_000)


def entities(path: Path) -> None:
    declared = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    text = f'<?xml version="1.0"?><!DOCTYPE O [<!ENTITY a "aaaaaaaaaa">{declared}]>'
    text += '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">&j;</OME>'
    tifffile.imwrite(path, pixels(20, 30), metadata=None, description=text)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "3 TiB in strips": (too_large_strip, "declares 3,298,534,883,328 bytes"),
    "3 TiB in one tile": (too_large_tile, "declares 3,298,534,883,328 bytes"),
    "a bomb of one strip": (bomb, "stored in pieces of 420,000,000 bytes"),
    "entities": (entities, "its OME-XML is not readable"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_declares_too_much_gives_one_sentence_at_once(tmp_path: Path, kind: str) -> None:
    write, words = HOSTILE[kind]
    write(tmp_path / "a.tif")
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(UserError, match=words) as caught:
        read_header(tmp_path / "a.tif")
    assert "\n" not in str(caught.value) and time.perf_counter() - begin < 10
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
