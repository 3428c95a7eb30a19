"""A mosaic from the command line to the store: measured once, placed as measured, refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from micromanager import write_mmstack, write_ndtiff
from register_folder import CONFIG, SHEET, refused, rows
from store_tree import SETTINGS, digests
from zeiss_lsm import write_lsm

from cvdm_core import paths
from cvdm_core.acquisitions import mosaics
from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.acquisitions.mosaics import layout_file
from cvdm_core.acquisitions.refusals import read_refusals
from cvdm_core.acquisitions.register import register
from cvdm_core.config import Config, parse
from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.images.fields import open_fields
from cvdm_core.images.mosaic import MosaicPlanes
from cvdm_core.images.stage import from_micromanager
from cvdm_core.images.tiff import read_header
from cvdm_core.records.receipts import read_json
from cvdm_core.records.verify import verify
from cvdm_core.sheet import Acquisition, read_sheet
from cvdm_core.simulation.mosaic import SimulatedMosaic, simulate_mosaic, write_mosaic

PIXEL = 0.1
COLUMNS = "acquisition specimen split input series"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def sim() -> SimulatedMosaic:
    return simulate_mosaic((2, 2), 128, overlap=0.2, jitter=3.0, seed=1)


def config() -> Config:
    return parse({"acquisitions": SHEET, "store": SETTINGS | {"chunk": 128, "shard": 256}}, "the test")


def state(column: str, value: str, name: str = "scan") -> None:
    """Write one cell of the sheet, as a person does."""
    lines = [line.split("\t") for line in Path(SHEET).read_text().splitlines()]
    for line in lines[1:]:
        if line[0] == name:
            line[lines[0].index(column)] = value
    Path(SHEET).write_text("\n".join(map("\t".join, lines)) + "\n")


def row(name: str = "scan") -> Acquisition:
    return read_sheet(SHEET)[name]


def placed(store: Path, sim: SimulatedMosaic) -> None:
    """Check that a store holds every field's pixels at its true place."""
    image = open_image(store)
    fields = image.attrs["cvdm"]["mosaic"]["fields"]
    corners = np.array([(field["y"], field["x"]) for field in fields])
    np.testing.assert_array_equal(corners - corners[0], sim.corners - sim.corners[0])
    for pixels, (y, x) in zip(sim.fields, corners, strict=True):
        inner = slice(y + 40, y + 90), slice(x + 40, x + 90)
        np.testing.assert_array_equal(image.values[0, 0, 0][inner], pixels[40:90, 40:90])


def test_a_file_of_fields_becomes_one_image_with_its_layout_in_receipt_and_store(sim: SimulatedMosaic, capsys: Any) -> None:
    write_mosaic("scan.ome.tif", sim.fields, sim.stage * PIXEL, PIXEL)
    register(CONFIG, ["scan.ome.tif"], Added(mosaic=True))
    assert "4 fields were placed by 4 of 4 overlaps" in capsys.readouterr().err
    ingest(config(), "scan")
    store = paths.raw_store(config(), "scan")
    assert open_image(store).shape == row().shape
    placed(store, sim)
    assert verify([Path("results")]) == []
    receipt = read_json(paths.ingest_receipt(config(), "scan"))
    assert receipt["details"]["mosaic"] == open_image(store).attrs["cvdm"]["mosaic"]
    assert str(layout_file(SHEET, "scan")) in receipt["read"]
    first = digests(store)
    ingest(config(), "scan")
    assert digests(store) == first


def test_it_is_measured_once_and_again_when_something_changes(sim: SimulatedMosaic, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mosaic("scan.ome.tif", sim.fields, sim.stage * PIXEL, PIXEL)
    register(CONFIG, ["scan.ome.tif"], Added(mosaic=True))
    before = Path(SHEET).read_bytes(), layout_file(SHEET, "scan").read_bytes()
    measured: list[str] = []
    arrange = mosaics.arrange
    monkeypatch.setattr(mosaics, "arrange", lambda *given: measured.append("again") or arrange(*given))  # type: ignore[func-returns-value]
    register(CONFIG, ["scan.ome.tif"], Added(mosaic=True))
    assert (Path(SHEET).read_bytes(), layout_file(SHEET, "scan").read_bytes()) == before and not measured
    state("stage_axes", "+x+y")
    register(CONFIG, [])
    assert measured == ["again"] and row().layout != before[0].decode().splitlines()[1].split("\t")[-1]
    layout_file(SHEET, "scan").unlink()
    register(CONFIG, [])
    assert measured == ["again"] * 2


def test_a_layout_that_is_not_the_registered_one_is_not_ingested(sim: SimulatedMosaic) -> None:
    write_mosaic("scan.ome.tif", sim.fields, sim.stage * PIXEL, PIXEL)
    register(CONFIG, ["scan.ome.tif"], Added(mosaic=True))
    path = layout_file(SHEET, "scan")
    content = json.loads(path.read_text())
    content["fields"][0]["y"] += 1
    for damaged in (json.dumps(content), "{", ""):
        path.write_text(damaged)
        with pytest.raises(UserError, match="not those that were registered"):
            ingest(config(), "scan")
    path.unlink()
    with pytest.raises(UserError, match="not those that were registered"):
        ingest(config(), "scan")
    register(CONFIG, [])
    write_mosaic("scan.ome.tif", sim.fields[:3], sim.stage[:3] * PIXEL, PIXEL)
    with pytest.raises(UserError, match="its fields are not those that were registered"):
        ingest(config(), "scan")
    assert not paths.raw_store(config(), "scan").exists()


def test_ingest_that_ends_in_the_middle_leaves_nothing_and_begins_anew(sim: SimulatedMosaic, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mosaic("scan.ome.tif", sim.fields, sim.stage * PIXEL, PIXEL)
    register(CONFIG, ["scan.ome.tif"], Added(mosaic=True))
    read, calls = MosaicPlanes.read, []

    def fails(self: MosaicPlanes, *region: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(region)
        return read(self, *region)

    with monkeypatch.context() as patched:
        patched.setattr(MosaicPlanes, "read", fails)
        with pytest.raises(KeyboardInterrupt):
            ingest(parse({"acquisitions": SHEET, "store": SETTINGS | {"shard": 128}}, "the test"), "scan")
    assert calls
    assert not list(Path("results/scan").glob("*raw*"))
    ingest(config(), "scan")
    placed(paths.raw_store(config(), "scan"), sim)


def test_files_of_a_pattern_with_a_table_of_positions(sim: SimulatedMosaic) -> None:
    Path("raw").mkdir()
    for number, field in enumerate(sim.fields):
        for channel, image in (("GFP", field), ("mCherry", field // 2)):
            size = {f"PhysicalSize{axis}": PIXEL for axis in "XY"}
            tifffile.imwrite(f"raw/a_{number + 9}_{channel}.tif", image, ome=True, metadata={"axes": "YX", **size})
    problem = refused("raw/a_{f}_{c}.tif")[0]
    assert "stage positions of 4 of its 4 fields ('9', '10', '11', ...) are not in the files" in problem
    lines = [f"{number + 9}\t{x * PIXEL}\t{y * PIXEL}" for number, (y, x) in enumerate(sim.stage.tolist())]
    Path("positions.tsv").write_text("\n".join(["field\tx_um\ty_um", *lines]) + "\n")
    rows("a a predict raw/a_{f}_{c}.tif mosaic positions.tsv", columns=f"{COLUMNS} positions")
    register(CONFIG, [])
    ingest(config(), "a")
    image = open_image(paths.raw_store(config(), "a"))
    placed(paths.raw_store(config(), "a"), sim)
    assert [str(name) for name in image.c.values] == ["GFP", "mCherry"]
    np.testing.assert_array_equal(image.values[0, 1, 0], image.values[0, 0, 0] // 2)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["0\t0\tnan"], "'nan' is no position"),
        (["0\t1e999\t0"], "'1e999' is no position"),
        (["../../etc/passwd\t0\t0"], "the field '../../etc/passwd' is none of the mosaic's ('0', '1', '2', ...)"),
        (["0\t0\t0", "0\t1\t1"], "line 3: the field '0' stands twice"),
        (["0\t0\t0", "1\t1\t1"], "2 of the 4 fields have no line (the first is '2')"),
        (["0\t0"], "line 2: the column 'y_um' is missing or empty"),
        (["\x00\xff"], "positions.tsv"),
    ],
)
def test_a_table_that_cannot_be_true_is_refused(sim: SimulatedMosaic, lines: list[str], said: str) -> None:
    write_mosaic("scan.ome.tif", sim.fields, sim.stage * PIXEL, PIXEL)
    Path("positions.tsv").write_text("\n".join(["field\tx_um\ty_um", *lines]), encoding="latin-1")
    rows("scan s predict scan.ome.tif mosaic positions.tsv", columns=f"{COLUMNS} positions")
    (problem,) = refused()
    assert said in problem


def test_a_table_speaks_before_the_files(sim: SimulatedMosaic) -> None:
    write_mosaic("scan.ome.tif", sim.fields, np.zeros_like(sim.stage), PIXEL)
    assert "'0' and '1' lie at the same place" in refused("scan.ome.tif", mosaic=True)[0]
    lines = [f"{number}\t{x * PIXEL}\t{y * PIXEL}" for number, (y, x) in enumerate(sim.stage.tolist())]
    Path("positions.tsv").write_text("\n".join(["field\tx_um\ty_um", *lines]))
    rows("scan s predict scan.ome.tif mosaic positions.tsv", columns=f"{COLUMNS} positions")
    register(CONFIG, [])
    ingest(config(), "scan")
    placed(paths.raw_store(config(), "scan"), sim)


def test_a_field_of_another_size_is_refused_by_name(sim: SimulatedMosaic) -> None:
    with tifffile.TiffWriter("scan.ome.tif", ome=True) as file:
        for image in (*sim.fields[:3], sim.fields[3][:100]):
            file.write(image, photometric="minisblack", metadata={"axes": "YX", "PhysicalSizeX": PIXEL, "PhysicalSizeY": PIXEL})
    (problem,) = refused("scan.ome.tif", mosaic=True)
    assert "scan.ome.tif, field '3': it is (1, 1, 1, 100, 128)" in problem and "the field '0' (1, 1, 1, 128, 128)" in problem


def test_what_is_no_mosaic_is_told_so(sim: SimulatedMosaic) -> None:
    write_mosaic("one.ome.tif", sim.fields[:1], sim.stage[:1], PIXEL)
    assert "it holds one image, and a mosaic has several fields" in refused("one.ome.tif", mosaic=True)[0]
    write_mosaic("a_input.ome.tif", sim.fields, sim.stage, PIXEL)
    write_mosaic("a_target.ome.tif", sim.fields, sim.stage, PIXEL)
    assert "a mosaic has no target" in refused("a_input.ome.tif", "a_target.ome.tif", mosaic=True)[0]
    rows("b b predict one.ome.tif +x+y", columns="acquisition specimen split input stage_axes")
    assert "the column stage_axes is for mosaics" in refused()[0]
    rows("b b predict one_{f}.tif", columns="acquisition specimen split input")
    assert "write `mosaic` into the column series" in refused()[0]
    rows("b b predict one_{t}.tif mosaic", columns=COLUMNS)
    assert "the pattern has no {f}" in refused()[0]


def test_a_flat_field_of_the_sheet_is_divided_by_and_named_in_the_receipt() -> None:
    uneven = simulate_mosaic((1, 2), 128, overlap=0.2, uneven=0.5, photons=400, seed=1)
    write_mosaic("scan.ome.tif", uneven.fields, uneven.stage * PIXEL, PIXEL)
    tifffile.imwrite("flat.tif", uneven.light)
    rows("scan s predict scan.ome.tif mosaic flat.tif 100", columns=f"{COLUMNS} flat_field dark_level")
    problem = refused()[0]
    assert "flat.tif: this is no illumination profile: above the dark level of 100" in problem
    tifffile.imwrite("flat.tif", uneven.light + 100)
    register(CONFIG, [])
    before = row().layout
    ingest(config(), "scan")
    assert "flat.tif" in read_json(paths.ingest_receipt(config(), "scan"))["read"]
    image = open_image(paths.raw_store(config(), "scan")).values[0, 0, 0]
    fields = open_image(paths.raw_store(config(), "scan")).attrs["cvdm"]["mosaic"]["fields"]
    y, x = fields[0]["y"], fields[0]["x"]
    wanted = np.rint((uneven.fields[0].astype(float) - 100) / uneven.light + 100)[:90, :90]
    assert np.abs(image[y : y + 90, x : x + 90] - wanted).max() <= 1
    tifffile.imwrite("flat.tif", uneven.light**2 + 100)
    register(CONFIG, [])
    assert row().layout != before


def test_the_positions_of_an_mmstack(sim: SimulatedMosaic) -> None:
    listed = [
        {"Label": f"1-Pos_{n}", "DefaultXYStage": "XY", "DevicePositions": [{"Device": "Z", "Position_um": [3]},
         {"Device": "XY", "Position_um": [x * PIXEL, y * PIXEL]}]} for n, (y, x) in enumerate(sim.stage.tolist())
    ]  # fmt: skip
    planes = {(0, 0, 0, number): field for number, field in enumerate(sim.fields)}
    write_mmstack(Path("run_MMStack.ome.tif"), planes, Positions=4, PixelSize_um=PIXEL, StagePositions=listed)
    register(CONFIG, ["run_MMStack.ome.tif"], Added(name="run", mosaic=True))
    ingest(config(), "run")
    placed(paths.raw_store(config(), "run"), sim)


def test_the_tiles_of_an_lsm(sim: SimulatedMosaic) -> None:
    tiles = [(x * PIXEL, y * PIXEL) for y, x in sim.stage.tolist()]
    write_lsm(Path("run.lsm"), np.asarray(sim.fields)[:, None, None], "MZCYX", pixel_um=PIXEL, tiles_um=tiles)
    register(CONFIG, ["run.lsm"], Added(name="run", mosaic=True))
    ingest(config(), "run")
    placed(paths.raw_store(config(), "run"), sim)


def test_a_set_whose_fields_lie_in_several_files_is_one_mosaic(sim: SimulatedMosaic) -> None:
    names = [json.dumps({"position": number}) for number in range(4)]
    listed = [{"DeviceCoordinatesUm": {"XYStage": [x * PIXEL, y * PIXEL]}} for y, x in sim.stage.tolist()]
    write_ndtiff(Path("run"), dict(zip(names, sim.fields, strict=True)), files=2, PixelSize_um=PIXEL, InitialPositionList=listed)
    with open_fields("run/run_NDTiffStack.tif") as fields:
        assert fields.names == ("0", "1", "2", "3") and len(fields.files) == 3
    register(CONFIG, ["run"], Added(mosaic=True))
    assert [(name, row.series) for name, row in read_sheet(SHEET).items()] == [("run_NDTiffStack", "mosaic")]
    assert read_refusals(SHEET) == []
    ingest(config(), "run_NDTiffStack")
    placed(paths.raw_store(config(), "run_NDTiffStack"), sim)


@pytest.mark.parametrize(
    ("position", "unit", "expected"),
    [((1.5, -2.0), "mm", (-2000.0, 1500.0)), ((7.0, 8.0), None, (8.0, 7.0)), ((7.0, 8.0), "reference frame", None)],
)
def test_the_position_of_an_ome_image_has_a_unit(position: tuple[float, float], unit: str | None, expected: Any) -> None:
    plane: dict[str, Any] = {"PositionX": [position[0]], "PositionY": [position[1]]}
    plane |= {} if unit is None else {"PositionXUnit": [unit], "PositionYUnit": [unit]}
    tifffile.imwrite("a.ome.tif", np.zeros((8, 8), np.uint8), ome=True, metadata={"axes": "YX", "Plane": plane})
    found = read_header("a.ome.tif").metadata.stage_um
    assert found == (expected if expected is None else pytest.approx(expected))


def test_the_position_that_a_plane_of_micromanager_holds_speaks_before_the_list() -> None:
    summary = {"StagePositions": [{"DevicePositions": [{"Device": "XY", "Position_um": [1, 2]}]}]}
    assert from_micromanager({"XPositionUm": 3.5, "YPositionUm": -4}, summary, 0) == (-4.0, 3.5)
    assert from_micromanager({"XPositionUm": "nan", "YPositionUm": 1}, summary, 0) == (2.0, 1.0)
    for odd in ({}, {"StagePositions": [3]}, {"StagePositions": [{"DevicePositions": [{"Device": "XY", "Position_um": ["a", None]}]}]}):
        assert from_micromanager({}, odd, 0) is None
    assert from_micromanager({}, summary, 1) is None
