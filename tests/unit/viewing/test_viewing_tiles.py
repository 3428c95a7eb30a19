"""The pixels that the server of `cvdm view` gives, and what it says where there are none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from viewing_world import NAME, Client, make_acquisition, pixels, serving, write_picture

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.images.layout import read_layout


def test_tiles_hold_the_pixels(made: tuple[Config, dict[str, np.ndarray]], client: Client) -> None:
    scene = json.loads(client.ask("scene.json")[1])
    assert [picture["key"] for picture in scene["pictures"]] == ["input", "restored", "std", "truth"]
    assert "stated by a person" in scene["pixel_size"]
    for picture in scene["pictures"]:
        for row, column in ((0, 0), (1, 2), (2, 3)):
            answer, body = client.ask(f"tile/{picture['key']}/0/1/0/2/{row}/{column}")
            assert answer.headers["ETag"] == f'"{picture["version"]}"'
            wanted = made[1][picture["key"]][1, 0, 2, row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
            np.testing.assert_array_equal(np.frombuffer(body, picture["dtype"]).reshape(wanted.shape), wanted)


def test_the_pixel_size_is_that_of_the_scale_bar_also_where_the_sheet_was_changed_since(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path, restored=False, truth=False)
    sheet = Path(config.acquisitions)
    sheet.write_text(sheet.read_text().replace("\t0.1\tstated", "\t0.25\tmetadata"))
    with serving(config) as server:
        scene = json.loads(Client(server).ask("scene.json")[1])
    assert scene["pictures"][0]["levels"][0]["pixel_um"] == [0.1, 0.1]
    assert scene["pixel_size"] == "0.1 µm, stated by a person in the sample sheet"


def test_integers_that_stand_for_real_numbers_are_shown_as_these(tmp_path: Path) -> None:
    config, arrays = make_acquisition(tmp_path, restored=False, truth=False)
    fine = np.repeat(np.repeat(arrays["input"], 2, 3), 2, 4)
    write_picture(config, paths.restored_store(config, NAME), fine, fine=True, intensity_map={"scale": 0.25, "offset": -7.0})
    with serving(config) as server:
        client = Client(server)
        restored = json.loads(client.ask("scene.json")[1])["pictures"][1]
        body = client.ask("tile/restored/0/0/1/0/0/0")[1]
    assert restored["dtype"] == "float32"
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(32, 32), fine[0, 1, 0, :32, :32] * np.float32(0.25) - 7)
    low, high = restored["windows"][1]
    values = fine[:, 1] * 0.25 - 7
    assert values.min() <= low < high <= values.max()


@pytest.mark.parametrize(
    "tile", ["input/9/0/0/0/0/0", "input/0/2/0/0/0/0", "input/0/0/0/0/3/0", "input/0/0/0/0/0/-1", "nothing/0/0/0/0/0/0", "x/0"]
)
def test_a_tile_outside_the_image_is_not_found(client: Client, tile: str) -> None:
    assert client.ask(f"tile/{tile}")[0].status == 404


@pytest.mark.parametrize("form", ["0.5", "0.4"])
def test_a_missing_or_damaged_file_is_said_and_not_shown_as_black(tmp_path: Path, form: str) -> None:
    config, _ = make_acquisition(tmp_path, restored=False, truth=False, form=form)
    store = paths.raw_store(config, NAME)
    layout = read_layout(store)
    damaged, missing = (store / layout.file_name(0, (0, 0, 0, 0, column)) for column in (0, 1))
    with serving(config) as server:
        client = Client(server)
        column = layout.file_edge // 32
        assert client.ask("tile/input/0/0/0/0/0/0")[0].status == client.ask(f"tile/input/0/0/0/0/0/{column}")[0].status == 200
        coarse = store / layout.file_name(2, (0, 0, 0, 0, 0))
        assert client.ask("tile/input/2/0/0/0/0/0")[0].status == 200
        coarse.unlink()
        assert client.ask("tile/input/2/0/0/0/0/0")[0].status == 404
        missing.unlink()
        answer, body = client.ask(f"tile/input/0/0/0/0/0/{column}")
        assert answer.status == 404
        assert missing.relative_to(store).as_posix().encode() in body
        content = bytearray(damaged.read_bytes())
        content[40] ^= 1 if form == "0.5" else 0
        damaged.write_bytes(content if form == "0.5" else content[:20])
        answer, body = client.ask("tile/input/0/0/0/0/0/0")
        assert answer.status == 500
        assert b"cvdm verify" in body


def test_a_store_may_be_replaced_or_vanish_while_it_is_open(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path, truth=False)
    store = paths.restored_store(config, NAME)
    with serving(config) as server:
        client = Client(server)
        before = json.loads(client.ask("scene.json")[1])["pictures"][1]
        shutil.rmtree(store)
        gone = json.loads(client.ask("scene.json")[1])
        assert [picture["key"] for picture in gone["pictures"]] == ["input"]
        assert "'demo' yet" in gone["notes"][0]
        assert client.ask("tile/restored/0/0/0/0/0/0")[0].status == 404
        store.mkdir()
        (store / "0").mkdir()
        empty = json.loads(client.ask("scene.json")[1])["pictures"][1]
        assert "written anew" in empty["problem"]
        assert client.ask("tile/restored/0/0/0/0/0/0")[0].status == 503
        shutil.rmtree(store)
        new = pixels((2, 2, 3, 150, 200), "float32", 9)
        write_picture(config, store, new, fine=True)
        after = json.loads(client.ask("scene.json")[1])["pictures"][1]
        assert after["version"] != before["version"]
        answer, body = client.ask("tile/restored/0/0/0/0/0/0")
        assert answer.headers["ETag"] == f'"{after["version"]}"'
        np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(32, 32), new[0, 0, 0, :32, :32])


def test_damaged_metadata_become_a_sentence(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path, restored=False, truth=False)
    metadata = paths.raw_store(config, NAME) / "zarr.json"
    whole = json.loads(metadata.read_text())
    with serving(config) as server:
        client = Client(server)
        for change in ("units", "omero", "all"):
            broken = json.loads(json.dumps(whole))
            if change == "units":
                for axis in broken["attributes"]["ome"]["multiscales"][0]["axes"]:
                    axis.pop("unit", None)
            elif change == "omero":
                broken["attributes"]["ome"]["omero"] = {"channels": [{}]}
            metadata.write_text(json.dumps(broken) if change != "all" else "{")
            picture = json.loads(client.ask("scene.json")[1])["pictures"][0]
            assert "raw.ome.zarr" in picture["problem"], change
            assert "levels" not in picture
