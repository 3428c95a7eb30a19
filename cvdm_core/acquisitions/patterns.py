"""Guess which files of a folder are single planes of one acquisition, from their names.

A name tells a plane by words between separators: `t0`, `time000`, `frame1`; `z0`, `slice1`; `c0`, `ch00`, `channel1`, `w1`, `w2GFP`, and
beside a time or plane also `CDAPI`. What varies becomes a placeholder, the rest stays text, so that wells and fields stay apart.
Of names with a decimal number (`z0.5`) nothing is guessed: a placeholder stands for whole numbers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

_AXIS_WORD = r"(?<=[_\-. ])(time|frame|tp|t|slice|z|channel|ch|c|w(?:ave)?)"
_TOKEN = re.compile(_AXIS_WORD + r"(\d+)(?=[_\-. ])", re.IGNORECASE)
_DECIMAL = re.compile(_AXIS_WORD + r"\d+\.\d", re.IGNORECASE)
_WAVE = re.compile(r"(?<=[_\-. ])(w)(\d+[A-Za-z][A-Za-z0-9]*)(?=[_\-. ])")  # MetaMorph: the wave's number and name
_WORD = re.compile(r"(?<=[_\-. ])(C)([A-Z][A-Za-z0-9]*)(?=[_\-. ])")
_AXIS = {"t": "t", "f": "t", "s": "z", "z": "z", "c": "c", "w": "c"}  # by the first letter
_WELL = re.compile(r"C\d\d")
_OTHER_ROWS = "ABDEFGHIJKLMNOP"
_PLACEHOLDER = re.compile(r"[_\-. ]?[A-Za-z]*\{[tzcf]\}")


def name_of_pattern(stem: str) -> str:
    """Return a name for the acquisition of a pattern, without its placeholders and the words before them."""
    return _PLACEHOLDER.sub("", stem).strip("_-. ") or "sequence"


def gather(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the files, each with itself, and in place of the planes of one acquisition their pattern with all of them."""
    siblings: dict[Path, set[str]] = defaultdict(set)
    for file in files:
        siblings[file.parent].add(file.name)
    groups: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.with_name(_generic(file.name, siblings[file.parent]))].append(file)
    return {_pattern(members, siblings[members[0].parent]) if len(members) > 1 else members[0]: members for members in groups.values()}


def _spans(name: str, siblings: set[str]) -> dict[str, tuple[int, int]]:
    """Return where the values of t, z and c stand in a name; the last word of an axis counts."""
    spans: dict[str, tuple[int, int]] = {}
    if _DECIMAL.search(name):
        return spans
    for match in [*_TOKEN.finditer(name), *_WAVE.finditer(name)]:
        if not _is_well(match, name, siblings):
            spans[_AXIS[match[1][0].lower()]] = match.span(2)
    if "c" not in spans and spans and (word := _WORD.search(name)):
        spans["c"] = word.span(2)
    return spans


def _is_well(match: re.Match[str], name: str, siblings: set[str]) -> bool:
    """Whether `C03` is a well: then the same name in another row of the plate is likely there too."""
    if not _WELL.fullmatch(match[0]):
        return False
    return any(name[: match.start()] + row + name[match.start() + 1 :] in siblings for row in _OTHER_ROWS)


def _generic(name: str, siblings: set[str], keep: frozenset[str] = frozenset()) -> str:
    """Return a name with placeholders in place of its values, except for the axes in `keep`."""
    for axis, (start, end) in sorted(_spans(name, siblings).items(), key=lambda item: item[1], reverse=True):
        if axis not in keep:
            name = f"{name[:start]}{{{axis}}}{name[end:]}"
    return name


def _pattern(members: list[Path], siblings: set[str]) -> Path:
    first = _spans(members[0].name, siblings)
    values = {axis: {file.name[slice(*_spans(file.name, siblings)[axis])] for file in members} for axis in first}
    same = frozenset(axis for axis, found in values.items() if len(found) == 1)
    return members[0].with_name(_generic(members[0].name, siblings, keep=same))
