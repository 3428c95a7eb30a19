"""One acquisition for each image (position, field) of a file: what `cvdm register` adds for a file that holds several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cvdm_core.acquisitions.candidates import Candidate
from cvdm_core.acquisitions.refusals import Refusal
from cvdm_core.errors import UserError
from cvdm_core.images.acquired import read_acquired
from cvdm_core.images.fields import open_fields
from cvdm_core.images.tiff_header import TiffHeader
from cvdm_core.images.tiff_images import PartOfSet


def split_positions(candidate: Candidate, is_known: Callable[[Path], bool]) -> list[Candidate] | Refusal:
    """Return a candidate for each image of one size that begins in the input; the one given where there is one, or none can be read.

    Images of several are called `<name>_s<number>` and share the specimen `<name>`, because nothing says that they show different
    ones. A file that only continues an image of another one, which `is_known`, is no candidate.
    """
    try:
        header = read_acquired(candidate.input)
    except PartOfSet as error:
        return [] if is_known(error.first) else [candidate]
    except UserError:  # measuring the row says it
        return [candidate]
    if not header.further:
        return [candidate]
    numbers = [0, *header.further]
    if problem := _unlike_target(candidate, len(numbers)):
        return Refusal(candidate.name, str(candidate.input), problem)
    return [
        replace(candidate, name=f"{candidate.name}_s{number}", specimen=candidate.name, series=number, note=_note(header, number))
        for number in numbers
    ]


def whole_mosaic(candidate: Candidate, is_known: Callable[[Path], bool]) -> list[Candidate]:
    """Return the candidate as one mosaic of all its images; none where it only continues a set whose first file `is_known`."""
    try:
        with open_fields(candidate.input):
            pass
    except PartOfSet as error:
        if is_known(error.first):
            return []
    except UserError:  # measuring the row says it
        pass
    return [replace(candidate, series="mosaic")]


def _unlike_target(candidate: Candidate, count: int) -> str:
    try:
        of_target = 1 + len(read_acquired(candidate.target).further) if candidate.target else count
    except UserError:  # measuring the row says it
        return ""
    if of_target == count:
        return ""
    return (
        f"{candidate.input}: it holds {count} images (positions or fields) and its target {candidate.target} {of_target}; "
        "give files that hold the same fields in the same order."
    )


def _note(header: TiffHeader, number: int) -> str:
    return "".join(letter for letter in header.images[number] if letter.isprintable())[:80]
