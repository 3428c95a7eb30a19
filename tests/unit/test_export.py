"""A store as one file: the same pixels, the right sizes, whole or not at all, in bounded memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from store_faults import FAULTS
from store_tree import digests, fill, info, pixels, settings
from typer.testing import CliRunner

from cvdm_core.cli import app
from cvdm_core.errors import UserError
from cvdm_core.images import ome_tiff
from cvdm_core.images.export import export
from cvdm_core.images.omezarr_metadata import write_metadata, write_ome_xml
from cvdm_core.images.tiff import open_planes

SHAPE = (2, 2, 2, 40, 35)
KNOWN: dict[str, Any] = {"pixel_size_um": (0.11, 0.13), "z_step_um": 0.3, "time_step_s": 2.5}


def make_store(folder: Path, dtype: str = "uint16", version: str = "0.5", **changes: Any) -> tuple[Path, np.ndarray]:
    array = pixels(SHAPE, dtype)
    store = fill(folder / "cells.ome.zarr", array, settings(format=version), **(KNOWN | changes))
    return store, array


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an image inside and the microscope's OME-XML."""
    store, array = make_store(tmp_path_factory.mktemp("restored"), "float32")
    fill(store, array + 1, settings(), "std", **KNOWN)
    write_ome_xml(store, "<OME/>")
    return store


def read_tiff(path: Path) -> tuple[np.ndarray, Any]:
    """Read a file with our own reader, in pieces that cut across its tiles."""
    with open_planes(path) as planes:
        found = np.zeros(planes.header.shape, planes.header.dtype)
        rows, columns = planes.header.shape[3:]
        for place in np.ndindex(*planes.header.shape[:3]):
            for y in (slice(0, 23), slice(23, rows)):
                found[(*place, y)] = planes.read(*place, y, slice(0, columns))
        return found, planes.header


@pytest.mark.parametrize(
    ("dtype", "version"),
    [("uint8", "0.5"), ("uint16", "0.5"), ("uint16", "0.4"), ("int16", "0.5"), ("float32", "0.5"), ("float32", "0.4"), ("float64", "0.5")],
)
def test_an_ome_tiff_has_the_stores_pixels_and_sizes(tmp_path: Path, dtype: str, version: str) -> None:
    store, array = make_store(tmp_path, dtype, version)
    export(store, tmp_path / "out.ome.tif")
    found, header = read_tiff(tmp_path / "out.ome.tif")
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert header.pixel_size_um == (0.11, 0.13)
    assert (header.z_step_um, header.time_step_s) == (0.3, 2.5)
    assert header.channels == ("channel 0", "channel 1")
    assert not header.further


@pytest.mark.parametrize("shape", [(1, 1, 1, 64, 1), (1, 2, 1, 40, 3), (2, 1, 3, 1, 33), (1, 1, 1, 1, 1)])
def test_images_of_few_rows_or_columns_are_right_at_every_level(tmp_path: Path, shape: tuple[int, ...]) -> None:
    store = fill(tmp_path / "cells.ome.zarr", pixels(shape), settings())
    export(store, tmp_path / "out.ome.tif")
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        for number, level in enumerate(tiff.series[0].levels):
            wanted = zarr.open_array(store / str(number), mode="r")
            np.testing.assert_array_equal(level.asarray(squeeze=False).reshape(wanted.shape), wanted[:])


def test_the_levels_are_the_stores_levels(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path)
    export(store, tmp_path / "out.ome.tif")
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        (series,) = tiff.series
        assert not tiff.is_bigtiff
        assert series.axes == "TCZYX"
        assert series.keyframe.tile == (16, 16)
        assert len(series.levels) == 3
        for number, level in enumerate(series.levels):
            np.testing.assert_array_equal(level.asarray(), zarr.open_array(store / str(number), mode="r")[:])
            x, unit = level.keyframe.tags["XResolution"].value, level.keyframe.tags["ResolutionUnit"].value
            assert unit == tifffile.RESUNIT.CENTIMETER
            assert x[0] / x[1] == pytest.approx(1e4 / (0.13 * 2**number), rel=1e-6)


def test_names_from_files_survive_and_unknown_steps_are_left_out(tmp_path: Path) -> None:
    name = "Ä<b>&\"'</Channel>"
    array = pixels((1, 1, 1, 40, 40))
    store = fill(tmp_path / "a.ome.zarr", array, settings())
    write_metadata(store, "", replace(info(name=name, attributes={"model": name}), channels=(name,)))
    export(store, tmp_path / "out.tiff")
    _, header = read_tiff(tmp_path / "out.tiff")
    assert header.channels == (name,)
    with tifffile.TiffFile(tmp_path / "out.tiff") as tiff:
        image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    assert image["Name"] == name
    assert json.loads(image["Description"])["cvdm"]["model"] == name
    assert not {"PhysicalSizeZ", "TimeIncrement"} & set(image["Pixels"])


@pytest.mark.parametrize("ending", [".ozx", ".ome.tif"])
def test_it_says_how_integers_that_stand_for_real_numbers_are_read(tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    store, _ = make_store(tmp_path, attributes={"intensity_map": {"scale": 0.0625, "offset": -7.5}})
    export(store, tmp_path / f"out{ending}")
    assert f"out{ending}: its integers stand for real numbers" in (said := capsys.readouterr().err)
    assert said.endswith("value = stored * 0.0625 + -7.5.\n")


def test_what_a_file_manager_left_in_a_store_is_no_reason_to_delete_the_store(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path)
    (store / ".DS_Store").touch()
    with pytest.raises(UserError, match=r"\.DS_Store does not belong to the store; delete this file, then run the same command again\."):
        export(store, tmp_path / "out.ozx")
    (store / ".DS_Store").unlink()
    export(store, tmp_path / "out.ozx")


def test_large_images_become_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, array = make_store(tmp_path)
    monkeypatch.setattr(ome_tiff, "CLASSIC_BYTES", array.nbytes)
    export(store, tmp_path / "out.ome.tif")
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        assert tiff.is_bigtiff
    assert read_tiff(tmp_path / "out.ome.tif")[0].tobytes() == array.tobytes()


def test_a_long_series_of_small_planes_becomes_bigtiff_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = pixels((60, 1, 1, 24, 24), "uint8")
    store = fill(tmp_path / "a.ome.zarr", array, settings(), grouped=True)
    export(store, tmp_path / "classic.ome.tif")
    monkeypatch.setattr(ome_tiff, "CLASSIC_BYTES", (tmp_path / "classic.ome.tif").stat().st_size - 1)
    export(store, tmp_path / "large.ome.tif")
    with tifffile.TiffFile(tmp_path / "classic.ome.tif") as classic, tifffile.TiffFile(tmp_path / "large.ome.tif") as large:
        assert (classic.is_bigtiff, large.is_bigtiff) == (False, True)


def test_an_ozx_holds_the_stores_files_as_rfc_9_asks(restored: Path, tmp_path: Path) -> None:
    export(restored, tmp_path / "out.ozx")
    with zipfile.ZipFile(tmp_path / "out.ozx") as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        assert archive.testzip() is None
        assert json.loads(archive.comment) == {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert {entry.extra[:2] for entry in entries} <= {b"", b"\x01\x00"}
        archive.extractall(tmp_path / "unpacked")
    metadata = [name for name in names if name.endswith("zarr.json")]
    assert names[: len(metadata)] == metadata
    assert metadata[:4] == ["zarr.json", "0/zarr.json", "1/zarr.json", "2/zarr.json"]
    assert [name.count("/") for name in metadata] == sorted(name.count("/") for name in metadata)
    assert sorted(names) == sorted(set(names))
    assert digests(tmp_path / "unpacked") == digests(restored)
    content = (tmp_path / "out.ozx").read_bytes()
    assert content.startswith(b"PK\x03\x04")
    assert content[content.rindex(b"PK\x05\x06") - 20 :].startswith(b"PK\x06\x07"), "ZIP64, whatever the size"


def test_an_archive_that_needs_zip64_has_its_records_once(restored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 65,535 files or 4 GB zipfile writes them itself."""
    export(restored, tmp_path / "small.ozx")
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    export(restored, tmp_path / "large.ozx")
    for name in ("small.ozx", "large.ozx"):
        assert (tmp_path / name).read_bytes().count(b"PK\x06\x07") == 1
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert archive.testzip() is None


def test_zarr_reads_the_pixels_in_an_ozx(restored: Path, tmp_path: Path) -> None:
    export(restored, tmp_path / "out.ozx")
    group: Any = zarr.open_group(zarr.storage.ZipStore(tmp_path / "out.ozx", mode="r"), mode="r")
    for image in ("", "std/"):
        np.testing.assert_array_equal(group[f"{image}0"][:], zarr.open_array(restored / image / "0", mode="r")[:])


def test_one_image_of_a_store(restored: Path, tmp_path: Path) -> None:
    std = zarr.open_array(restored / "std" / "0", mode="r")[:]
    export(restored, tmp_path / "std.ome.tif", "std")
    assert read_tiff(tmp_path / "std.ome.tif")[0].tobytes() == std.tobytes()
    export(restored, tmp_path / "std.ozx", "std")
    group: Any = zarr.open_group(zarr.storage.ZipStore(tmp_path / "std.ozx", mode="r"), mode="r")
    np.testing.assert_array_equal(group["0"][:], std)
    assert "multiscales" in group.attrs["ome"]


def test_the_same_store_gives_the_same_zip(restored: Path, tmp_path: Path) -> None:
    export(restored, tmp_path / "a.ozx")
    shutil.copytree(restored, tmp_path / "copy")
    export(tmp_path / "copy", tmp_path / "b.ozx")
    assert (tmp_path / "a.ozx").read_bytes() == (tmp_path / "b.ozx").read_bytes()


@pytest.mark.parametrize("ending", [".ozx", ".ome.tif"])
def test_memory_is_that_of_a_block(tmp_path: Path, ending: str) -> None:
    array = pixels((1, 1, 1, 1024, 1024), "uint32")
    store = fill(tmp_path / "a.ome.zarr", array, settings(chunk=128, shard=256))
    export(store, tmp_path / f"first{ending}")  # imports and caches
    tracemalloc.start()
    export(store, tmp_path / f"out{ending}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < array.nbytes / 3


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another ending": ("out.zip", {}, "the ending must be .ozx"),
    "inside the store": ("cells.ome.zarr/out.ozx", {}, "inside the store"),
    "a folder": ("folder.ozx", {"overwrite": True}, "there already"),
    "no such image": ("out.ozx", {"image": "variance"}, "no image 'variance' in it, only ''"),
    "an image elsewhere": ("out.ozx", {"image": "../cells.ome.zarr"}, "no image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    store, _ = make_store(tmp_path)
    (tmp_path / "folder.ozx").mkdir()
    before = digests(tmp_path)
    name, options, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as caught:
        export(store, tmp_path / name, **options)
    assert "\n" not in str(caught.value)
    assert digests(tmp_path) == before


def test_a_file_is_only_replaced_when_told(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path)
    out = tmp_path / "out.ozx"
    out.write_text("precious")
    runner = CliRunner()
    result = runner.invoke(app, ["export", str(store), str(out)])
    assert isinstance(result.exception, UserError)
    assert "--overwrite" in str(result.exception)
    assert out.read_text() == "precious"
    assert runner.invoke(app, ["export", str(store), str(out), "--overwrite"]).exit_code == 0
    assert zipfile.is_zipfile(out)


@pytest.mark.parametrize("fault", ["missing shard", "truncated shard", "no version"])
@pytest.mark.parametrize("ending", [".ozx", ".ome.tif"])
def test_a_faulty_store_is_not_exported(tmp_path: Path, fault: str, ending: str) -> None:
    store, _ = make_store(tmp_path)
    FAULTS[fault].plant(store)
    with pytest.raises(UserError, match=str(store)):
        export(store, tmp_path / f"out{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.ome.zarr"]


def test_damaged_pixels_stop_an_ome_tiff_and_leave_nothing(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path)
    shard = store / "0/c/0/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"level 0 .*damaged"):
        export(store, tmp_path / "out.ome.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.ome.zarr"]


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("end", ["replaced", "taken away"])
def test_a_store_that_is_restored_anew_meanwhile_gives_no_file_of_two_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, end: str
) -> None:
    store, _ = make_store(tmp_path, version=version)
    make_store(tmp_path / "new", version=version)
    tiles = ome_tiff._tiles

    def interrupted(*arguments: Any) -> Any:
        for number, tile in enumerate(tiles(*arguments)):
            yield tile
            if number == 3 and store.exists():
                shutil.rmtree(store)
                if end == "replaced":
                    shutil.move(tmp_path / "new/cells.ome.zarr", store)

    monkeypatch.setattr(ome_tiff, "_tiles", interrupted)
    with pytest.raises(UserError, match=r"cells\.ome\.zarr: it was replaced while it was exported.*run the same command again"):
        export(store, tmp_path / "out.ome.tif")
    assert {path.name for path in tmp_path.iterdir()} <= {"cells.ome.zarr", "new"}


def test_a_zip_of_a_store_that_is_restored_anew_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = make_store(tmp_path)
    copy = shutil.copyfileobj

    def replaced(*arguments: Any) -> None:
        copy(*arguments)
        (store / "zarr.json").write_bytes((store / "zarr.json").read_bytes())

    monkeypatch.setattr(shutil, "copyfileobj", replaced)
    with pytest.raises(UserError, match="replaced while it was exported"):
        export(store, tmp_path / "out.ozx")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.ome.zarr"]


def test_older_stores_and_no_stores(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, version="0.4")
    with pytest.raises(UserError, match=r"this is 0.4; export it as .ome.tif"):
        export(store, tmp_path / "out.ozx")
    with pytest.raises(UserError, match="no such OME-Zarr store"):
        export(tmp_path / "nothing", tmp_path / "out.ozx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not an image that cvdm has written"):
        export(tmp_path / "empty", tmp_path / "out.ozx")
