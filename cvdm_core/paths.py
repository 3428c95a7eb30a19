"""Where every file of the workflow lies, as functions of the configuration.

All paths are relative to the working directory unless the configuration says otherwise. The Snakefile imports this module, so it
needs nothing but pathlib.
"""

from __future__ import annotations

from pathlib import Path

from cvdm_core.config import Config


def acquisition_folder(config: Config, acquisition: str) -> Path:
    """Folder of everything that is made of one acquisition."""
    return Path(config.results) / acquisition


def raw_store(config: Config, acquisition: str) -> Path:
    """OME-Zarr of the input."""
    return acquisition_folder(config, acquisition) / "raw.ome.zarr"


def target_store(config: Config, acquisition: str) -> Path:
    """OME-Zarr of the truth; exists where the sheet names a target."""
    return acquisition_folder(config, acquisition) / "target.ome.zarr"


def ingest_receipt(config: Config, acquisition: str) -> Path:
    """Receipt of `raw_store` and `target_store`."""
    return acquisition_folder(config, acquisition) / "ingest.json"


def arrival(config: Config, acquisition: str) -> Path:
    """Note that other files than those that were ingested before were registered, and when; an input of their ingest."""
    return acquisition_folder(config, acquisition) / "arrival.json"


def model_folder(config: Config) -> Path:
    """Folder of the trained model."""
    return Path(config.models) / config.model.name


def train_receipt(config: Config) -> Path:
    """Receipt of the trained model."""
    return model_folder(config) / "train.json"


def restored_folder(config: Config, acquisition: str) -> Path:
    """Folder of everything that the configured model made of one acquisition."""
    return acquisition_folder(config, acquisition) / config.model.name


def restored_store(config: Config, acquisition: str) -> Path:
    """OME-Zarr of the restored image."""
    return restored_folder(config, acquisition) / "restored.ome.zarr"


def block_receipt(config: Config, acquisition: str, block: int) -> Path:
    """Receipt of one restored block."""
    return restored_folder(config, acquisition) / "blocks" / f"{block:04d}.json"


def stitch_receipt(config: Config, acquisition: str) -> Path:
    """Receipt of `restored_store`."""
    return restored_folder(config, acquisition) / "stitch.json"


def evaluate_receipt(config: Config, acquisition: str) -> Path:
    """Receipt of the metrics."""
    return restored_folder(config, acquisition) / "evaluate.json"


def report_receipt(config: Config, acquisition: str) -> Path:
    """Receipt of `report_page`."""
    return restored_folder(config, acquisition) / "report.json"


def report_page(config: Config, acquisition: str) -> Path:
    """Page of one acquisition."""
    return restored_folder(config, acquisition) / "report.html"


def index_page(config: Config) -> Path:
    """Page over all acquisitions."""
    return Path(config.results) / "index.html"


def receipts_of(results: Path, models: Path, stage: str, subject: str, part: str = "") -> list[Path]:
    """Receipts that a stage has left of a subject, by whatever model; `part` is the number of a block, as its file is called."""
    if stage == "train":
        return list(models.glob(f"{subject}/train.json"))
    below = {"ingest": "ingest.json", "sample": f"*/blocks/{part}.json"}.get(stage, f"*/{stage}.json")
    return list(results.glob(f"{subject}/{below}"))
