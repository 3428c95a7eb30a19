"""Listeners on this machine, for the tests of what is sent to people."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CERTIFICATE = Path(__file__).with_name("mail_server.pem")
"""Of 127.0.0.1, signed by itself, with its key: `openssl req -x509 -newkey ec -nodes -days 36500 -addext subjectAltName=IP:127.0.0.1`."""

Handle = Callable[[socketserver.StreamRequestHandler], None]
Serve = Callable[[Handle], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a listener on this machine that handles each connection with a function; return its host and port."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(handle: Handle) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                handle(self)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.socket.close()


def secured(connection: socketserver.StreamRequestHandler) -> None:
    """Go on encrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    connection.connection = context.wrap_socket(connection.connection, server_side=True)
    connection.rfile, connection.wfile = connection.connection.makefile("rb"), connection.connection.makefile("wb", 0)


def login_server(heard: list[str], user: str, password: str, starttls: bool = True, encrypted: bool = False) -> Handle:
    """Return a mail server that wants a login (RFC 4954) and writes down what it hears in clear text."""
    right = base64.b64encode(f"\0{user}\0{password}".encode()).decode()

    def handle(connection: socketserver.StreamRequestHandler) -> None:
        secret = known = False

        def say(line: str) -> None:
            connection.wfile.write(f"{line}\r\n".encode())

        if encrypted:
            secured(connection)
            secret = True
        say("220 test")
        while raw := connection.rfile.readline():
            words = raw.decode().split()
            command = words[0].upper()
            if not secret:
                heard.append(raw.decode())
            if command == "EHLO":
                say("250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN" if starttls and not secret else "250-test\r\n250 AUTH PLAIN")
            elif command == "STARTTLS":
                say("220 go on")
                secured(connection)
                secret = True
            elif command == "AUTH":
                known = words[1:] == ["PLAIN", right]
                say("235 well" if known else "535 wrong password")
            elif command == "QUIT":
                say("221 bye")
                return
            elif not known:
                say("530 log in first")
            elif command == "DATA":
                say("354 go on")
                heard.append("mail: " + b"".join(iter(connection.rfile.readline, b".\r\n")).decode())
                say("250 taken")
            else:
                say("250 well")

    return handle
