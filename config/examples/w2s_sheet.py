"""Write the sample sheet of the w2s example: one acquisition for each field and channel of the manifest.

    python config/examples/w2s_sheet.py ../shared/data/w2s w2s/acquisitions.tsv

The files hold neither pixel size nor channel name. The names follow the data's own description; the pixel size of 0.1 µm is an assumption
of ours (the true one is not known to us) and is marked as stated in the sheet. Specimens are the manifest's overlap groups, so that no view
stands in two splits.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from cvdm_core.sheet import Acquisition, write_sheet

CHANNELS = ("mitochondria", "filaments", "actin")


def main(data: Path, sheet: Path) -> None:
    """Write `sheet` from the manifest in the folder `data`."""
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            Acquisition.model_validate(
                {
                    "acquisition": f"w2s_{line['fov']}_{line['channel']}",
                    "specimen": f"group{line['overlap_group']}",
                    "split": line["split"],
                    "input": str(data / line["input"]),
                    "target": str(data / line["target"]),
                    "stated_pixel_size_um": 0.1,
                    "stated_channels": CHANNELS[int(line["channel"])],
                    "note": "pixel size assumed; files min-max scaled one by one",
                }
            )
            for line in csv.DictReader(stream)
        ]
    write_sheet(sheet, {row.acquisition: row for row in rows})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
