"""What a person says of the files that are added to the sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from cvdm_core.config import Split
from cvdm_core.errors import UserError


@dataclass(frozen=True)
class Added:
    """What holds for all files that one registration adds.

    Attributes
    ----------
    name : the acquisition's name, for a single file; by default that of the file.
    specimen : by default the acquisition's name.
    split : train, val, test or predict.
    pixel_size_um : of those files that do not know theirs [micrometre].
    z_step_um : of those files that do not know theirs [micrometre]; their pages that nothing describes are z planes.
    instrument : the microscope; by default what the file says.
    mosaic : whether each file's images are the fields of one mosaic, and not an acquisition each.
    """

    name: str | None = None
    specimen: str | None = None
    split: str = "predict"
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    instrument: str = ""
    mosaic: bool = False

    def check(self) -> None:
        """Raise `UserError` if something cannot be so."""
        if self.split not in get_args(Split):
            raise UserError(f"--split {self.split}: use one of {', '.join(get_args(Split))}.")
        for option, value in (("--pixel-size-um", self.pixel_size_um), ("--z-step-um", self.z_step_um)):
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{option} {value}: give a length in micrometres above 0.")
        if not self.instrument.isprintable():
            raise UserError(f"--instrument {self.instrument!r}: give a name on one line, without control characters.")


NOTHING_SAID = Added()
