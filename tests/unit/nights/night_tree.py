"""Three acquisitions, the jobs that a dry run would plan for them, and their pace."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.nights.course import Course, Order
from cvdm_core.nights.driver import Job
from cvdm_core.records.nights import Night, read_nights
from cvdm_core.records.receipts import write_json
from cvdm_core.records.throughput import Pace, as_json, throughput_file
from cvdm_core.sheet import Acquisition

ORDER = Order(Path("profile"), [Path("config.yaml")])
STEPS = ("look", "plan", "run")
PACE = {"": {"some device": Pace(9, 10.0, 0.01)}}
MEASURED = dict.fromkeys(("ingest", "train", "sample", "stitch", "evaluate", "report"), PACE)


def row(name: str, **values: object) -> Acquisition:
    measured = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": 1024, "size_x": 1024, "dtype": "uint16", "pixel_size_um": 0.1}
    return Acquisition.model_validate(
        {"acquisition": name, "specimen": name, "split": "predict", "input": f"{name}.tif", **measured, **values}
    )


def all_jobs(name: str, blocks: int = 2) -> list[Job]:
    return [Job(rule, name, 1) for rule in ["ingest", *["sample"] * blocks, "finish"]]


def last(config: Config) -> Night:
    return read_nights(config.results, 1)[0]


def measured(config: Config) -> None:
    slow = {**MEASURED, "sample": {"": {"some device": Pace(9, 10.0, 1.0)}}}
    write_json(throughput_file(config.results), {"paces": as_json(slow), "read_until": 0.0, "jobs": []})


def finish(config: Config, *names: str) -> Callable[[Course], int]:
    """Return a run of the workflow that finishes acquisitions."""

    def drive(course: Course) -> int:
        for name in names:
            usage = {"seconds": 30.0, "peak_gpu_memory_mb": 900.0}
            started = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
            write_json(paths.block_receipt(config, name, 0), {"usage": usage, "started": started})
            write_json(paths.report_receipt(config, name), {"stage": "report"})
        return 0

    return drive
