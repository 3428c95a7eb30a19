"""Files in the formats of microscopes' makers, which are not read: each is named, unless its TIFF lies beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cvdm_core.acquisitions.refusals import Refusal

EXPORTERS = dict.fromkeys((".nd2", ".czi", ".lif", ".oib", ".oir", ".vsi", ".ims"), "Bio-Formats' bfconvert")
"""What exports OME-TIFF from the files of a format, by their ending."""
EXPORTERS[".czi"] = "ZEN, or Bio-Formats' bfconvert"


def is_vendor_file(path: Path) -> bool:
    """Whether a file's name ends as those of a maker's own format."""
    return path.suffix.lower() in EXPORTERS


def refuse_vendor_file(path: Path) -> Refusal:
    """Refuse a file in a maker's own format."""
    suffix = path.suffix.lower()
    problem = f"{path}: {suffix} is not read; export it as OME-TIFF beside it, under its name ({EXPORTERS[suffix]})."
    return Refusal(path.stem, str(path), problem)


def not_exported(files: Sequence[Path], tiffs: Iterable[Path]) -> list[Path]:
    """Return those of vendor files beside which no TIFF of their name lies.

    More words may follow the name in that of the TIFF (`cell_s0.ome.tif` is of `cell.lif`); it is of the longest name that fits.
    """
    names = {str(file.with_suffix("")) for file in files}
    exported = {_longest(names, str(tiff)) for tiff in tiffs} if names else set()
    return [file for file in files if str(file.with_suffix("")) not in exported]


def _longest(names: set[str], tiff: str) -> str:
    ends = range(len(tiff) - 1, tiff.rfind(os.sep), -1)
    return next((tiff[:end] for end in ends if not tiff[end].isalnum() and tiff[:end] in names), "")
