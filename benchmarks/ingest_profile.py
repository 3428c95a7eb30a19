"""Where the processor time of an ingest goes, part by part.

    python benchmarks/ingest_profile.py TIFF OUT

The stage runs once under Python's profiler with a clock of CPU seconds (user + system), and the functions' own times are summed by what
they do. The profiler itself makes small functions look dearer than they are: believe the large parts.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import ingest_ways

PARTS = {
    "compress (blosc, one chunk after another) and join": ("encode_shard", "join", "blosc.compress", "_checksum"),
    "CRC-32C of every chunk": ("_crc32c",),
    "cut shards into chunks": ("chunks", "ascontiguousarray"),
    "means of 2x2 pixels, and collecting them in shards": ("pyramid", "_halve", "_rounded", "_place", "astype"),
    "sha256 of what is read (with reading it again) and written": ("update' of '_hashlib", "openssl_sha256", "readinto"),
    "read and decode the TIFF": ("_read_segments", "_segment", "pread", "_read_rows", "_pread"),
    "write, sync, rename": ("posix.write", "posix.fsync", "posix.open", "posix.replace", "posix.close", "_write_synced", "write_file"),
}


def main(source: Path, out: Path) -> None:
    from cvdm_core.acquisitions.ingest import ingest
    from cvdm_core.acquisitions.register import register
    from cvdm_core.config import parse
    from cvdm_core.sheet import Acquisition, write_sheet

    out.mkdir()
    vars(ingest_ways).update(ingest=ingest, register=register, parse=parse, Acquisition=Acquisition, write_sheet=write_sheet)
    profile = cProfile.Profile(time.process_time)
    profile.runcall(ingest_ways.cvdm, "plane", source, out)
    own = {f"{file}:{name}": values[2] for (file, _, name), values in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    spent = dict.fromkeys([*PARTS, "everything else"], 0.0)
    for name, seconds in own.items():
        part = next((part for part, words in PARTS.items() if any(word in name.partition(":")[2] for word in words)), "everything else")
        spent[part] += seconds
    total = sum(spent.values())
    print(f"{source}: {total:.1f} CPU-s\n\n| part | CPU-s | share |\n| --- | ---: | ---: |")
    for part, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds:.2f} | {100 * seconds / total:.0f} % |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
