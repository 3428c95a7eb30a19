"""What happens to a facility in a month: acquisitions that arrive, some of them damaged, and troubles that nobody has planned."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from site_tree import Site

Kind = Literal["good", "cut", "rotten"]
DAMAGED_SHARE = 0.03
LIVE = ("PENDING", "RUNNING", "COMPLETING")


def acquire(file: Path, generator: np.random.Generator, kind: Kind) -> None:
    """Write an acquisition of a size of its own; `cut` lacks its end, `rotten` cannot be decoded in its middle."""
    height, width = (int(side) for side in generator.integers(24, 160, 2))
    points = int(generator.choice([1, 1, 1, 2]))
    pixels = generator.poisson(200, (points, height, width)).astype(np.uint16)
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.1, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(file, pixels, ome=True, photometric="minisblack", compression="zlib", rowsperstrip=8, metadata=metadata)
    content = bytearray(file.read_bytes())
    if kind == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "rotten":
        with tifffile.TiffFile(file) as opened:
            begin, length = opened.pages[0].dataoffsets[0], opened.pages[0].databytecounts[0]
        content[begin : begin + length] = b"\xff" * length
        file.write_bytes(content)


@dataclass
class Troubles:
    """Causes troubles at random moments of a night, from a thread of its own, until it is ended; `caused` tells which, with the job hit."""

    site: Site
    generator: np.random.Generator
    mean_seconds: float
    caused: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go)
        self._thread.start()

    def end(self) -> None:
        """End, after a trouble that has begun."""
        self._over.set()
        self._thread.join()

    def _go(self) -> None:
        troubles: dict[str, Callable[[int], object]] = {
            "scancel": lambda job: self.site.cluster.said("scancel", str(job)),
            "kill": self.site.kill_job,
            "requeue": lambda job: self.site.cluster.said("scontrol", "requeue", str(job)),
            "driver": lambda _: self.site.kill_driver(),
            "controller": lambda _: self._restart_controller(),
        }
        often = np.array([4, 4, 2, 1, 1]) / 12
        while not self._over.wait(self.generator.exponential(self.mean_seconds)):
            running = [job for job, (state, _) in self.site.jobs().items() if state == "RUNNING"]
            if not running:
                continue
            name, job = str(self.generator.choice(list(troubles), p=often)), int(self.generator.choice(running))
            try:
                troubles[name](job)
            except AssertionError:  # the job, or the driver, has ended meanwhile
                continue
            self.caused.append((name, job))

    def _restart_controller(self) -> None:
        self.site.cluster.stop_controller()
        self._over.wait(8)
        self.site.cluster.start_controller()


@dataclass
class Diary:
    """What a month has seen so far, written to a file as it goes: a month that is cut off, as by a power cut, goes on where it was."""

    file: Path
    kinds: dict[str, Kind] = field(default_factory=dict)
    begun: int = 0
    """Nights begun; those that were cut off have no exit status."""
    statuses: list[int] = field(default_factory=list)
    caused: list[tuple[str, int]] = field(default_factory=list)
    hours: float = 0.0
    pages: str = ""
    """The index pages of all nights, one after the other."""

    @classmethod
    def opened(cls, file: Path) -> Diary:
        """Read a diary, or begin one."""
        return cls(file, **json.loads(file.read_text())) if file.exists() else cls(file)

    def save(self) -> None:
        """Write everything."""
        content = asdict(self)
        del content["file"]
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(self.file)


def overlaps(site: Site) -> list[str]:
    """Return which pieces of work two jobs did at the same time, of all that SLURM remembers."""
    times, found = site.times(), []
    by_work: dict[str, list[tuple[str, str, int]]] = {}
    for job, (_, comment) in site.jobs().items():
        if job in times:
            by_work.setdefault(comment, []).append((*times[job], job))
    for comment, runs in by_work.items():
        runs.sort()
        found += [f"{comment}: jobs {a[2]} and {b[2]}" for a, b in pairwise(runs) if b[0] < a[1]]
    return found
