"""To whom the server of `cvdm view` gives what, and what nobody can reach."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from viewing_world import NAME, OURS, Client, make_acquisition, serving

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.viewing.server import ViewServer

SHARD = "stores/raw.ome.zarr/0/c/0/0/0/0/0"


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
