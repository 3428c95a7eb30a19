"""Pixel sizes, steps, channels and optics come from every dialect, and what cannot be believed does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from metamorph import write_stk
from micromanager import write_mmstack
from tiff_dialects import pixels, read_all, write, write_ome

from cvdm_core.images.tiff import open_planes, read_header
from cvdm_core.images.tiff_metadata import SAID_BYTES
from cvdm_core.images.units import MICROMETRES


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
    text = text.replace("<Image ", optics + "<Image ", 1).replace("<Pixels", '<ObjectiveSettings ID="Objective:1"/><Pixels', 1)
    tifffile.tiffcomment(tmp_path / "a.ome.tif", text.encode())
    header = read_header(tmp_path / "a.ome.tif")
    assert header.channels == ("DAPI", "GFP,x")  # `;` stands between names in the sheet
    assert header.emission_nm == pytest.approx((460, 525))
    assert header.time_step_s == pytest.approx(0.5)
    assert header.na == 0.5


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
    "imagej, y in nm": ({**IMAGEJ, "resolution": (10, 0.005), "metadata": {"unit": "um", "yunit": "nm"}}, (0.2, 0.1)),
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
    "1000 dpi": {"resolution": (1000, 1000), "resolutionunit": "INCH"},
    "2400 dpi": {"resolution": (2400, 2400), "resolutionunit": "INCH"},
    "1 um, a default": {"resolution": (10_000, 10_000), "resolutionunit": "CENTIMETER"},
    "no unit": {"resolution": (10, 10), "resolutionunit": "NONE"},
    "imagej, no unit": {**IMAGEJ, "resolution": (10, 10)},
    "imagej, pixels": {**IMAGEJ, "resolution": (10, 10), "metadata": {"unit": "pixel"}},
    "imagej, y in pixels": {**IMAGEJ, "resolution": (10, 10), "metadata": {"unit": "um", "yunit": "pixel"}},
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


@pytest.mark.parametrize(("spacing", "reason"), [(3.0, "3e+04 um"), (0.0, "holds none"), (1e-9, "1e-05 um")])
def test_an_implausible_z_step_is_none_with_a_reason(tmp_path: Path, spacing: float, reason: str) -> None:
    metadata = {"unit": "cm", "spacing": spacing, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 8, 8), imagej=True, resolution=(1e5, 1e5), metadata=metadata)
    header = read_header(tmp_path / "a.tif")
    assert header.pixel_size_um == pytest.approx((0.1, 0.1))
    assert header.z_step_um is None and reason in header.metadata.z_step_reason


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}, None),
        ({}, None),
        ({"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0, "PhysicalSizeZUnit": "µm"}, 1),
        ({"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2}, 1),
    ],
)
def test_ome_that_says_1_of_everything_knows_no_z_step_either(tmp_path: Path, sizes: dict[str, Any], expected: float | None) -> None:
    write_ome(tmp_path / "a.ome.tif", PhysicalSizeZ=1.0, **sizes)
    header = read_header(tmp_path / "a.ome.tif")
    assert header.z_step_um == expected and ("1 without a unit" in header.metadata.z_step_reason) == (expected is None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"unit": "um", "spacing": 300, "zunit": "nm"}, 0.3),
        ({"unit": "mm", "spacing": 0.3, "zunit": "\\u00B5m"}, 0.3),
        ({"unit": "um", "spacing": -0.3}, 0.3),
        ({"unit": "pixel", "spacing": 0.3, "zunit": "um"}, 0.3),
        ({"unit": "um", "spacing": 3, "zunit": "slices"}, None),
    ],
)
def test_imagej_has_a_unit_of_its_own_for_z(tmp_path: Path, said: dict[str, Any], expected: float | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 8, 8), imagej=True, resolution=(10, 10), metadata={"axes": "ZYX", **said})
    assert read_header(tmp_path / "a.tif").z_step_um == pytest.approx(expected)


OF_5 = {"": 5, "sec": 5, "min": 300, "minutes": 300, "hour": 18_000, "msec": 0.005, "\\u00B5s": 5e-6, "frames": None}


@pytest.mark.parametrize(("unit", "seconds"), OF_5.items())
def test_imagej_has_a_unit_of_its_own_for_time(tmp_path: Path, unit: str, seconds: float | None) -> None:
    said = {"axes": "TYX", "finterval": 5} | ({"tunit": unit} if unit else {})
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 8, 8), imagej=True, metadata=said)
    assert read_header(tmp_path / "a.tif").time_step_s == pytest.approx(seconds)


OPTICS = (
    '<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.4" NominalMagnification="63"/></Instrument>'
    '<Image ID="Image:0"><AcquisitionDate>2026-01-02T03:04:05</AcquisitionDate><ObjectiveSettings ID="Objective:0"/>'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="8" SizeZ="3" SizeC="2" SizeT="1">'
    '<Channel ID="Channel:0:0" EmissionWavelength="460"/><Channel ID="Channel:0:1" EmissionWavelength="0.525" EmissionWavelengthUnit="µm"/>'
    '<TiffData/><Plane TheC="0" TheT="0" TheZ="0" ExposureTime="0.2"/><Plane TheC="1" TheT="0" TheZ="0" ExposureTime="50" '
    'ExposureTimeUnit="ms"/></Pixels></Image>'
)


def test_ome_tells_optics_exposure_and_date(tmp_path: Path) -> None:
    text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{OPTICS}</OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(6, 8, 8), photometric="minisblack", description=text.encode(), metadata=None)
    found = read_header(tmp_path / "a.ome.tif").metadata
    assert (found.na, found.magnification, found.acquired) == (1.4, 63, "2026-01-02T03:04:05")
    assert found.emission_nm == pytest.approx((460, 525)) and found.exposure_ms == pytest.approx((200, 50))


SCOPES = (
    '<Instrument ID="Instrument:0"><Microscope Manufacturer="Nikon" Model="Nikon Ti2"/></Instrument>'
    '<Instrument ID="Instrument:1"><Microscope Manufacturer="Zeiss" Model="Elyra\n7"/>'
    '<Objective ID="Objective:0" Model="Plan-Apochromat 63x/1.40 Oil" LensNA="1.4"/></Instrument>'
)


@pytest.mark.parametrize(
    ("scopes", "referred", "expected"),
    [
        (SCOPES, '<InstrumentRef ID="Instrument:1"/>', ("Zeiss Elyra 7", "Plan-Apochromat 63x/1.40 Oil")),
        (SCOPES, '<InstrumentRef ID="Instrument:0"/>', ("Nikon Ti2", "Plan-Apochromat 63x/1.40 Oil")),
        (SCOPES, "", ("", "Plan-Apochromat 63x/1.40 Oil")),  # two, and nobody says which
        (SCOPES.partition("</Instrument>")[0] + "</Instrument>", "", ("Nikon Ti2", "")),
    ],
    ids=["referred", "model that repeats its maker", "not referred", "the only one"],
)
def test_ome_names_the_microscope_and_its_objective(tmp_path: Path, scopes: str, referred: str, expected: tuple[str, str]) -> None:
    image = OPTICS.partition("</Instrument>")[2].replace(
        '<ObjectiveSettings ID="Objective:0"/>', '<ObjectiveSettings ID="Objective:0"/>' + referred
    )
    text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{scopes}{image}</OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(6, 8, 8), photometric="minisblack", description=text.encode(), metadata=None)
    found = read_header(tmp_path / "a.ome.tif").metadata
    assert (found.instrument, found.objective) == expected


def ome_image(pixel_um: float, data: str, name: str = "") -> str:
    size = f'PhysicalSizeX="{pixel_um}" PhysicalSizeY="{pixel_um}"'
    sizes = 'SizeX="8" SizeY="8" SizeZ="1" SizeC="1" SizeT="1"'
    return f'<Image Name="{name}"><Pixels DimensionOrder="XYCZT" Type="uint16" {sizes} {size}><Channel/>{data}</Pixels></Image>'


def write_images(path: Path, *images: str) -> None:
    text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{"".join(images)}</OME>'
    tifffile.imwrite(path, pixels(8, 8), photometric="minisblack", description=text.encode(), metadata=None)


@pytest.mark.parametrize("other", ["", "<MetadataOnly/>"])
@pytest.mark.parametrize("name", ["", "cell"])
def test_ome_of_an_image_without_pixels_in_the_file_is_not_taken_for_that_of_another(tmp_path: Path, other: str, name: str) -> None:
    write_images(tmp_path / "a.ome.tif", ome_image(2.0, other, name), ome_image(0.2, '<TiffData IFD="0" PlaneCount="1"/>', name))
    assert read_header(tmp_path / "a.ome.tif").pixel_size_um == (0.2, 0.2)


def test_ome_of_more_images_than_the_file_holds_is_believed_by_name_only(tmp_path: Path) -> None:
    lost, there = '<TiffData IFD="7" PlaneCount="1"/>', '<TiffData IFD="0" PlaneCount="1"/>'
    write_images(tmp_path / "a.ome.tif", ome_image(2.0, lost), ome_image(0.2, there))
    header = read_header(tmp_path / "a.ome.tif")
    assert header.pixel_size_um is None and "describes 2 images and the file holds 1" in header.pixel_size_reason
    write_images(tmp_path / "b.ome.tif", ome_image(2.0, lost, "one"), ome_image(0.2, there, "two"))
    assert read_header(tmp_path / "b.ome.tif").pixel_size_um == (0.2, 0.2)


def test_micromanager_names_its_computer_and_plain_tags_their_maker(tmp_path: Path) -> None:
    write_mmstack(tmp_path / "a_MMStack.ome.tif", {(0, 0, 0, 0): pixels(8, 8)}, ComputerName="SIM-PC\t2")
    assert read_header(tmp_path / "a_MMStack.ome.tif").metadata.instrument == "SIM-PC 2"
    tags = [(271, "s", 0, "Hamamatsu", True), (272, "s", 0, "C13440", True)]
    tifffile.imwrite(tmp_path / "b.tif", pixels(8, 8), extratags=tags, metadata=None)
    assert read_header(tmp_path / "b.tif").metadata.instrument == "Hamamatsu C13440"


@pytest.mark.parametrize(
    ("z_um", "times_ms", "shape"),
    [([0.3, 0.3, 0.3], [0, 0, 0], (1, 1, 3)), ([0.3, 0.3, 0.3], [0, 100, 200], (1, 1, 3)), ([0, 0, 0], [0, 2500, 5000], (3, 1, 1))],
)
def test_metamorph_tells_steps_exposure_and_date(tmp_path: Path, z_um: list[float], times_ms: list[int], shape: tuple[int, ...]) -> None:
    array = pixels(3, 8, 9)
    write_stk(tmp_path / "a.stk", array, z_um, times_ms, 0.16)
    with open_planes(tmp_path / "a.stk") as planes:
        np.testing.assert_array_equal(read_all(planes), array.reshape(*shape, 8, 9))
        header = planes.header
    assert header.pixel_size_um == pytest.approx((0.16, 0.16))
    assert (header.z_step_um, header.time_step_s) == ((None, 2.5) if shape[0] > 1 else (pytest.approx(0.3), None))
    assert header.metadata.exposure_ms == pytest.approx((200,)) and header.metadata.acquired.startswith("2007-04-24T00:00:00")
    assert "Binning" in str(header.metadata.said)


def test_what_other_dialects_say_is_kept_in_bounds(tmp_path: Path) -> None:
    metadata = {"Info": "x" * 100_000, "Labels": ["one", "two"], "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", pixels(2, 8, 8), imagej=True, metadata={"axes": "ZYX", **metadata})
    said = read_header(tmp_path / "a.tif").metadata.said
    assert said["Labels"] == ["one", "two"] and "Info" not in said and said["left out, too long"] == ["Info"]
    assert len(json.dumps(said)) < SAID_BYTES
