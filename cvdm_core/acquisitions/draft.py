"""The sheet on its way through registration: rows, whose files are whose, and what was refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cvdm_core.acquisitions.measure import UNMEASURED
from cvdm_core.acquisitions.refusals import Refusal
from cvdm_core.sheet import Acquisition, Series, Unusable


def identity(path: str | Path) -> Path:
    """Return what makes two ways of writing a path the same file."""
    return Path(os.path.realpath(path))  # of a link that leads to itself Path.resolve makes an error


@dataclass
class Draft:
    """The sheet on its way through registration."""

    path: Path
    rows: dict[str, Acquisition]
    set_aside: list[Unusable]
    refusals: list[Refusal]
    new: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    names: dict[str, str] = field(init=False)
    files: dict[tuple[Path, Series], str] = field(init=False)
    held: set[Path] = field(init=False)

    def __post_init__(self) -> None:
        """Take stock of the rows that are there, and of what lines that are none name: nobody else may take it before they are mended."""
        self.names = {name.lower(): name for name in [*(line.acquisition for line in self.set_aside), *self.rows]}
        self.held = {identity(file) for line in self.set_aside for file in line.files}
        self.files = {}
        for row in self.rows.values():
            self.know_files(row)

    def know_files(self, row: Acquisition) -> None:
        """Remember whose the files of a row are."""
        for path in filter(None, (row.input, row.target)):
            self.files.setdefault((identity(path), row.series), row.acquisition)

    def owner(self, path: Path, series: Series) -> str | None:
        """Return who has an image of a file already: a row without a number, and a mosaic, have them all."""
        file = identity(path)
        numbers: tuple[Series, ...] = (
            (None, 0, "mosaic") if series is None else (series,) if series == "mosaic" else (series, None, "mosaic")
        )
        return next((self.files[file, number] for number in numbers if (file, number) in self.files), None)

    def add(self, row: Acquisition) -> None:
        """Add a row that was not in the sheet."""
        self.rows[row.acquisition] = row
        self.names[row.acquisition.lower()] = row.acquisition
        self.new.add(row.acquisition)
        self.know_files(row)

    def refuse(self, name: str, file: str | Path, problem: str) -> None:
        """Note a refusal of something that is no row."""
        self.refusals.append(Refusal(name, str(file), problem))

    def refuse_row(self, row: Acquisition, file: str, problem: str) -> None:
        """Refuse a row: a new one is left out, an older one stays without its measured columns."""
        self.refused.add(row.acquisition)
        if row.acquisition in self.new:
            self.refuse(row.acquisition, file, problem)
            del self.rows[row.acquisition]
        else:
            self.refusals.append(Refusal(row.acquisition, file, problem, in_sheet="yes"))
            self.rows[row.acquisition] = row.model_copy(update=dict(UNMEASURED))
