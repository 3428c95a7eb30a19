"""What the server answers: page, description, tiles and the files of the stores. Knows requests and answers, but no sockets.

Who may read: the address holds a secret key, because on a shared machine every user can reach a port on loopback. A page of another
site cannot read anything either: its requests name another host (DNS rebinding) or come from another origin.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from importlib.resources import files
from os import fstat
from typing import BinaryIO

from cvdm_core.viewing.files import Unsatisfiable, content_type, entity_tag, open_beneath, parse_range, split_path
from cvdm_core.viewing.scene import Damaged, NotThere, Picture, Replaced, Scene, read_tile

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PAGE = {"viewer.html": "text/html", "viewer.css": "text/css"} | dict.fromkeys(
    ("viewer.js", "panel.js", "tiles.js", "view.js", "controls.js"), "text/javascript"
)
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
NO_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Origin",
}
READABLE_HEADERS = "Accept-Ranges, Content-Length, Content-Range, ETag"


@dataclass
class Answer:
    """Status, headers, and a body: bytes, or a part of an open file that the receiver closes."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: BinaryIO | None = None
    part: range = range(0)

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.part) if self.file else len(self.body)


def _text(status: int, sentence: str) -> Answer:
    return Answer(status, {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}, sentence.encode())


NOT_FOUND = "There is nothing at this address; use the one that `cvdm view` printed.\n"


@dataclass(frozen=True)
class Site:
    """An acquisition, the key in its address, and the origins (beside loopback) whose pages may read the stores."""

    scene: Scene
    key: str
    origins: frozenset[str] = frozenset()

    def answer(self, method: str, target: str, headers: Message) -> Answer:
        """Answer a request; `target` is the path with its query, still encoded."""
        answer = self._checked(method, target, headers)
        answer.headers = COMMON | {"Content-Security-Policy": NO_POLICY} | answer.headers
        origin = headers.get("Origin", "")
        if self._may_read(origin):
            answer.headers |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": READABLE_HEADERS}
            if method == "OPTIONS":
                answer.headers |= {"Access-Control-Allow-Methods": "GET, HEAD", "Access-Control-Allow-Headers": "Range"}
        return answer

    def _checked(self, method: str, target: str, headers: Message) -> Answer:
        if not _names_loopback(headers.get_all("Host", [])):
            return _text(403, "This server answers to the names 127.0.0.1 and localhost only.\n")
        parts = split_path(target.partition("?")[0])
        if not parts or not hmac.compare_digest(parts[0].encode(), self.key.encode()):
            return _text(404, NOT_FOUND)
        if method == "OPTIONS":
            return Answer(204, {"Allow": "GET, HEAD, OPTIONS"})
        return self._find(parts[1:], headers if method == "GET" else Message())

    def _may_read(self, origin: str) -> bool:
        """Whether a page of this origin may read: a viewer on this machine, or one that was named."""
        return origin in self.origins or (origin.startswith("http://") and _host(origin.removeprefix("http://")) in LOOPBACK)

    def _find(self, parts: list[str], headers: Message) -> Answer:
        match parts:
            case [""]:
                return self._page("viewer.html")
            case ["page", name] if name in PAGE:
                return self._page(name)
            case ["scene.json"]:
                content = json.dumps(self.scene.describe(), allow_nan=False).encode()
                return Answer(200, {"Content-Type": "application/json", "Cache-Control": "no-store"}, content)
            case ["tile", key, *numbers] if len(numbers) == 6 and all(re.fullmatch(r"\d{1,9}", number) for number in numbers):
                return self._tile(key, [int(number) for number in numbers])
            case ["stores", store, *inner] if inner:
                return self._file(store, inner, headers)
        return _text(404, NOT_FOUND)

    @cached_property
    def _pages(self) -> dict[str, bytes]:
        folder = files("cvdm_core.viewing") / "page"
        return {name: (folder / name).read_bytes() for name in PAGE}

    def _page(self, name: str) -> Answer:
        kind = f"{PAGE[name]}; charset=utf-8"
        return Answer(200, {"Content-Type": kind, "Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}, self._pages[name])

    def _tile(self, key: str, numbers: list[int]) -> Answer:
        picture: Picture | None = self.scene.pictures().get(key)
        if picture is None:
            return _text(404, NOT_FOUND)
        try:
            pixels, version = read_tile(picture, *numbers)
        except NotThere as error:
            return _text(404, f"{error}\n")
        except Damaged as error:
            return _text(500, f"{error}\n")
        except Replaced:
            return _text(503, "The image is being written anew.\n")
        kind = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store", "ETag": f'"{version}"'}
        return Answer(200, kind, pixels.tobytes())

    def _file(self, store: str, inner: list[str], headers: Message) -> Answer:
        root = self.scene.stores().get(store)
        if root is None:
            return _text(404, NOT_FOUND)
        try:
            file = open_beneath(root, inner)
        except PermissionError:
            return _text(403, "This file may not be read.\n")
        except OSError:
            return _text(404, NOT_FOUND)
        return file_answer(file, content_type(inner[-1]), headers)


def file_answer(file: BinaryIO, kind: str, headers: Message) -> Answer:
    """Answer with a file or the part of it that is asked for; the file is closed where it is not sent."""
    status = fstat(file.fileno())
    size, tag = status.st_size, entity_tag(status)
    # Looked at again at each use, because a stage may have replaced it.
    known = {"Content-Type": kind, "Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "no-cache"}
    if tag in re.findall(r'"[^"]*"', headers.get("If-None-Match", "")):
        file.close()
        return Answer(304, known)
    asked = headers.get("Range") if headers.get("If-Range", tag) == tag else None
    try:
        part = parse_range(asked, size) if asked else None
    except Unsatisfiable:
        file.close()
        return Answer(416, known | {"Content-Range": f"bytes */{size}"})
    if part is None:
        return Answer(200, known, file=file, part=range(size))
    return Answer(206, known | {"Content-Range": f"bytes {part.start}-{part.stop - 1}/{size}"}, file=file, part=part)


def _names_loopback(hosts: list[str]) -> bool:
    return len(hosts) == 1 and _host(hosts[0]) in LOOPBACK


def _host(authority: str) -> str:
    """Return the host of "host:port"; any port, because ssh may forward from another one."""
    found = re.fullmatch(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?", authority.lower())
    return found.group(1).strip("[]") if found else ""
