"""Files and sets with several positions: every image by its number, never silently the first, and nothing filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from micromanager import write_mmstack, write_ndtiff
from tiff_dialects import pixels, read_all
from zeiss_lsm import write_lsm

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import open_planes, read_header

SUMMARY = {"PixelSize_um": 0.108, "z-step_um": 0.3, "ChNames": ["DAPI", "GFP"], "Interval_ms": 500}


def mm_planes(positions: list[int], array: np.ndarray[Any, Any], frames: range) -> dict[tuple[int, int, int, int], np.ndarray[Any, Any]]:
    """Planes of an array (position, T, C, Z, Y, X) by Micro-Manager's index."""
    _, _, channels, slices = array.shape[:4]
    return {(c, z, t, p): array[p, t, c, z] for p in positions for t in frames for z in range(slices) for c in range(channels)}


def check(path: Path, series: int, expected: np.ndarray[Any, Any]) -> None:
    with open_planes(path, series=series) as planes:
        planes.check_complete()
        np.testing.assert_array_equal(read_all(planes), expected)


def test_the_positions_of_one_micro_manager_file(tmp_path: Path) -> None:
    array = pixels(3, 2, 2, 4, 9, 11)
    labels = [{"Label": "A1"}, {"Label": "A2"}, {"Label": "B1"}]
    write_mmstack(
        tmp_path / "run_MMStack.ome.tif", mm_planes([0, 1, 2], array, range(2)),
        Frames=2, Slices=4, Channels=2, Positions=3, StagePositions=labels, **SUMMARY,
    )  # fmt: skip
    for number in range(3):
        check(tmp_path / "run_MMStack.ome.tif", number, array[number])
    header = read_header(tmp_path / "run_MMStack.ome.tif", series=1)
    assert (header.images, header.further) == (("A1", "A2", "B1"), (0, 2))
    assert (header.pixel_size_um, header.z_step_um, header.time_step_s) == ((0.108, 0.108), 0.3, 0.5)
    assert header.channels == ("DAPI", "GFP")
    with pytest.raises(UserError, match="a number from 0 to 2, not 3"):
        read_header(tmp_path / "run_MMStack.ome.tif", series=3)


def test_each_file_of_a_micro_manager_set_answers_for_its_own_position(tmp_path: Path) -> None:
    array = pixels(2, 2, 1, 3, 9, 11)
    sizes = {"Frames": 2, "Slices": 3, "Positions": 2, "Prefix": "run"}
    for number in range(2):
        write_mmstack(tmp_path / f"run_MMStack_Pos{number}.ome.tif", mm_planes([number], array, range(2)), **sizes)
    for number in range(2):
        path = tmp_path / f"run_MMStack_Pos{number}.ome.tif"
        check(path, 0, array[number])
        with open_planes(path) as planes:
            assert planes.files == (path,) and planes.header.further == ()


def test_an_image_over_two_files_is_read_from_both_and_belongs_to_the_first(tmp_path: Path) -> None:
    array = pixels(1, 5, 2, 1, 9, 11)
    for name, frames in (("run_MMStack.ome.tif", range(3)), ("run_MMStack_1.ome.tif", range(3, 5))):
        write_mmstack(tmp_path / name, mm_planes([0], array, frames), Frames=5, Channels=2, Prefix="run")
    check(tmp_path / "run_MMStack.ome.tif", 0, array[0])
    with open_planes(tmp_path / "run_MMStack.ome.tif") as planes:
        assert [path.name for path in planes.files] == ["run_MMStack.ome.tif", "run_MMStack_1.ome.tif"]
    with pytest.raises(UserError, match=r"continue the image that begins in run_MMStack\.ome\.tif; register that file"):
        read_header(tmp_path / "run_MMStack_1.ome.tif")


def two_files(folder: Path, prefix: str = "run") -> tuple[Path, np.ndarray[Any, Any]]:
    """Write an image of five time points in two files, and return the first."""
    folder.mkdir()
    array = pixels(1, 5, 1, 1, 9, 11)
    for end, frames in (("", range(3)), ("_1", range(3, 5))):
        write_mmstack(folder / f"{prefix}_MMStack{end}.ome.tif", mm_planes([0], array, frames), Frames=5, Prefix=prefix)
    return folder / f"{prefix}_MMStack.ome.tif", array


def test_a_file_that_only_is_called_like_one_of_a_micro_manager_set_is_named(tmp_path: Path) -> None:
    path, array = two_files(tmp_path / "run")
    other = path.with_name("run_MMStack_deconvolved.tif")
    tifffile.imwrite(other, array[0, :, 0, 0], imagej=True)
    with pytest.raises(UserError, match=r"_deconvolved\.tif: it is called like a file of the set of run_MMStack\.ome\.tif .* move it"):
        read_header(path)
    other.write_bytes(path.with_name("run_MMStack_1.ome.tif").read_bytes()[:100])
    with pytest.raises(UserError, match=r"run_MMStack_deconvolved\.tif: .* so the file is not finished"):
        read_header(path)
    other.unlink()
    check(path, 0, array[0])


@pytest.mark.parametrize(("folder", "prefix"), [("day [2]", "run"), ("run", "cell[3]")])
def test_brackets_that_hide_files_of_a_micro_manager_set_are_told(tmp_path: Path, folder: str, prefix: str) -> None:
    path, _ = two_files(tmp_path / folder, prefix)
    with pytest.raises(UserError, match=r"further files of its set cannot be found, because its name or that of a folder .* rename that"):
        read_header(path)
    one = path.with_name(f"{prefix}_MMStack_Pos1.ome.tif")  # needs no other
    array = pixels(2, 2, 1, 3, 9, 11)
    write_mmstack(one, mm_planes([1], array, range(2)), Frames=2, Slices=3, Positions=2, Prefix=prefix)
    check(one, 0, array[1])


def test_missing_planes_are_named_and_never_filled_in(tmp_path: Path) -> None:
    planes = mm_planes([0], pixels(1, 2, 2, 3, 9, 11), range(2))
    del planes[1, 2, 0, 0]
    write_mmstack(tmp_path / "run_MMStack.ome.tif", planes, Frames=2, Slices=3, Channels=2)
    with pytest.raises(UserError, match=r"1 of its 12 planes are missing \(counted from 0: t 0, c 1, z 2\)"):
        read_header(tmp_path / "run_MMStack.ome.tif")


def test_a_position_that_lacks_planes_is_named_and_the_others_come_in(tmp_path: Path) -> None:
    array = pixels(2, 2, 1, 1, 9, 11)
    planes = mm_planes([0, 1], array, range(2))
    del planes[0, 0, 1, 1]
    labels = [{"Label": "A1"}, {"Label": "A2"}]
    write_mmstack(tmp_path / "run_MMStack.ome.tif", planes, Frames=2, Positions=2, StagePositions=labels)
    check(tmp_path / "run_MMStack.ome.tif", 0, array[0])
    with pytest.raises(UserError, match=r"run_MMStack\.ome\.tif \(A2\): 1 of its 2 planes are missing \(counted from 0: t 1, c 0, z 0\)"):
        read_header(tmp_path / "run_MMStack.ome.tif", series=1)


def test_a_micro_manager_index_that_declares_too_much_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    planes = mm_planes([0], pixels(1, 1, 1, 2, 9, 11), range(1))
    planes[0, 2**31, 2**31, 0] = pixels(9, 11)
    write_mmstack(tmp_path / "run_MMStack.ome.tif", planes)
    with pytest.raises(UserError, match="its index declares"):
        read_header(tmp_path / "run_MMStack.ome.tif")


@pytest.mark.parametrize("files", [1, 2])
def test_the_positions_of_an_ndtiff_folder(tmp_path: Path, files: int) -> None:
    array = pixels(2, 3, 2, 9, 11)
    places = [(p, t, c) for p in range(2) for t in range(3) for c in range(2)]
    planes = {json.dumps({"position": p, "time": t, "channel": ("DAPI", "GFP")[c]}): array[p, t, c] for p, t, c in places}
    write_ndtiff(tmp_path / "run", planes, files, DateAndTime="2026/01/02 03:04:05")
    name = tmp_path / "run" / "run_NDTiffStack.tif"
    check(name, 0, array[0][:, :, None])
    check(name if files == 1 else tmp_path / "run" / "run_NDTiffStack_1.tif", 1 if files == 1 else 0, array[1][:, :, None])
    header = read_header(name)
    assert header.channels == ("DAPI", "GFP") and header.pixel_size_um == (0.1, 0.1)
    assert header.metadata.acquired == "2026/01/02 03:04:05"


def test_the_channels_of_an_ndtiff_folder_that_counts_them_are_named_by_its_summary(tmp_path: Path) -> None:
    planes = {json.dumps({"channel": c, "z": z}): pixels(9, 11) + c for z in range(2) for c in range(2)}
    write_ndtiff(tmp_path, planes, ChNames=["DAPI", "GFP"])
    assert read_header(tmp_path / "run_NDTiffStack.tif").channels == ("DAPI", "GFP")


def test_an_ndtiff_index_may_not_lead_elsewhere_or_lack_files(tmp_path: Path) -> None:
    planes = {json.dumps({"time": t}): pixels(9, 11) for t in range(4)}
    write_ndtiff(tmp_path / "run", planes, 2)
    (tmp_path / "run" / "run_NDTiffStack_1.tif").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 files of its set are missing \(run_NDTiffStack_1\.tif\)"):
        read_header(tmp_path / "run" / "run_NDTiffStack.tif")
    index = tmp_path / "run" / "NDTiff.index"
    index.write_bytes(index.read_bytes().replace(b"run_NDTiffStack_1.tif", b"../NDTiffStack_11.tif"))
    with pytest.raises(UserError, match="outside of its folder"):
        read_header(tmp_path / "run" / "run_NDTiffStack.tif")


def test_the_images_of_an_ome_tiff_and_of_another_size_are_told_apart(tmp_path: Path) -> None:
    arrays = [pixels(2, 8, 9), pixels(2, 8, 9) + 1, pixels(5, 6)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for array, name, size in zip(arrays, ("one", "two", "macro"), (0.1, 0.2, 0.3), strict=True):
            axes = "CYX"[3 - array.ndim :]
            file.write(array, photometric="minisblack", metadata={"axes": axes, "Name": name, "PhysicalSizeX": size, "PhysicalSizeY": size})
    for number, array in enumerate(arrays):
        check(tmp_path / "a.ome.tif", number, array.reshape((1, -1, 1, *array.shape[-2:])))
        assert read_header(tmp_path / "a.ome.tif", series=number).pixel_size_um == ((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))[number]
    header = read_header(tmp_path / "a.ome.tif")
    assert header.images == ("one", "two", "macro") and header.further == (1,)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_lsm_in_time_and_depth(tmp_path: Path, channels: int, compression: str | None) -> None:
    array = pixels(2, 4, channels, 9, 11)
    names = ["Ch1-T1", "Ch2-T2", "ChS1"][:channels]
    write_lsm(tmp_path / "a.lsm", array, "TZCYX", names=names, compression=compression)
    check(tmp_path / "a.lsm", 0, array.transpose(0, 2, 1, 3, 4))
    header = read_header(tmp_path / "a.lsm")
    assert header.pixel_size_um == pytest.approx((0.1, 0.1)) and header.z_step_um == pytest.approx(0.3) and header.time_step_s == 2.0
    assert header.channels == tuple(names) and header.further == () and header.metadata.stage_um is None


@pytest.mark.parametrize(("axes", "block"), [("M", "tiles_um"), ("P", "positions_um")])
def test_the_positions_of_an_lsm(tmp_path: Path, axes: str, block: str) -> None:
    array = pixels(3, 2, 2, 9, 11)
    places: dict[str, Any] = {block: [(0.0, 0.0), (80.5, -1.0), (161.0, 3.0)]}
    write_lsm(tmp_path / "a.lsm", array, f"{axes}ZCYX", **places)
    for number in range(3):
        check(tmp_path / "a.lsm", number, array[number].transpose(1, 0, 2, 3)[None])
        x, y = places[block][number]
        assert read_header(tmp_path / "a.lsm", series=number).metadata.stage_um == pytest.approx((y, x))


def test_an_lsm_that_does_not_say_where_it_was_tells_no_place(tmp_path: Path) -> None:
    """Of tiles at several positions Zeiss does not say from where they are counted; and a list may be short or absent."""
    tiles = [(0.0, 0.0), (80.0, 0.0)]
    array = pixels(2, 2, 1, 1, 9, 11)
    write_lsm(tmp_path / "both.lsm", array, "MPZCYX", tiles_um=tiles, positions_um=tiles)
    write_lsm(tmp_path / "none.lsm", array[0], "MZCYX")
    write_lsm(tmp_path / "short.lsm", array[0], "MZCYX", tiles_um=tiles[:1])
    check(tmp_path / "both.lsm", 2, array[1, 0].transpose(1, 0, 2, 3)[None])
    for name, series in (("both.lsm", 2), ("none.lsm", 1), ("short.lsm", 1)):
        assert read_header(tmp_path / name, series=series).metadata.stage_um is None
