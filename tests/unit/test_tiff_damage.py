"""A damaged, cut-off or incomplete TIFF gives one sentence, and never half an image."""

from __future__ import annotations

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
from tiff_dialects import DIALECTS, pixels, read_all, write, write_ome
from zeiss_lsm import write_lsm

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import open_planes, read_header


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
    _check_cut_off(tmp_path / "whole.tif", write(tmp_path / "whole.tif", dialect))


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_lsm_cut_off_anywhere_is_refused(tmp_path: Path, channels: int, compression: str | None) -> None:
    array = pixels(2, 3, channels, 9, 11)
    write_lsm(tmp_path / "whole.lsm", array, "TZCYX", compression=compression)
    _check_cut_off(tmp_path / "whole.lsm", array.transpose(0, 2, 1, 3, 4))


def _check_cut_off(path: Path, expected: np.ndarray[Any, Any]) -> None:
    data = path.read_bytes()
    cut = path.with_stem("cut")
    for length in {*range(1, len(data), max(1, len(data) // 40)), len(data) - 1, len(data) // 2}:
        cut.write_bytes(data[:length])
        try:
            with open_planes(cut) as planes:
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


def test_dimensions_without_a_place_are_refused_and_further_images_counted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 8, 8), photometric="minisblack", metadata={"axes": "AYX"})
    with pytest.raises(UserError, match="several images along angle"):
        read_header(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.ome.tif", ome=True) as file:
        file.write(pixels(8, 8), metadata={"axes": "YX"})
        file.write(pixels(8, 8), metadata={"axes": "YX"})
    assert read_header(tmp_path / "b.ome.tif").further == (1,)


def link_last_page(path: Path, to: int | None) -> None:
    """Let the chain of pages go on after the last one: at its first page, or at the byte `to`."""
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[len(file.pages) - 1].aspage()
        at = last.offset + 2 + 12 * len(last.tags)
    with path.open("r+b") as raw:
        raw.seek(at)
        raw.write(struct.pack("<I", first if to is None else to))


def test_a_chain_of_pages_that_leaves_the_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", "pages")
    link_last_page(tmp_path / "a.tif", 2**31)
    with pytest.raises(UserError, match="after 5 pages"):
        read_header(tmp_path / "a.tif")


@pytest.mark.parametrize("count", [3, 120])
def test_a_chain_of_pages_that_leads_back_is_refused(tmp_path: Path, count: int) -> None:
    """tifffile takes a short one for a single page, and follows one of more than 100 pages for ever."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(count, 8, 9), photometric="minisblack", metadata=None)
    link_last_page(tmp_path / "a.tif", None)
    with pytest.raises(UserError, match=rf"a\.tif: the file is damaged: its chain of pages leads back \(after {count}\)"):
        read_header(tmp_path / "a.tif")


def test_a_compressed_lsm_whose_chain_of_pages_leads_back_is_refused(tmp_path: Path) -> None:
    write_lsm(tmp_path / "a.lsm", pixels(1, 60, 1, 8, 9), "TZCYX", compression="lzw")
    link_last_page(tmp_path / "a.lsm", None)
    with pytest.raises(UserError, match=r"leads back \(after 120\)"):
        read_header(tmp_path / "a.lsm")


def test_a_page_that_is_none_is_told(tmp_path: Path) -> None:
    array = pixels(5, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[4].offset
    with (tmp_path / "a.tif").open("r+b") as raw:
        raw.seek(at)
        raw.write(struct.pack("<H", 5000))  # tags: more than a page has
    with (tmp_path / "a.tif").open("ab") as raw:
        raw.write(bytes(100_000))
    with pytest.raises(UserError, match="after 4 pages there is none at byte"):
        read_header(tmp_path / "a.tif")
