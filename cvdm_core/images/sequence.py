"""One image of many TIFFs, put together by a pattern of their names.

A pattern is a path that holds `{t}`, `{z}` or `{c}` where the files differ; all other text stands as it is. Times and planes are
numbers, channels numbers or words. A plane that is missing or unlike the others stops everything, by name. With `{f}`, a number or
word, it is the pattern of a mosaic: what is left when a field is put in its place is that field's file, or pattern.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cvdm_core.errors import DamagedInputError, UserError
from cvdm_core.images.tiff import TiffPlanes, open_planes, read_header
from cvdm_core.images.tiff_header import TiffHeader
from cvdm_core.images.tiff_metadata import Metadata, distinct_names

_PLACEHOLDER = re.compile(r"\{([tzcf])\}")
_WORD = re.compile(r"\{(\w+)\}")
_TEXT = {"t": "[0-9]+", "z": "[0-9]+", "c": ".+?", "f": ".+?"}  # what a placeholder stands for; any other word: text without braces
_AXES = ("t", "c", "z")
FIELD = "{f}"
_NAMED = 3  # so many of the missing planes stand in a sentence
_LEAST_TO_SEE_A_STEP = 3
_ALIKE = {"pixel_size_um": 0.01, "z_step_um": 0.01, "time_step_s": 0.1}  # relative difference; some files hold measured times
_LARGEST_SHARE = 100  # of planes that numbers ask for to files that are there: above, the numbers count something else


def is_pattern(path: str | Path) -> bool:
    """Whether a path is a pattern: it holds a placeholder, and no file is called so."""
    return _PLACEHOLDER.search(str(path)) is not None and not os.path.lexists(path)


def fields_of_pattern(pattern: str | Path) -> dict[str, Path]:
    """Return the file or pattern of each field of a mosaic by what stands in place of `{f}`, numbers first and by their size.

    Raises
    ------
    UserError
        If no file matches.
    """
    names = sorted({values["f"] for _, values in _matches(Path(pattern))}, key=_order)
    if not names:
        raise UserError(f"{pattern}: no file matches; {{f}} stands for a number or word, and all else for itself.")
    return {name: Path(str(pattern).replace(FIELD, name)) for name in names}


def is_template(path: str | Path) -> bool:
    """Whether a path stands for several acquisitions: it holds other words in braces than a pattern, and no file is called so."""
    return any(word not in (*_AXES, "f") for word in _WORD.findall(str(path))) and not os.path.lexists(path)


def patterns_of_template(template: Path) -> dict[Path, dict[str, str]]:
    """Return the patterns and files that a template stands for, in order, each with the text of its words; no file is opened.

    `raw/{well}_{field}_T{t}.tif` stands for `raw/A01_1_T{t}.tif`, where well is A01 and field is 1, and so on.
    """
    found: dict[Path, dict[str, str]] = {}
    for _, values in _matches(template, _WORD):
        words = {word: text for word, text in values.items() if word not in (*_AXES, "f")}
        filled = str(template)
        for word, text in words.items():
            filled = filled.replace(f"{{{word}}}", text)
        found[Path(filled)] = words
    return found


def names_in(folder: Path) -> list[str]:
    """Return all names in a folder, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted([entry.name for entry in entries])


def starting(names: Sequence[str], start: str) -> Iterator[str]:
    """Give those of sorted names that start so."""
    for number in range(bisect_left(names, start), len(names)):
        if not names[number].startswith(start):
            return
        yield names[number]


def files_of_pattern(pattern: str | Path, listing: Callable[[Path], Sequence[str]] = names_in) -> list[Path]:
    """Return the files that match a pattern, whether or not they make a whole image; none is opened. `listing` is as `names_in`."""
    return [path for path, _ in _matches(Path(pattern), listing=listing)]


@contextmanager
def open_sequence(pattern: str | Path, pages: Literal["t", "z"] = "t") -> Iterator[SequencePlanes]:
    """Open the files of a pattern as one image.

    Parameters
    ----------
    pattern
        See above.
    pages
        What pages inside each file are, where it does not say so and the pattern leaves both open.

    Raises
    ------
    UserError
        If no file matches, a plane is missing or there twice, a file is damaged or differs in shape or data type.
    """
    with ExitStack() as opened:
        yield SequencePlanes(Path(pattern), pages, opened)


class SequencePlanes:
    """The planes of many files; the same attributes and methods as `tiff.TiffPlanes`. One file is open at a time."""

    def __init__(self, pattern: Path, pages: Literal["t", "z"], opened: ExitStack) -> None:
        """Find and compare the files; use `open_sequence`."""
        self._found, self._values = _find_all(pattern)
        axes = {axis for axis in _AXES if f"{{{axis}}}" in str(pattern)}
        self._in_names = axes
        self._pages: Literal["t", "z"] = "z" if "t" in axes else "t" if "z" in axes else pages
        self._opened = opened
        self._open: tuple[Path, TiffPlanes] | None = None
        self._first: TiffPlanes | None = None
        self._twins: set[Path] = set()
        self.files = tuple(self._found.values())
        self.header = self._compared(pattern)

    def read(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return one region of one plane; see `TiffPlanes.read`."""
        place = dict(zip(_AXES, (t, c, z), strict=True))
        key = tuple(self._values[axis][place[axis]] if axis in self._in_names else "" for axis in _AXES)
        inside = [0 if axis in self._in_names else place[axis] for axis in _AXES]
        return self._planes(self._found[key]).read(inside[0], inside[1], inside[2], y, x)

    def check_complete(self) -> None:
        """Decode the last pixel of the last file: the sizes of all were compared with what they declare when this was opened."""
        self._planes(self.files[-1]).check_complete()

    def _planes(self, file: Path) -> TiffPlanes:
        if self._open is None or self._open[0] != file:
            self._opened.close()
            planes = closing(self._first.twin(file)) if self._first and file in self._twins else open_planes(file, self._pages)
            self._open = (file, self._opened.enter_context(planes))
        return self._open[1]

    def _compared(self, pattern: Path) -> TiffHeader:
        first: TiffHeader | None = None
        of_channels: list[TiffHeader] = []
        for key, file in self._found.items():
            header = self._header(file)
            first = first or header
            if header.further:
                raise UserError(f"{file}: it holds {len(header.further) + 1} images, and a file of a pattern holds one; give it alone.")
            if (header.shape, header.dtype) != (first.shape, first.dtype):
                raise UserError(
                    f"{file}: it is {header.shape} (T, C, Z, Y, X) {header.dtype} and {self.files[0].name} is {first.shape} {first.dtype}; "
                    f"the planes of {pattern} must agree. Export them alike, or register the files one by one."
                )
            if unlike := header is not first and _unlike(first, header, self._in_names):
                raise UserError(
                    f"{file}: {unlike} as in {self.files[0].name}; the planes of {pattern} must agree. "
                    "Take it out of the folder, or register the files one by one."
                )
            if key[0] == self.files_key[0] and key[2] == self.files_key[2]:
                of_channels.append(header)
        assert first is not None  # _find_all returns one file at least
        inside = dict(zip(_AXES, first.shape, strict=False))
        if doubled := [axis for axis in sorted(self._in_names) if inside[axis] > 1]:
            raise UserError(f"{self.files[0]}: the pattern says that a file is one {doubled[0]}, and it holds {inside[doubled[0]]}.")
        sizes = [len(self._values[axis]) if axis in self._in_names else inside[axis] for axis in _AXES]
        shape = (sizes[0], sizes[1], sizes[2], *first.shape[3:])
        return replace(first, shape=shape, axes="", ome_xml=None, metadata=self._metadata(of_channels, shape[1]))

    def _header(self, file: Path) -> TiffHeader:
        """Return the header of a file: of a microscope's thousand files all but the first are told by comparing their bytes with its."""
        if self._first is None:
            with open_planes(file, self._pages) as self._first:
                return self._first.header
        if not self._first.has_twin(file):
            return read_header(file, self._pages)
        self._twins.add(file)
        return self._first.header

    @property
    def files_key(self) -> tuple[str, ...]:
        """Times, channels and planes, as written, of the first file."""
        return next(iter(self._found))

    def _metadata(self, of_channels: list[TiffHeader], count: int) -> Metadata:
        """Return the first file's metadata, with names and optics from each channel's first file where channels are files."""
        first = of_channels[0].metadata
        if self._in_steps("z"):
            first = replace(first, z_step_um=None, z_step_reason="the numbers of its files do not follow one another")
        if self._in_steps("t"):
            first = replace(first, time_step_s=None)
        if "c" not in self._in_names:
            return first
        names = [f"channel_{value}" if value.isdecimal() else value for value in self._values["c"]]
        emission = [value for header in of_channels for value in header.emission_nm]
        exposure = [value for header in of_channels for value in header.metadata.exposure_ms]
        return replace(
            first,
            channels=distinct_names(names, count),
            emission_nm=tuple(emission) if len(emission) == count else (),
            exposure_ms=tuple(exposure) if len(exposure) == count else (),
        )

    def _in_steps(self, axis: str) -> bool:
        """Whether numbers in the names are not one apart: the step that a file states may be that of planes that are not here."""
        return axis in self._in_names and len(values := self._values[axis]) > 1 and int(values[1]) - int(values[0]) > 1


def _unlike(first: TiffHeader, other: TiffHeader, in_names: set[str]) -> str:
    """Return which length that two files know they do not share, empty if none; steps count only where there are several."""
    for name, most in _ALIKE.items():
        axis = {"z_step_um": "z", "time_step_s": "t"}.get(name)
        if axis and axis not in in_names and first.shape[_AXES.index(axis)] == 1:
            continue
        one, another = (np.ravel(getattr(header, name) or ()).tolist() for header in (first, other))
        if one and another and not np.allclose(one, another, rtol=most, atol=0):
            words, _, unit = name.replace("_", " ").rpartition(" ")
            is_, not_ = (" x ".join(f"{value:.4g}" for value in dict.fromkeys(values)) for values in (another, one))
            return f"its {words} is {is_} {unit}, not {not_} {unit}"
    return ""


def _find_all(pattern: Path) -> tuple[dict[tuple[str, ...], Path], dict[str, list[str]]]:
    """Return the files by (t, c, z) as written, in order, and the values along each axis; every combination is there."""
    found: dict[tuple[str, ...], Path] = {}
    for path, of_file in _matches(pattern):
        key = tuple(of_file.get(axis, "") for axis in _AXES)
        same = tuple(value.lstrip("0") or "0" if value.isdecimal() else value for value in key)
        if same in found:
            raise UserError(f"{path}: it is the same plane as {found[same].name} by the pattern {pattern}; remove one of them.")
        found[same] = path
    if not found:
        raise UserError(
            f"{pattern}: no file matches; {{t}} and {{z}} stand for numbers, {{c}} for a number or word, and all else for itself."
        )
    values: dict[str, list[str]] = {}
    for number, axis in enumerate(_AXES):
        there = sorted({key[number] for key in found}, key=_order)
        values[axis] = there if axis == "c" else _without_gaps(pattern, axis, there)
    count = math.prod(map(len, values.values()))
    if count > _LARGEST_SHARE * len(found):
        raise UserError(f"{pattern}: {len(found):,} files match and its numbers ask for {count:,}; register the files one by one.")
    wanted = list(product(*(values[axis] for axis in _AXES)))
    missing = [key for key in wanted if key not in found]
    if missing:
        named = "; ".join(", ".join(f"{axis} {value}" for axis, value in zip(_AXES, key, strict=True) if value) for key in missing[:_NAMED])
        raise DamagedInputError(
            f"{pattern}: {len(missing):,} of {len(wanted):,} planes are missing ({named}{'; ...' if len(missing) > _NAMED else ''}); "
            "copy them too, or register the files one by one."
        )
    return {key: found[key] for key in wanted}, values


def _matches(
    pattern: Path, placeholder: re.Pattern[str] = _PLACEHOLDER, listing: Callable[[Path], Sequence[str]] = names_in
) -> Iterator[tuple[Path, dict[str, str]]]:
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if placeholder.search(part))
    level: list[tuple[Path, dict[str, str]]] = [(Path(*parts[:first]), {})]
    for part in parts[first:]:
        names, start = _expression(part, placeholder), str(placeholder.split(part, maxsplit=1)[0])
        level = [
            (folder / name, values | match.groupdict())
            for folder, values in level
            for name in starting(listing(folder), start)
            if (match := names.fullmatch(name)) and all(match.groupdict().get(axis, value) == value for axis, value in values.items())
        ]
    yield from ((path, values) for path, values in level if path.is_file())


def _expression(part: str, placeholder: re.Pattern[str]) -> re.Pattern[str]:
    """Return the regular expression of one name in a pattern; a placeholder that stands twice stands for the same text."""
    expression, at, seen = "", 0, set()
    for found in placeholder.finditer(part):
        word = found[1]
        group = f"(?P={word})" if word in seen else f"(?P<{word}>{_TEXT.get(word, '[^{}]+?')})"
        expression += re.escape(part[at : found.start()]) + group
        seen.add(word)
        at = found.end()
    return re.compile(expression + re.escape(part[at:]), re.DOTALL)


def _order(value: str) -> tuple[int, int, str]:
    return (0, int(value), "") if value.isdecimal() else (1, 0, value)


def _without_gaps(pattern: Path, axis: str, values: list[str]) -> list[str]:
    """Return all numbers from the first to the last in their common step (1, unless three or more show another)."""
    if values == [""]:
        return values
    numbers = [int(value) for value in values]
    step = math.gcd(*(after - before for before, after in pairwise(numbers))) if len(numbers) >= _LEAST_TO_SEE_A_STEP else 1
    whole = range(numbers[0], numbers[-1] + 1, step)
    if len(whole) > _LARGEST_SHARE * len(numbers):
        raise DamagedInputError(
            f"{pattern}: {axis} runs from {numbers[0]} to {numbers[-1]} and {len(numbers)} of these numbers are there; "
            "copy the missing files too, or register the files one by one."
        )
    return [str(number) for number in whole]
