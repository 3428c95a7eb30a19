"""What the server of `cvdm view` gives to whom, asked over HTTP as any program could ask it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from viewing_world import NAME, Client, make_acquisition, pixels, serving, write_picture

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.omezarr import read_layout
from cvdm_core.viewing.server import ViewServer, open_server

SHARD = "stores/raw.ome.zarr/0/c/0/0/0/0/0"
OURS = ("https://viewer.example",)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, np.ndarray]]:
    return make_acquisition(tmp_path_factory.mktemp("facility"))


@pytest.fixture(scope="module")
def server(made: tuple[Config, dict[str, np.ndarray]]) -> Iterator[ViewServer]:
    with serving(made[0], OURS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ViewServer) -> Client:
    return Client(server)


@pytest.fixture
def shard(made: tuple[Config, dict[str, np.ndarray]]) -> bytes:
    return (paths.raw_store(made[0], NAME) / "0/c/0/0/0/0/0").read_bytes()


def test_a_file_of_a_store_comes_whole(client: Client, shard: bytes) -> None:
    answer, body = client.ask(SHARD)
    assert (answer.status, body) == (200, shard)
    assert answer.headers["Content-Length"] == str(len(shard))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer, body = client.ask("stores/raw.ome.zarr/zarr.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(body)["zarr_format"] == 3


def test_head_gives_the_headers_alone(client: Client, shard: bytes) -> None:
    answer, body = client.ask(SHARD, "HEAD", Range="bytes=0-3")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(shard))


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=5-5", slice(5, 6)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-68", slice(-68, None)),
        ("bytes=-99999999", slice(0, None)),
        ("bytes=7-99999999", slice(7, None)),
    ],
)
def test_a_range_gives_these_bytes(client: Client, shard: bytes, asked: str, part: slice) -> None:
    answer, body = client.ask(SHARD, Range=asked)
    assert (answer.status, body) == (206, shard[part])
    start, stop, _ = part.indices(len(shard))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(shard)}"
    assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0", "bytes=99999999-99999999"])
def test_a_range_beyond_the_end_is_refused(client: Client, shard: bytes, asked: str) -> None:
    answer, _ = client.ask(SHARD, Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(shard)}"


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes=" + "9" * 5000 + "-"])
def test_what_is_no_single_range_gives_the_whole(client: Client, shard: bytes, asked: str) -> None:
    answer, body = client.ask(SHARD, Range=asked)
    assert (answer.status, body) == (200, shard)


def test_etags_say_whether_a_file_is_another_one(client: Client, shard: bytes) -> None:
    tag = client.ask(SHARD)[0].headers["ETag"]
    assert client.ask(SHARD, If_None_Match=f'"x", {tag}')[0].status == 304
    assert client.ask(SHARD, If_None_Match='"x"')[0].status == 200
    assert client.ask(SHARD, If_Range=tag, Range="bytes=0-1")[1] == shard[:2]
    assert client.ask(SHARD, If_Range='"old"', Range="bytes=0-1")[1] == shard


ESCAPES = [
    "stores/raw.ome.zarr/../ingest.json",
    "stores/raw.ome.zarr/%2e%2e/ingest.json",
    "stores/raw.ome.zarr/..%2fingest.json",
    "stores/raw.ome.zarr/..%5cingest.json",
    "stores/raw.ome.zarr/%252e%252e/ingest.json",
    "stores/%2e%2e/acquisitions.tsv",
    "stores/../../acquisitions.tsv",
    "stores/raw.ome.zarr//etc/passwd",
    "stores/raw.ome.zarr/%2fetc%2fpasswd",
    "stores/raw.ome.zarr/zarr.json%00.png",
    "stores/raw.ome.zarr/%ff",
    "stores/raw.ome.zarr/" + "a" * 5000,
    "stores/raw.ome.zarr",
    "stores/raw.ome.zarr/",
    "stores/raw.ome.zarr/0",
    "stores/",
    "stores/ingest.json",
    "page/../server.py",
    "page/%2e%2e/server.py",
    "page/",
    "/",
    "/etc/passwd",
    "/../../../etc/passwd",
    "http://127.0.0.1/etc/passwd",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_nothing_else_can_be_reached(made: tuple[Config, dict[str, np.ndarray]], client: Client, path: str) -> None:
    (paths.acquisition_folder(made[0], NAME) / "ingest.json").write_text("secret")
    answer, body = client.ask(path)
    assert answer.status == 404
    assert body == b"There is nothing at this address; use the one that `cvdm view` printed.\n"


def test_links_pipes_and_hidden_files_are_not_served(made: tuple[Config, dict[str, np.ndarray]], client: Client, tmp_path: Path) -> None:
    store = paths.raw_store(made[0], NAME)
    (tmp_path / "secret").write_text("secret")
    (store / "link").symlink_to(tmp_path / "secret")
    (store / "folder").symlink_to(tmp_path)
    os.mkfifo(store / "pipe")
    for name in (".hidden", "half.partial", "plain"):
        (store / name).write_text("secret")
    try:
        for name in ("link", "folder/secret", "pipe", ".hidden", "half.partial"):
            assert client.ask(f"stores/raw.ome.zarr/{name}")[0].status == 404, name
        assert client.ask("stores/raw.ome.zarr/plain")[0].status == 200
    finally:
        for name in ("link", "folder", "pipe", ".hidden", "half.partial", "plain"):
            (store / name).unlink()


def test_a_store_that_is_itself_a_link_is_served(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path / "facility", restored=False, truth=False)
    store = paths.raw_store(config, NAME)
    store.rename(tmp_path / "elsewhere")
    store.symlink_to(tmp_path / "elsewhere")
    with serving(config) as server:
        assert Client(server).ask(SHARD)[0].status == 200


def test_without_the_key_nothing_is_given(client: Client) -> None:
    for path in (f"/{SHARD}", f"/wrong/{SHARD}", f"/{client.key[:-1]}/{SHARD}", f"/{client.key}x/{SHARD}", "/%ff/", f"/{client.key}"):
        assert client.ask(path)[0].status == 404, path
    assert len(client.key) >= 20


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "evil.example:80", "", "192.168.1.5", "a b"]
)
def test_another_name_for_this_server_is_refused(client: Client, host: str) -> None:
    assert client.ask("", host=host)[0].status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8000"])
def test_loopback_by_any_port_is_answered_because_ssh_forwards(client: Client, host: str) -> None:
    assert client.ask("", host=host)[0].status == 200


def test_pages_elsewhere_cannot_read_unless_they_are_named(client: Client) -> None:
    for origin in (
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "https://viewer.example.evil.example",
        "http://evil@localhost",
    ):
        answer, _ = client.ask(SHARD, Origin=origin)
        assert "Access-Control-Allow-Origin" not in answer.headers, origin
    for origin in ("http://localhost:8080", "http://127.0.0.1:5000", *OURS):
        answer, _ = client.ask(SHARD, Origin=origin, Range="bytes=0-1")
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "Content-Range" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
        asked, body = client.ask(
            SHARD, "OPTIONS", Origin=origin, Access_Control_Request_Method="GET", Access_Control_Request_Headers="range"
        )
        assert (asked.status, body) == (204, b"")
        assert asked.headers["Access-Control-Allow-Headers"] == "Range"
    assert "Access-Control-Allow-Methods" not in client.ask(SHARD, "OPTIONS", Origin="https://evil.example")[0].headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(client: Client, shard: bytes, method: str) -> None:
    answer, _ = client.ask(SHARD, method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.ask(SHARD)[1] == shard


def test_a_body_is_not_taken_for_the_next_request(server: ViewServer, client: Client) -> None:
    inner = f"GET /{client.key}/scene.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    outer = f"GET /{client.key}/page/view.js HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(inner)}\r\n\r\n{inner}"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(outer.encode())
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    assert received.count(b"HTTP/1.1 200") == 1


def test_it_listens_on_loopback_only(server: ViewServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_no_answer_can_run_a_script_but_the_page(client: Client) -> None:
    page, body = client.ask("")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert not re.search(rb"(?:src|href)=\"(?!page/|data:)", body)
    for path in (SHARD, "scene.json", "nothing"):
        assert "sandbox" in client.ask(path)[0].headers["Content-Security-Policy"]


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


def test_what_cannot_be_shown_is_one_sentence(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path, restored=False, truth=False)
    with pytest.raises(UserError, match="no acquisition 'other'"):
        open_server(config, "other")
    with pytest.raises(UserError, match="no origin"):
        open_server(config, NAME, origins=["https://example.org/page"])
    with open_server(config, NAME) as server, pytest.raises(UserError, match=f"Port {server.server_port} is in use"):
        open_server(config, NAME, server.server_port)
    shutil.rmtree(paths.raw_store(config, NAME))
    with pytest.raises(UserError, match=r"not ingested yet; .*cvdm ingest --acquisition cells_1"):
        open_server(config, NAME)


def test_the_command_prints_the_address_serves_and_ends_quietly(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path, restored=False)
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cvdm_core.cli import main; main()"
    command = [sys.executable, "-c", code, "view", NAME, "--config", str(tmp_path / "config.yaml")]
    process = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stderr
        lines = [process.stdout.readline() for _ in range(6)]
        assert "Not restored" in lines[0]
        found = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", lines[1])
        assert found
        assert f"ssh -N -L {found.group(1)}:127.0.0.1:{found.group(1)}" in lines[3]
        with socket.create_connection(("127.0.0.1", int(found.group(1))), timeout=10) as connection:
            connection.sendall(f"GET /{found.group(2)}/scene.json HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
