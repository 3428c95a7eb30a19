"""Sets of OME-TIFFs: read whole, by their UUIDs where names are stale, and refused by name where a file is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tiff_dialects import pixels, read_all

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import open_planes, read_header
from cvdm_core.images.tiff_images import PartOfSet

ARRAY = pixels(3, 2, 9, 11)  # T files of C pages
SCHEMA = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def uuid(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012d}"


def pixels_xml(names: list[str], uuids: list[str]) -> str:
    data = "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" IFD="{c}" PlaneCount="1"><UUID FileName="{name}">{own}</UUID></TiffData>'
        for t, (name, own) in enumerate(zip(names, uuids, strict=True))
        for c in range(2)
    )
    return (
        f'<Image ID="Image:0" Name="set"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="11" SizeY="9" SizeZ="1" '
        f'SizeC="2" SizeT="{len(names)}" PhysicalSizeX="0.1" PhysicalSizeY="0.1">'
        f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{data}</Pixels></Image>'
    )


def write_set(folder: Path, named: list[str], companion: str = "", same_uuid: bool = False, prefix: str = "t") -> None:
    """Write t0.ome.tif ... t2.ome.tif, or with another prefix, whose OME-XML calls them `named`."""
    uuids = [uuid(0 if same_uuid else t) for t in range(3)]
    inner = pixels_xml(named, uuids)
    for t in range(3):
        body = f'<BinaryOnly MetadataFile="{companion}" UUID="{uuid(9)}"/>' if companion else inner
        text = f'<?xml version="1.0" encoding="UTF-8"?><OME {SCHEMA} UUID="{uuids[t]}">{body}</OME>'
        tifffile.imwrite(folder / f"{prefix}{t}.ome.tif", ARRAY[t], photometric="minisblack", description=text, metadata=None)
    if companion:
        (folder / Path(companion).name).write_text(f'<?xml version="1.0"?><OME {SCHEMA} UUID="{uuid(9)}">{inner}</OME>')


NAMES = ["t0.ome.tif", "t1.ome.tif", "t2.ome.tif"]
SETS: dict[str, dict[str, Any]] = {
    "true names": {"named": NAMES},
    "companion": {"named": NAMES, "companion": "set.companion.ome"},
    "renamed": {"named": ["old0.ome.tif", "old1.ome.tif", "old2.ome.tif"]},
    "renamed, with a companion": {"named": ["x0.ome.tif", "x1.ome.tif", "x2.ome.tif"], "companion": "set.companion.ome"},
    "names swapped": {"named": ["t1.ome.tif", "t2.ome.tif", "t0.ome.tif"]},
    "one UUID for all": {"named": NAMES, "same_uuid": True},
}


@pytest.mark.parametrize("kind", SETS)
def test_a_set_comes_in_whole_and_begins_in_one_file(tmp_path: Path, kind: str) -> None:
    write_set(tmp_path, **SETS[kind])
    with open_planes(tmp_path / "t0.ome.tif") as planes:
        planes.check_complete()
        np.testing.assert_array_equal(read_all(planes), ARRAY[:, :, None])
        assert {file.name for file in planes.files} == {*NAMES, *([SETS[kind]["companion"]] if "companion" in SETS[kind] else [])}
        assert planes.header.ome_xml is not None and SETS[kind]["named"][0] in planes.header.ome_xml  # as it was written
        assert planes.header.pixel_size_um == (0.1, 0.1)
    with pytest.raises(PartOfSet) as caught:
        read_header(tmp_path / "t1.ome.tif")
    assert caught.value.first.name == "t0.ome.tif"


def test_missing_files_of_a_set_are_named(tmp_path: Path) -> None:
    write_set(tmp_path, NAMES)
    (tmp_path / "t1.ome.tif").unlink()
    with pytest.raises(UserError, match=r"1 of the 3 files of its set are not beside it \('t1\.ome\.tif'\)"):
        read_header(tmp_path / "t0.ome.tif")


def test_a_missing_companion_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, NAMES, "set.companion.ome")
    (tmp_path / "set.companion.ome").unlink()
    with pytest.raises(UserError, match=r"companion file 'set\.companion\.ome', which is not beside it"):
        read_header(tmp_path / "t0.ome.tif")


@pytest.mark.parametrize("name", ["../outside.ome.tif", "/etc/passwd", "sub/x.ome.tif", ""])
def test_a_set_may_not_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "outside.ome.tif", ARRAY[1], photometric="minisblack", metadata=None)
    write_set(folder, [NAMES[0], name, NAMES[2]])
    (folder / "t1.ome.tif").unlink()
    with pytest.raises(UserError, match="are not beside it"):
        read_header(folder / "t0.ome.tif")
    write_set(folder, NAMES, name or "gone")
    (folder / "gone").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"companion file .*, which is not beside it"):
        read_header(folder / "t0.ome.tif")


def test_a_plane_that_no_file_of_the_set_holds_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, NAMES)
    text = tifffile.tiffcomment(tmp_path / "t2.ome.tif")
    tifffile.imwrite(tmp_path / "t2.ome.tif", ARRAY[2][:1], photometric="minisblack", description=text, metadata=None)
    with pytest.raises(UserError, match=r"1 of its 6 planes are missing \(counted from 0: t 2, c 1, z 0\)"):
        read_header(tmp_path / "t0.ome.tif")


def test_files_of_a_set_that_differ_in_size_are_named(tmp_path: Path) -> None:
    write_set(tmp_path, NAMES)
    text = tifffile.tiffcomment(tmp_path / "t2.ome.tif")
    tifffile.imwrite(tmp_path / "t2.ome.tif", ARRAY[2][:, :5], photometric="minisblack", description=text, metadata=None)
    with pytest.raises(UserError, match=r"t2\.ome\.tif: page \d is .* the planes of an image must agree"):
        read_header(tmp_path / "t0.ome.tif")


def test_a_set_that_declares_more_than_its_files_could_hold_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, NAMES)
    text = tifffile.tiffcomment(tmp_path / "t0.ome.tif").replace('SizeZ="1"', 'SizeZ="1000000000"')
    tifffile.imwrite(tmp_path / "t0.ome.tif", ARRAY[0], photometric="minisblack", description=text, metadata=None)
    with pytest.raises(UserError, match="declares 6,000,000,000 planes"):
        read_header(tmp_path / "t0.ome.tif")
