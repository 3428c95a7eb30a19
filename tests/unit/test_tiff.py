"""TIFF files come in with their pixels, axes and calibration, or with one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import TiffPlanes, open_planes, read_header
from cvdm_core.images.tiff_metadata import MICROMETRES

ZOO = Path(os.environ.get("CVDM_REAL_DATA", "../shared/data")) / "tiff_zoo"
REUSE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pixels(*shape: int, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(dtype)


def read_all(planes: TiffPlanes) -> np.ndarray[Any, Any]:
    t, c, z, y, x = planes.header.shape
    whole = [planes.read(i, j, k, slice(0, y), slice(0, x)) for i in range(t) for j in range(c) for k in range(z)]
    return np.stack(whole).reshape(planes.header.shape)


# name: (array as written, options of tifffile.imwrite, order of its axes that gives (T, C, Z, Y, X))
DIALECTS: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any], str]] = {
    "ome": (pixels(2, 3, 4, 20, 30), {"ome": True, "metadata": {"axes": "TCZYX"}}, "TCZYX"),
    "ome, z outside c": (pixels(4, 2, 20, 30), {"ome": True, "metadata": {"axes": "ZCYX"}}, "ZCYX"),
    "imagej": (pixels(2, 4, 3, 20, 30), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "TZCYX"),
    "imagej, compressed pages": (pixels(4, 20, 30), {"imagej": True, "compression": "zlib", "metadata": {"axes": "ZYX"}}, "ZYX"),
    "bigtiff": (pixels(3, 20, 30), {"bigtiff": True, "ome": True, "metadata": {"axes": "CYX"}}, "CYX"),
    "big-endian": (pixels(3, 20, 30), {"byteorder": ">", "metadata": {"axes": "ZYX"}}, "ZYX"),
    "tiles": (pixels(2, 70, 90), {"tile": (32, 48), "ome": True, "metadata": {"axes": "CYX"}}, "CYX"),
    "tiles, lzw": (pixels(70, 90), {"tile": (16, 16), "compression": "lzw", "predictor": True}, "YX"),
    "strips, zstd": (pixels(70, 90), {"rowsperstrip": 7, "compression": "zstd"}, "YX"),
    "strips": (pixels(3, 70, 90), {"rowsperstrip": 9, "metadata": None}, "TYX"),
    "pages": (pixels(5, 20, 30), {"metadata": None}, "TYX"),
    "rgb": (pixels(20, 30, 3, dtype="uint8"), {"photometric": "rgb", "metadata": None}, "YXC"),
    "rgb, planar": (pixels(3, 20, 30, dtype="uint8"), {"photometric": "rgb", "planarconfig": "separate", "metadata": None}, "CYX"),
    "rgb in time": (pixels(4, 20, 30, 3, dtype="uint8"), {"ome": True, "photometric": "rgb", "metadata": {"axes": "TYXS"}}, "TYXC"),
    "float32": (pixels(20, 30, dtype="float32") / 7, {"compression": "zlib", "predictor": 3}, "YX"),
    "signed": (pixels(20, 30, dtype="int16") - 2000, {}, "YX"),
}


def write(path: Path, dialect: str) -> np.ndarray[Any, Any]:
    """Write a file of a dialect and return its pixels as (T, C, Z, Y, X)."""
    array, options, axes = DIALECTS[dialect]
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    ordered = array.transpose([axes.index(axis) for axis in "TCZYX" if axis in axes])
    return ordered[tuple(slice(None) if axis in axes else None for axis in "TCZYX")]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_comes_in_with_its_pixels(tmp_path: Path, dialect: str) -> None:
    expected = write(tmp_path / "a.tif", dialect)
    with open_planes(tmp_path / "a.tif") as planes:
        planes.check_complete()
        assert planes.header.shape == expected.shape
        assert planes.header.dtype == expected.dtype and planes.header.dtype.isnative
        np.testing.assert_array_equal(read_all(planes), expected)


@pytest.mark.parametrize("dialect", ["tiles", "tiles, lzw", "strips, zstd", "strips", "imagej", "rgb", "big-endian"])
@REUSE
@given(data=st.data())
def test_any_region_equals_that_part_of_the_whole(tmp_path: Path, dialect: str, data: st.DataObject) -> None:
    expected = write(tmp_path / "a.tif", dialect)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in expected.shape[3:]]
    t, c, z = (data.draw(st.integers(0, size - 1)) for size in expected.shape[:3])
    y, x = (slice(*bound) for bound in bounds)
    with open_planes(tmp_path / "a.tif") as planes:
        np.testing.assert_array_equal(planes.read(t, c, z, y, x), expected[t, c, z, y, x])


def test_a_region_reads_only_the_tiles_that_it_touches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tif", "tiles, lzw")
    with open_planes(tmp_path / "a.tif") as planes:
        reads: list[int] = []
        pread = os.pread
        monkeypatch.setattr(os, "pread", lambda *args: reads.append(args[1]) or pread(*args))
        planes.read(0, 0, 0, slice(20, 40), slice(0, 16))
        assert len(reads) == 2
        planes.read(0, 0, 0, slice(20, 40), slice(0, 17))
        assert len(reads) == 4  # two more tiles; the first two were kept


def test_the_header_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tif", "tiles, lzw")

    def refuse(*_: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(TiffPlanes, "read", refuse)
    monkeypatch.setattr(os, "pread", refuse)
    assert read_header(tmp_path / "a.tif").shape == (1, 1, 1, 70, 90)


def test_pages_that_nothing_describes_are_what_the_caller_says(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", "pages")
    assert read_header(tmp_path / "a.tif").shape == (5, 1, 1, 20, 30)
    assert read_header(tmp_path / "a.tif", pages="z").shape == (1, 1, 5, 20, 30)
    assert read_header(tmp_path / "a.tif").undeclared
    write(tmp_path / "b.tif", "imagej")
    assert read_header(tmp_path / "b.tif", pages="z").shape == (2, 3, 4, 20, 30)
    assert not read_header(tmp_path / "b.tif").undeclared


def write_ome(path: Path, **metadata: Any) -> None:
    tifffile.imwrite(path, pixels(2, 3, 8, 8), ome=True, metadata={"axes": "CZYX", **metadata})


@pytest.mark.parametrize("unit", ["nm", "µm", "mm", "cm", "m", "pm", "Å", "in", "pt", "thou", "dm"])
def test_every_length_unit_of_ome_is_converted(tmp_path: Path, unit: str) -> None:
    value = 0.123 / MICROMETRES[unit]
    keys = {f"PhysicalSize{axis}": value for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    write_ome(tmp_path / "a.ome.tif", **keys)
    header = read_header(tmp_path / "a.ome.tif")
    assert header.pixel_size_um == pytest.approx((0.123, 0.123))
    assert header.z_step_um == pytest.approx(0.123)


def test_lengths_agree_with_the_definitions_of_their_units() -> None:
    assert MICROMETRES["in"] == 25_400 and MICROMETRES["pt"] == pytest.approx(25_400 / 72) and MICROMETRES["Å"] == pytest.approx(1e-4)
    assert MICROMETRES["thou"] == 25.4 and MICROMETRES["nm"] == 1e-3 and MICROMETRES["mi"] == pytest.approx(1.609344e9)


def test_channels_optics_and_times_come_from_ome(tmp_path: Path) -> None:
    channel = {"Name": ["DAPI", "GFP;x"], "EmissionWavelength": [460.0, 0.525], "EmissionWavelengthUnit": ["nm", "µm"]}
    metadata = {"axes": "TCYX", "TimeIncrement": 500.0, "TimeIncrementUnit": "ms", "Channel": channel}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(2, 2, 8, 8), ome=True, metadata=metadata)
    text = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    optics = (
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.4"/><Objective ID="Objective:1" LensNA="0.5"/></Instrument>'
    )
    text = text.replace("<Image ", optics + "<Image ", 1).replace("<Pixels", '<ObjectiveSettings ID="Objective:0"/><Pixels', 1)
    tifffile.tiffcomment(tmp_path / "a.ome.tif", text.encode())
    header = read_header(tmp_path / "a.ome.tif")
    assert header.channels == ("DAPI", "GFP,x")  # `;` stands between names in the sheet
    assert header.emission_nm == pytest.approx((460, 525))
    assert header.time_step_s == pytest.approx(0.5)
    assert header.na == 1.4


def test_channel_names_are_complete_and_differ(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tif", Channel={"Name": ["GFP", "GFP"]})
    assert read_header(tmp_path / "a.ome.tif").channels == ("GFP", "GFP_1")
    write_ome(tmp_path / "b.ome.tif")
    assert read_header(tmp_path / "b.ome.tif").channels == ("channel_0", "channel_1")
    write(tmp_path / "c.tif", "rgb")
    assert read_header(tmp_path / "c.tif").channels == ("red", "green", "blue")


IMAGEJ = {"imagej": True}
CALIBRATED: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "imagej micron": ({**IMAGEJ, "resolution": (10, 5), "metadata": {"unit": "micron"}}, (0.2, 0.1)),
    "imagej um": ({**IMAGEJ, "resolution": (8, 8), "metadata": {"unit": "um"}}, (0.125, 0.125)),
    "imagej escaped": ({**IMAGEJ, "resolution": (8, 8), "metadata": {"unit": "\\u00B5m"}}, (0.125, 0.125)),
    "imagej nm": ({**IMAGEJ, "resolution": (0.01, 0.01), "metadata": {"unit": "nm"}}, (0.1, 0.1)),
    "tags, cm": ({"resolution": (1e5, 1e5), "resolutionunit": "CENTIMETER"}, (0.1, 0.1)),
    "tags, inch": ({"resolution": (254_000, 254_000), "resolutionunit": "INCH"}, (0.1, 0.1)),
}


@pytest.mark.parametrize("case", CALIBRATED)
def test_a_real_pixel_size_is_found(tmp_path: Path, case: str) -> None:
    options, expected = CALIBRATED[case]
    tifffile.imwrite(tmp_path / "a.tif", pixels(8, 8), **options)
    header = read_header(tmp_path / "a.tif")
    assert header.pixel_size_um == pytest.approx(expected, rel=1e-5) and header.pixel_size_reason == ""


IMPLAUSIBLE: dict[str, dict[str, Any]] = {
    "none": {},
    "72 dpi": {"resolution": (72, 72), "resolutionunit": "INCH"},
    "96 dpi": {"resolution": (96, 96), "resolutionunit": "INCH"},
    "300 dpi in cm": {"resolution": (118.11, 118.11), "resolutionunit": "CENTIMETER"},
    "2400 dpi": {"resolution": (2400, 2400), "resolutionunit": "INCH"},
    "1 um, a default": {"resolution": (10_000, 10_000), "resolutionunit": "CENTIMETER"},
    "no unit": {"resolution": (10, 10), "resolutionunit": "NONE"},
    "imagej, no unit": {**IMAGEJ, "resolution": (10, 10)},
    "imagej, pixels": {**IMAGEJ, "resolution": (10, 10), "metadata": {"unit": "pixel"}},
    "imagej, unit without resolution": {**IMAGEJ, "metadata": {"unit": "um"}},
    "imagej, 300 dpi": {**IMAGEJ, "resolution": (300, 300), "metadata": {"unit": "inch"}},
    "imagej, 1.5 mm": {**IMAGEJ, "resolution": (2 / 3, 2 / 3), "metadata": {"unit": "mm"}},
    "ome, none": {"ome": True},
    "ome, 1 without unit": {"ome": True, "metadata": {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}},
    "ome, 0": {"ome": True, "metadata": {"PhysicalSizeX": 0.0, "PhysicalSizeY": 0.0, "PhysicalSizeXUnit": "µm"}},
    "ome, only x": {"ome": True, "metadata": {"PhysicalSizeX": 0.1}},
    "ome, pixels": {"ome": True, "metadata": {f"PhysicalSize{axis}{end}": v for axis in "XY" for end, v in (("", 0.1), ("Unit", "pixel"))}},
}


@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_an_implausible_pixel_size_is_none_with_a_reason(tmp_path: Path, case: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(8, 8), **IMPLAUSIBLE[case])
    header = read_header(tmp_path / "a.tif")
    assert header.pixel_size_um is None
    assert header.pixel_size_reason


def test_what_is_no_tiff_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("hello")
    (tmp_path / "short.tif").write_bytes(b"II*\0")
    os.mkfifo(tmp_path / "pipe.tif")
    expected = {
        "missing.tif": "no such file",
        "empty.tif": "empty",
        "text.tif": "not a TIFF",
        "short.tif": "short.tif",
        ".": "folder",
        "pipe.tif": "pipe",
    }
    for name, words in expected.items():
        with pytest.raises(UserError, match=words) as caught:
            read_header(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, dialect: str) -> None:
    expected = write(tmp_path / "whole.tif", dialect)
    data = (tmp_path / "whole.tif").read_bytes()
    for length in {*range(1, len(data), max(1, len(data) // 40)), len(data) - 1, len(data) // 2}:
        (tmp_path / "cut.tif").write_bytes(data[:length])
        try:
            with open_planes(tmp_path / "cut.tif") as planes:
                planes.check_complete()
                found = read_all(planes)
        except UserError:
            continue
        # A tail of padding or of metadata that is not needed may be lost without harm, pixels may not.
        np.testing.assert_array_equal(found, expected, err_msg=f"cut at {length} of {len(data)}")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_damage_anywhere_raises_nothing_but_a_user_error(tmp_path: Path, dialect: str) -> None:
    write(tmp_path / "whole.tif", dialect)
    data = (tmp_path / "whole.tif").read_bytes()
    dice = random.Random(dialect)
    tracemalloc.start()
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(dice.choice([1, 4])):
            # mostly in the first bytes, where tifffile writes the header and the tags
            damaged[dice.randrange(min(len(data), dice.choice([300, len(data)])))] = dice.randrange(256)
        (tmp_path / "damaged.tif").write_bytes(damaged)
        try:
            with open_planes(tmp_path / "damaged.tif") as planes:
                planes.check_complete()
        except UserError as error:
            assert "damaged.tif" in str(error) and "\n" not in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6


def set_tag(path: Path, tag: str, value: int) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value)


@pytest.mark.parametrize("dialect", ["tiles, lzw", "strips, zstd", "pages", "float32", "big-endian"])
def test_declared_sizes_are_compared_before_anything_is_allocated(tmp_path: Path, dialect: str) -> None:
    write(tmp_path / "a.tif", dialect)
    set_tag(tmp_path / "a.tif", "ImageLength", 2**31 - 1)
    tracemalloc.start()
    with pytest.raises(UserError):
        read_header(tmp_path / "a.tif")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def edit_ome(path: Path, old: str, new: str) -> None:
    text = tifffile.tiffcomment(path)
    assert old in text
    tifffile.tiffcomment(path, text.replace(old, new).encode())


def test_ome_that_declares_more_planes_than_there_are_is_refused(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tif")
    edit_ome(tmp_path / "a.ome.tif", 'SizeZ="3"', 'SizeZ="3000000000"')
    with pytest.raises(UserError, match="declares 6,000,000,000 planes and holds 6"):
        read_header(tmp_path / "a.ome.tif")


def test_an_imagej_stack_that_declares_more_planes_than_there_are_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", "imagej")
    text = tifffile.tiffcomment(tmp_path / "a.tif").replace("slices=4", "slices=9")
    tifffile.tiffcomment(tmp_path / "a.tif", text.encode())
    with pytest.raises(UserError, match="declares 54 planes"):
        read_header(tmp_path / "a.tif")


def test_an_ome_file_that_was_renamed_is_read_alone(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tif")
    uuid = '<UUID FileName="before.ome.tif">urn:uuid:00000000-0000-4000-8000-000000000000</UUID>'
    text = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    start, end = text.index("<TiffData"), text.index("/>", text.index("<TiffData"))
    tifffile.tiffcomment(tmp_path / "a.ome.tif", (text[:end] + f">{uuid}</TiffData>" + text[end + 2 :]).encode())
    assert start < end
    shutil.copy(tmp_path / "a.ome.tif", tmp_path / "before.ome.tif")
    set_tag(tmp_path / "before.ome.tif", "ImageLength", 4)  # going there would show
    assert read_header(tmp_path / "a.ome.tif").shape == (1, 2, 3, 8, 8)


def test_sets_of_files_and_companions_are_refused(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tif")
    uuids = "".join(f'<TiffData><UUID FileName="{name}.tif">urn:uuid:{name}</UUID></TiffData>' for name in "ab")
    edit_ome(tmp_path / "a.ome.tif", "<TiffData", uuids + "<TiffData")
    with pytest.raises(UserError, match=r"one of 2 files of a set \(a\.tif, b\.tif"):
        read_header(tmp_path / "a.ome.tif")
    write_ome(tmp_path / "b.ome.tif")
    edit_ome(tmp_path / "b.ome.tif", "<Image ", '<BinaryOnly MetadataFile="x"/><Image ')
    with pytest.raises(UserError, match="companion"):
        read_header(tmp_path / "b.ome.tif")


def test_positions_are_refused_and_further_images_counted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 8, 8), photometric="minisblack", metadata={"axes": "RYX"})
    with pytest.raises(UserError, match="several images along tile"):
        read_header(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.ome.tif", ome=True) as file:
        file.write(pixels(8, 8), metadata={"axes": "YX"})
        file.write(pixels(8, 8), metadata={"axes": "YX"})
    assert read_header(tmp_path / "b.ome.tif").further_images == 1


def test_a_chain_of_pages_that_leaves_the_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", "pages")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        last = file.pages[4].offset
        entries = len(file.pages[4].tags)
    with (tmp_path / "a.tif").open("r+b") as raw:
        raw.seek(last + 2 + 12 * entries)
        raw.write(struct.pack("<I", 2**31))
    with pytest.raises(UserError, match="after 5 pages"):
        read_header(tmp_path / "a.tif")


@pytest.mark.real_data
def test_the_zoo_comes_in_with_its_pixels_and_its_damaged_files_with_a_sentence() -> None:
    if not (ZOO / "expected.json").exists():
        pytest.skip(f"there is no {ZOO}; set CVDM_REAL_DATA")
    wrong = []
    for name, expected in json.loads((ZOO / "expected.json").read_text()).items():
        try:
            with open_planes(ZOO / name) as planes:
                planes.check_complete()
                found = read_all(planes)
        except UserError as error:
            if expected["status"] == "ok" and "several images along" not in str(error):
                wrong.append(str(error))
            continue
        if expected["status"] != "ok" or _hash(found, expected["series"][0]) != expected["first_series_sha256_c_order_le"]:
            wrong.append(f"{name}: other pixels")
    assert not wrong


def _hash(image: np.ndarray[Any, Any], series: dict[str, Any]) -> str:
    """Bring (T, C, Z, Y, X) to the axes of the file and hash as expected.json does."""
    axes, shape = series["axes"], series["shape"]
    wanted = ["TCZYX".index({"S": "C", "I": "T", "Q": "T"}.get(axis, axis)) for axis in series["axes"]]
    moved = image.transpose([*sorted(set(range(5)) - set(wanted)), *wanted]).reshape(series["shape"])
    return hashlib.sha256(np.ascontiguousarray(moved, moved.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]
