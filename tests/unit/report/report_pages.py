"""The tree of results that the tests of the pages share, and a page as a browser would see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.report.index import write_index

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>../$x_{$"


TWO, BLIND, SINGLE = "two_colours", "no_truth", "single_estimate"


@dataclass
class Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text."""

    text: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(config: Config, name: str) -> Page:
    return Page(paths.report_page(config, name).read_text(encoding="utf-8"))


def read_index(config: Config) -> Page:
    return Page(write_index(config).read_text(encoding="utf-8"))
