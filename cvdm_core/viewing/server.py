"""The server: sockets and threads around `Site`. Binds to loopback only, and only reads."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import socketserver
import sys
import webbrowser
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.routing import routed
from cvdm_core.sheet import find_acquisition
from cvdm_core.viewing.scene import Scene
from cvdm_core.viewing.site import Answer, Site

ADDRESS = "127.0.0.1"
PIECE = 1 << 20  # bytes of a file that are held at once


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "cvdm", ""
    timeout = 60  # seconds after which a silent connection is closed

    def _respond(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body is not read, and must not be taken for the next request
        self._send(self.server.site.answer(self.command, self.path, self.headers))

    def _refuse(self) -> None:
        self.close_connection = True
        self._send(Answer(405, {"Allow": "GET, HEAD, OPTIONS"}, b"This server only reads.\n"))

    do_GET = do_HEAD = do_OPTIONS = _respond
    do_POST = do_PUT = do_PATCH = do_DELETE = _refuse

    def _send(self, answer: Answer) -> None:
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status not in (204, 304):
                self.send_header("Content-Length", str(answer.length))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD" and answer.status != 304:
                self._send_body(answer)
        finally:
            if answer.file:
                answer.file.close()

    def _send_body(self, answer: Answer) -> None:
        if answer.file is None:
            self.wfile.write(answer.body)
            return
        answer.file.seek(answer.part.start)
        left = len(answer.part)
        while left:
            piece = answer.file.read(min(left, PIECE))
            if not piece:  # cut short meanwhile: the receiver must see that bytes are missing
                self.close_connection = True
                return
            self.wfile.write(piece)
            left -= len(piece)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: the address with its key belongs in no log."""


class ViewServer(ThreadingHTTPServer):
    """Serves one `Site` on 127.0.0.1; port 0 is any free one."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        super().__init__((ADDRESS, port), Handler)

    def server_bind(self) -> None:
        """Bind without http.server's look-up of the host's name, which hangs where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over connections that the browser has dropped; anything else is a bug and keeps its traceback."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/{self.site.key}/"


def open_server(config: Config, acquisition: str, port: int = 0, origins: Iterable[str] = ()) -> ViewServer:
    """Return a server for one acquisition, bound but not yet serving.

    Parameters
    ----------
    origins
        Origins ("https://host[:port]") of pages elsewhere that may read the stores; pages from loopback always may.

    Raises
    ------
    UserError
        If the acquisition is unknown or not ingested, an origin is none, or the port cannot be had.
    """
    row = find_acquisition(config.acquisitions, acquisition)
    raw = paths.raw_store(config, acquisition)
    if not raw.is_dir():
        raise UserError(f"{raw}: {acquisition!r} is not ingested yet; run the workflow, or `cvdm ingest --acquisition {acquisition}`.")
    for origin in origins:
        parsed = urlsplit(origin)
        if parsed.scheme not in ("http", "https") or not parsed.netloc or f"{parsed.scheme}://{parsed.netloc}" != origin:
            raise UserError(f"--allow-origin {origin!r}: this is no origin; give scheme and host only, for example https://example.org.")
    try:
        scene = Scene(routed(config, row), row)
    except UserError as error:  # the input can be looked at all the same
        scene = Scene(config, row, str(error))
    site = Site(scene, secrets.token_urlsafe(16), frozenset(origins))
    try:
        return ViewServer(site, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} is in use; give another one with --port, or leave it out for any free one.") from None
        if error.errno == errno.EACCES:
            raise UserError(f"Port {port} may not be used by you; give one above 1023 with --port, or leave it out.") from None
        raise


def view(
    config: Config, acquisition: str, say: Callable[[str], None], port: int = 0, browser: bool = True, origins: Iterable[str] = ()
) -> None:
    """Serve an acquisition until Ctrl-C; see `open_server`. `say` prints a line."""
    with open_server(config, acquisition, port, origins) as server, suppress(KeyboardInterrupt):
        for line in _greeting(server):
            say(line)
        if browser and _has_screen():
            webbrowser.open(server.url)
        server.serve_forever()
    say("")


def _greeting(server: ViewServer) -> list[str]:
    scene = server.site.scene
    return [
        *scene.notes(),
        f"{scene.row.acquisition}: {server.url}",
        "Open this address in a browser on this machine. From another one, first run there:",
        f"  ssh -N -L {server.server_port}:{ADDRESS}:{server.server_port} {socket.gethostname()}",
        f"Other viewers can open {', '.join(f'{server.url}stores/{name}' for name in scene.stores())}.",
        "Ctrl-C ends it.",
    ]


def _has_screen() -> bool:
    """Whether a window can be opened: webbrowser would start a text browser in the terminal otherwise."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
