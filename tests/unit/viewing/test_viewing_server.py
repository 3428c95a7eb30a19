"""The files that the server of `cvdm view` gives, asked over HTTP as any program could ask it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from viewing_world import NAME, Client, make_acquisition

from cvdm_core import paths
from cvdm_core.config import RoutingRule
from cvdm_core.errors import UserError
from cvdm_core.viewing.server import open_server

SHARD = "stores/raw.ome.zarr/0/c/0/0/0/0/0"


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


def test_what_no_model_restores_can_be_looked_at_and_says_so(tmp_path: Path) -> None:
    config, _ = make_acquisition(tmp_path)
    routed = config.model_copy(update={"routing": (RoutingRule(instrument="SIM*", model="sim"),)})
    with open_server(routed, NAME) as server:
        described = server.site.scene.describe()
    assert "no rule of `routing` fits" in described["notes"][0]
    assert "input" in {picture["key"] for picture in described["pictures"]}
