"""Folders of single planes: put together by a pattern, complete or refused by name, and hashed file by file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from register_folder import CONFIG, SHEET, refused, rows, tiff
from store_tree import SETTINGS
from tiff_dialects import pixels, read_all

from cvdm_core import paths
from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.acquisitions.patterns import gather
from cvdm_core.acquisitions.register import register
from cvdm_core.config import parse
from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.images.acquired import open_acquired, read_acquired
from cvdm_core.records.receipts import read_json, sha256_file
from cvdm_core.sheet import read_sheet

ARRAY = pixels(3, 2, 4, 9, 11)  # (T, C, Z, Y, X)
WORDS = ("DAPI", "GFP")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_planes(name: str, array: np.ndarray = ARRAY, channels: tuple[str, ...] = WORDS) -> None:
    """Write one file a plane; `name` holds {t}, {z}, {c} as Python's format takes them."""
    for t, c, z in np.ndindex(array.shape[:3]):
        path = Path(name.format(t=t, c=channels[c], z=z))
        path.parent.mkdir(parents=True, exist_ok=True)
        size = {f"PhysicalSize{axis}": 0.1 for axis in "XY"}
        tifffile.imwrite(path, array[t, c, z], ome=True, metadata={"axes": "YX", **size})


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("raw/A01_f1_T{t:03}_Z{z}_C{c}.tif", "raw/A01_f1_T{t}_Z{z}_C{c}.tif"),
        ("raw/t{t}/{c}/z{z:02}.tif", "raw/t{t}/{c}/z{z}.tif"),
        ("raw/img_{t:09}_{c}_{z:03}.tif", "raw/img_{t}_{c}_{z}.tif"),
        ("raw/a+(b)[c]_{t}_{z}_{c}_{t}.tif", "raw/a+(b)[c]_{t}_{z}_{c}_{t}.tif"),
    ],
)
def test_a_pattern_comes_in_with_its_pixels(written: str, pattern: str) -> None:
    write_planes(written)
    with open_acquired(pattern) as planes:
        planes.check_complete()
        np.testing.assert_array_equal(read_all(planes), ARRAY)  # type: ignore[arg-type]
        assert planes.header.channels == WORDS and planes.header.pixel_size_um == (0.1, 0.1)
        assert len(planes.files) == 24


def test_axes_may_lie_inside_the_files_too() -> None:
    for t in range(3):
        tifffile.imwrite(f"a_t{t}.tif", ARRAY[t, 0], photometric="minisblack", metadata=None)
    with open_acquired("a_t{t}.tif") as planes:  # what nothing describes can only be z here
        np.testing.assert_array_equal(read_all(planes), ARRAY[:, :1])  # type: ignore[arg-type]
    for t in range(3):
        tifffile.imwrite(f"b_t{t}.tif", ARRAY[t], photometric="minisblack", ome=True, metadata={"axes": "CZYX"})
    with open_acquired("b_t{t}.tif") as planes:
        np.testing.assert_array_equal(read_all(planes), ARRAY)  # type: ignore[arg-type]


STEPS = {"PhysicalSizeZ": 0.3, "PhysicalSizeZUnit": "µm", "TimeIncrement": 2.5, "TimeIncrementUnit": "s"}


def test_the_steps_that_each_file_states_are_those_of_the_image() -> None:
    for t, z in np.ndindex(3, 4):
        tiff(f"raw/a_t{t}_z{z}.tif", **STEPS)
    register(CONFIG, ["raw"])
    row = read_sheet(SHEET)["a"]
    assert (row.shape[:3], row.z_step_um, row.z_step_source, row.time_step_s) == ((3, 1, 4), 0.3, "metadata", 2.5)


def test_a_stated_step_is_not_believed_where_only_some_of_the_planes_are_there() -> None:
    for number in range(0, 8, 2):
        tiff(f"raw/a_z{number}.tif", **STEPS)
        tiff(f"b_t{number}.tif", **STEPS)
    (problem,) = refused("raw")
    assert "their distance is not known (the numbers of its files do not follow one another)" in problem
    assert read_acquired("b_t{t}.tif").time_step_s is None


def test_a_step_that_a_single_plane_states_is_none_of_its_acquisition() -> None:
    tiff("a.tif", **STEPS)
    register(CONFIG, ["a.tif"], Added(z_step_um=0.5))
    row = read_sheet(SHEET)["a"]
    assert (row.z_step_um, row.z_step_source, row.time_step_s) == (None, "", None)


def test_missing_planes_are_named() -> None:
    write_planes("a_T{t:02}_Z{z}_C{c}.tif")
    Path("a_T01_Z2_CGFP.tif").unlink()
    with pytest.raises(UserError, match=r"1 of 24 planes are missing \(t 1, c GFP, z 2\)"):
        read_acquired("a_T{t}_Z{z}_C{c}.tif")
    for path in Path().glob("a_T01_*"):
        path.unlink()
    with pytest.raises(UserError, match=r"8 of 24 planes are missing \(t 1, c DAPI, z 0; t 1, c DAPI, z 1; .*; \.\.\.\)"):
        read_acquired("a_T{t}_Z{z}_C{c}.tif")


def test_numbers_in_steps_are_no_gap_but_numbers_of_something_else_are_refused() -> None:
    for number in (0, 10, 20, 30):
        tifffile.imwrite(f"a_t{number}.tif", ARRAY[0, 0, 0])
    assert read_acquired("a_t{t}.tif").shape == (4, 1, 1, 9, 11)
    tifffile.imwrite("a_t99999999999999.tif", ARRAY[0, 0, 0])
    with pytest.raises(UserError, match="t runs from 0 to 99999999999999 and 5 of these"):
        read_acquired("a_t{t}.tif")


def test_a_channel_may_be_any_word() -> None:
    for word in ("1", "²", "٣"):
        tiff(f"a_{word}.tif")
    assert read_acquired("a_{c}.tif").channels == ("channel_1", "channel_٣", "²")


def test_planes_that_differ_or_stand_twice_are_named() -> None:
    write_planes("a_t{t}.tif", ARRAY[:, :1, :1])
    tifffile.imwrite("a_t2.tif", ARRAY[0, 0, 0, :5])
    with pytest.raises(UserError, match=r"a_t2\.tif: it is \(1, 1, 1, 5, 11\) .* and a_t0\.tif is \(1, 1, 1, 9, 11\)"):
        read_acquired("a_t{t}.tif")
    tifffile.imwrite("a_t2.tif", ARRAY[0, 0, 0].astype("float32"))
    with pytest.raises(UserError, match=r"a_t2\.tif: .* float32 and a_t0\.tif .* uint16"):
        read_acquired("a_t{t}.tif")
    tifffile.imwrite("a_t02.tif", ARRAY[0, 0, 0])
    with pytest.raises(UserError, match="the same plane as"):
        read_acquired("a_t{t}.tif")
    with pytest.raises(UserError, match="no file matches"):
        read_acquired("b_{well}_t{t}.tif")


@pytest.mark.parametrize(
    ("names", "axes", "other", "sentence"),
    [
        ("a_t{}.tif", "YX", {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2}, r"its pixel size is 0\.2 um, not 0\.1 um as in a_t0"),
        ("a_t{}.tif", "YX", {"PhysicalSizeX": 0.102}, r"its pixel size is 0\.1 x 0\.102 um, not 0\.1 um as in a_t0"),
        ("a_z{}.tif", "YX", {"PhysicalSizeZ": 0.5}, r"its z step is 0\.5 um, not 0\.3 um as in a_z0"),
        ("a_t{}.tif", "ZYX", {"PhysicalSizeZ": 0.5}, r"its z step is 0\.5 um, not 0\.3 um as in a_t0"),
        ("a_z{}.tif", "TYX", {"TimeIncrement": 5.0}, r"its time step is 5 s, not 2\.5 s as in a_z0"),
        ("a_t{}.tif", "YX", {"PhysicalSizeZ": 0.5}, ""),  # of one plane it means nothing
        ("a_t{}.tif", "YX", {"PhysicalSizeX": 0.1004, "TimeIncrement": 2.52}, ""),
    ],
)
def test_files_of_one_image_do_not_differ_in_scale(names: str, axes: str, other: dict[str, float], sentence: str) -> None:
    shape = (2, 9, 11)[3 - len(axes) :]
    known = STEPS | {"axes": axes} | {f"PhysicalSize{axis}": 0.1 for axis in "XY"}
    for number in range(3):
        tiff(names.format(number), *shape, pixel_um=None, **known | (other if number == 2 else {}))
    pattern = names.replace("{}", "{" + names[2] + "}")
    if not sentence:
        assert read_acquired(pattern).pixel_size_um == (0.1, 0.1)
        return
    with pytest.raises(UserError, match=rf"{names.format(2)}: {sentence}"):
        read_acquired(pattern)


LIKE_A_CAMERA = {"metadata": None, "resolution": (1e5, 1e5), "resolutionunit": 3}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that tifffile is asked to open, in order."""
    names, parse_tiff = [], tifffile.TiffFile

    def note(path: Path, **given: object) -> tifffile.TiffFile:
        names.append(path.name)
        return parse_tiff(path, **given)

    monkeypatch.setattr(tifffile, "TiffFile", note)
    return names


def test_of_files_that_differ_in_pixels_only_the_first_is_parsed(parsed: list[str]) -> None:
    for t in range(3):
        tifffile.imwrite(f"a_t{t}.tif", ARRAY[t, 0, 0], **LIKE_A_CAMERA)
    tifffile.imwrite("a_t3.tif", ARRAY[0, 1, 0], software="other", **LIKE_A_CAMERA)
    parsed.clear()  # imwrite may open files too
    with open_acquired("a_t{t}.tif") as planes:
        planes.check_complete()
        np.testing.assert_array_equal(read_all(planes)[:, 0, 0], [*ARRAY[:, 0, 0], ARRAY[0, 1, 0]])  # type: ignore[arg-type]
        assert planes.header.pixel_size_um == (0.1, 0.1)
    assert parsed[0] == "a_t0.tif" and set(parsed) == {"a_t0.tif", "a_t3.tif"}


def test_a_file_of_the_same_size_and_another_shape_is_refused() -> None:
    for t in range(3):
        tifffile.imwrite(f"a_t{t}.tif", ARRAY[t, 0, 0], **LIKE_A_CAMERA)
    tifffile.imwrite("a_t2.tif", ARRAY[2, 0, 0].T, **LIKE_A_CAMERA)
    assert Path("a_t2.tif").stat().st_size == Path("a_t0.tif").stat().st_size
    with pytest.raises(UserError, match=r"a_t2\.tif: it is \(1, 1, 1, 11, 9\) .* and a_t0\.tif is \(1, 1, 1, 9, 11\)"):
        read_acquired("a_t{t}.tif")


def test_a_file_that_is_cut_off_after_it_was_compared_is_named() -> None:
    for t in range(3):
        tifffile.imwrite(f"a_t{t}.tif", ARRAY[t, 0, 0], **LIKE_A_CAMERA)
    with open_acquired("a_t{t}.tif") as planes:
        Path("a_t1.tif").write_bytes(Path("a_t1.tif").read_bytes()[:-20])
        with pytest.raises(UserError, match=r"a_t1\.tif: the file is cut off"):
            planes.read(1, 0, 0, slice(0, 9), slice(0, 11))


def test_a_pattern_in_the_sheet_is_ingested_with_every_hash() -> None:
    write_planes("raw/A01_T{t}_Z{z}_C{c}.tif")
    pattern = "raw/A01_T{t}_Z{z}_C{c}.tif"
    rows(f"a s predict {pattern} 0.3", columns="acquisition specimen split input stated_z_step_um")
    register(CONFIG, [])
    assert read_sheet(SHEET)["a"].shape == ARRAY.shape and read_sheet(SHEET)["a"].channels == WORDS
    config = parse({"acquisitions": SHEET, "store": SETTINGS}, "the test")
    ingest(config, "a")
    np.testing.assert_array_equal(open_image(paths.raw_store(config, "a")).values, ARRAY)
    read = read_json(paths.ingest_receipt(config, "a"))["read"]
    assert read == {str(path): sha256_file(path) for path in Path("raw").iterdir()} and len(read) == 24


def test_register_guesses_the_patterns_of_a_folder_and_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    for well in ("A01", "C01"):
        write_planes(f"raw/plate_{well}_T{{t}}_C{{c}}.tif", ARRAY[:, :, :1])
    tifffile.imwrite("raw/other.tif", ARRAY[0, 0, 0], ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1})
    register(CONFIG, ["raw"])
    sheet = read_sheet(SHEET)
    assert {name: row.input for name, row in sheet.items()} == {
        "plate_A01": "raw/plate_A01_T{t}_C{c}.tif", "plate_C01": "raw/plate_C01_T{t}_C{c}.tif", "other": "raw/other.tif",
    }  # fmt: skip
    assert sheet["plate_C01"].shape == (3, 2, 1, 9, 11)
    assert "raw/plate_A01_T{t}_C{c}.tif: the files that match are taken for one acquisition" in capsys.readouterr().err
    before = Path(SHEET).read_bytes()
    register(CONFIG, ["raw"])
    assert Path(SHEET).read_bytes() == before


def test_a_template_is_an_acquisition_for_each_text_in_the_place_of_its_words() -> None:
    for well, field in (("A01", 1), ("A01", 2), ("B+(7)", 1)):
        write_planes(f"raw/{well}_{field}_T{{t}}_C{{c}}.tif", ARRAY[:, :, :1])
        write_planes(f"plates/p{field}/{well}/im_t{{t}}.tif", ARRAY[:, :1, :1])
    Path("raw/{t}_1_T0_CGFP.tif").write_bytes(b"")  # a name that would be taken for a pattern itself is no text for a word
    for _ in range(2):  # what is in the sheet already is not added again
        problems = refused("raw/{well}_{field}_T{t}_C{c}.tif", "plates/p{plate}/{well}/im_t{t}.tif")
        assert len(problems) == 2 and all("is no usable name" in problem and "B+(7)" in problem for problem in problems)
        assert {name: (row.input, row.shape[:2]) for name, row in read_sheet(SHEET).items()} == {
            "A01_1": ("raw/A01_1_T{t}_C{c}.tif", (3, 2)),
            "A01_2": ("raw/A01_2_T{t}_C{c}.tif", (3, 2)),
            "1_A01_im": ("plates/p1/A01/im_t{t}.tif", (3, 1)),
            "2_A01_im": ("plates/p2/A01/im_t{t}.tif", (3, 1)),
        }


@pytest.mark.parametrize(
    ("template", "sentence"),
    [("raw/{well}_{t}.tif", "no file matches"), ("raw/{1}.tif", "it cannot be searched"), ("{a}/{b}.tif", "no file")],
)
def test_a_template_that_stands_for_nothing_is_refused(template: str, sentence: str) -> None:
    Path("raw").mkdir()
    (problem,) = refused(template)
    assert sentence in problem and template in problem


def test_files_that_are_acquisitions_already_are_not_gathered() -> None:
    write_planes("raw/a_t{t}.tif", ARRAY[:, :1, :1])
    register(CONFIG, ["raw/a_t0.tif", "raw/a_t1.tif", "raw/a_t2.tif"])
    register(CONFIG, ["raw"])
    assert list(read_sheet(SHEET)) == ["a_t0", "a_t1", "a_t2"]


def test_an_incomplete_sequence_is_refused_when_it_is_registered() -> None:
    write_planes("raw/a_Z{z}_T{t}.tif", ARRAY[:, :1])
    Path("raw/a_Z2_T1.tif").unlink()
    (problem,) = refused("raw")
    assert "1 of 12 planes are missing (t 1, z 2)" in problem


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x_w1GFP_s1_t1.TIF", "x_w2RFP_s1_t1.TIF", "x_w1GFP_s1_t2.TIF"], ["x_w{c}_s1_t{t}.TIF"]),
        (["img_channel000_position000_time000_z000.tif", "img_channel001_position000_time000_z000.tif"],
         ["img_channel{c}_position000_time000_z000.tif"]),
        (["p_A03_T0.tif", "p_C03_T0.tif", "p_A03_T1.tif", "p_C03_T1.tif"], ["p_A03_T{t}.tif", "p_C03_T{t}.tif"]),
        (["IXM_A02_s9_w1.tif", "IXM_A02_s9_w2.tif", "IXM_A02_s8_w1.tif"], ["IXM_A02_s9_w{c}.tif", "IXM_A02_s8_w1.tif"]),
        (["cell1.tif", "cell2.tif", "Control_1.tif", "t1.tif", "t2.tif"], None),
        ([f"s_z{z / 2:.1f}.tif" for z in range(4)], None),  # of half a stack each, two would be made
        ([f"s_t{t}_z{z / 2:.1f}um.tif" for t in range(2) for z in range(4)], None),
        (["s.t1.z0.tif", "s.t2.z0.tif"], ["s.t{t}.z0.tif"]),
        (["a_z00_ch00.tif", "a_z00_ch01.tif", "a_z01_ch00.tif"], ["a_z{z}_ch{c}.tif"]),
    ],
)  # fmt: skip
def test_what_is_gathered(names: list[str], expected: list[str] | None) -> None:
    assert [path.name for path in gather([Path("raw", name) for name in names])] == (names if expected is None else expected)
